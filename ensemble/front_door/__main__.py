"""A worker of the front door: `python -m ensemble.front_door`.

The first line of its standard input is its settings; each later one is a note of the supervisor. Once it listens it
prints `ready {"grpc": PORT, "http": PORT, "metrics": PORT}`, and then, every ten seconds, `holds BYTES`: its memory
beside what is under way. It ends when its input does, or by SIGTERM, after it has answered what is under way.
"""

import asyncio
import json
import os
import signal
import sys
from typing import Any

from core.errors import UserError
from core.json_files import validated
from ensemble.front_door.settings import FrontDoorSettings

LONGEST_NOTE = 1 << 16


async def serve(settings: FrontDoorSettings) -> None:
    """Serves until the standard input ends."""
    from ensemble.front_door.listeners import Listeners

    listeners = Listeners(settings, lambda held: print("holds", held, flush=True))
    try:
        ports = await listeners.start()
        print("ready", json.dumps(ports), flush=True)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        notes = asyncio.ensure_future(_take_notes(listeners, ended))
        await ended.wait()
        notes.cancel()
    finally:
        await listeners.stop()


async def _take_notes(listeners: Any, ended: asyncio.Event) -> None:
    reader = asyncio.StreamReader(LONGEST_NOTE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while True:
        try:
            line = await reader.readline()
            if not line:
                return ended.set()
            listeners.note(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:  # also a line that is too long, which is dropped
            print("error: a note was not understood:", _one_line(error), file=sys.stderr, flush=True)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor ends it
    try:
        settings = _settings(_first_line())
        if settings.metrics_folder:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = settings.metrics_folder  # read by the import of prometheus_client
        asyncio.run(serve(settings))
    except (UserError, OSError, RuntimeError, ValueError) as error:
        print("error:", _one_line(error), file=sys.stderr)
        return 2
    return 0


def _settings(line: bytes) -> FrontDoorSettings:
    try:
        found = json.loads(line)
    except ValueError:
        raise UserError("the front door's settings are not JSON in one line of its standard input") from None
    return validated(FrontDoorSettings, found, "the front door's settings")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _first_line() -> bytes:
    """The first line, and nothing after it: the rest is read by the event loop."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            break
        line += byte
    return line


if __name__ == "__main__":
    sys.exit(main())
