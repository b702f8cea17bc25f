"""How the HTTP server ends, and how it shares a port."""

import asyncio
import json

import pytest

from ensemble.front_door.http_server import serve_http, stop_http
from ensemble.front_door.http_service import HttpSettings, application
from tests.ensemble.front_door.conftest import HANG_SECONDS
from tests.ensemble.front_door.echo_door import EchoDoor

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [1]}]})
REQUEST = f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode()


class SlowDoor(EchoDoor):
    """Answers when it is let."""

    def __init__(self):
        super().__init__()
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def infer(self, request, seconds, asker, *, protocol):
        self.asked.set()
        await self.let.wait()
        return await super().infer(request, seconds, asker, protocol=protocol)


async def listening(door, **others):
    return await serve_http(application(door, HttpSettings(), lambda *_: None), "127.0.0.1", 0, **others)


def test_the_end_answers_what_is_under_way_and_no_more():
    async def end():
        door = SlowDoor()
        runner, port = await listening(door)
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await door.asked.wait()
        ending = asyncio.create_task(runner.cleanup())
        assert await idle_reader.read() == b"", "a connection without a request is closed at once"
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        door.let.set()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]["data"] == [1]
        await ending
        for one in (writer, idle_writer):
            one.close()

    asyncio.run(asyncio.wait_for(end(), HANG_SECONDS))


def test_kept_connections_are_closed_after_their_next_answer():
    async def end():
        runner, port = await listening(EchoDoor())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> bytes:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            return head

        assert b"connection: close" not in (await ask()).lower()
        ending = asyncio.create_task(stop_http(runner))
        while runner.sites:
            await asyncio.sleep(0)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        head = await ask()
        assert head.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in head.lower()
        assert await reader.read() == b""
        await ending
        writer.close()

    asyncio.run(asyncio.wait_for(end(), HANG_SECONDS))


def test_processes_share_a_port_only_when_asked_to():
    async def share():
        first, port = await listening(EchoDoor(), reuse_port=True)
        service = application(EchoDoor(), HttpSettings(), lambda *_: None)
        second, same = await serve_http(service, "127.0.0.1", port, reuse_port=True)
        assert same == port
        with pytest.raises(OSError):
            await serve_http(application(EchoDoor(), HttpSettings(), lambda *_: None), "127.0.0.1", port)
        for runner in (first, second):
            await runner.cleanup()

    asyncio.run(asyncio.wait_for(share(), HANG_SECONDS))
