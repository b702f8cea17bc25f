"""A worker of the front door: `python -m ensemble.front_door`.

The first line of its standard input is its settings; each later one is a note of the supervisor. Once it listens it
prints `ready {"grpc": PORT, "http": PORT, "metrics": PORT}`. It ends when its input does, or by SIGTERM, after it has
answered what is under way.
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

GRACE = 5.0  # seconds for what is under way at the end
LONGEST_NOTE = 1 << 16


async def serve(settings: FrontDoorSettings) -> None:
    """Serves until the standard input ends."""
    from ensemble.front_door.listeners import Listeners

    listeners = Listeners(settings)
    try:
        ports = await listeners.start()
        print("ready", json.dumps(ports), flush=True)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        notes = asyncio.ensure_future(_take_notes(listeners, ended))
        await ended.wait()
        notes.cancel()
    finally:
        await listeners.stop(GRACE)


async def _take_notes(listeners: Any, ended: asyncio.Event) -> None:
    reader = asyncio.StreamReader(LONGEST_NOTE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        listeners.note(json.loads(line))
    ended.set()


def main() -> int:
    settings = validated(FrontDoorSettings, json.loads(_first_line()), "the front door's settings")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor ends it
    if settings.metrics_folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = settings.metrics_folder  # read when prometheus_client is imported
    try:
        asyncio.run(serve(settings))
    except (UserError, OSError, RuntimeError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


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
