"""Hostile connections: opened and dropped, half a request, HTTP/2 garbage, and readers that do not read."""

import contextlib
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable

import attacks
import attacks_http
from attacks import Attack, Target
from attacks_http import SMALL_WINDOW, connect, head

from ensemble.headers import GRPC_PREFIX, SECRET_HEADER
from ensemble.triton_models.limits import LARGEST_BATCH

IDLE = 300  # connections
HELD_SECONDS = 3.0
PAIRS_IN_A_WINDOW = 3000  # whose bytes a server takes before it has said how many it takes
FLOOD = 1000  # frames
PAUSE = 0.05  # seconds between two connections that send as much as they can: what is meant is not to fill the machine
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8
INFER = "/inference.GRPCInferenceService/ModelInfer"


# -- HTTP/2 by hand (RFC 9113; headers as in RFC 7541, 6.2.2, neither compressed nor indexed) --------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _length(size: int) -> bytes:
    """A length as an integer with a prefix of seven bits (RFC 7541, 5.1).

    >>> _length(10), _length(1337)
    (b'\\n', b'\\x7f\\xba\\t')
    """
    if size < 127:
        return bytes([size])
    size, coded = size - 127, [127]
    while size >= 128:
        coded.append(size % 128 + 128)
        size //= 128
    return bytes([*coded, size])


def header_block(target: Target) -> bytes:
    """The headers of a call to infer."""
    headers = {":method": "POST", ":scheme": "http", ":path": INFER, ":authority": "localhost", "te": "trailers"}
    headers["content-type"] = "application/grpc"
    if target.secret:
        headers[GRPC_PREFIX + SECRET_HEADER] = target.secret
    return b"".join(
        b"\0" + _length(len(name)) + name.encode() + _length(len(value)) + value.encode()
        for name, value in headers.items()
    )


def call_frames(target: Target, stream: int, message: bytes) -> bytes:
    """A whole call: headers, and the message in frames of the size that every server takes."""
    body = b"\0" + struct.pack(">I", len(message)) + message
    parts = [body[start : start + 16_384] for start in range(0, len(body), 16_384)]
    frames = [frame(HEADERS, END_HEADERS, stream, header_block(target))]
    frames += [frame(DATA, END_STREAM if part is parts[-1] else 0, stream, part) for part in parts]
    return b"".join(frames)


def greeting(window: int = 65_535) -> bytes:
    """How a client begins, and how many bytes of an answer it takes."""
    return PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))


# -- one hostile connection each ---------------------------------------------------------------------------------------


def drop(connection: socket.socket) -> None:
    """Closes with a reset, as a client that is killed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def dropped(target: Target, rng: random.Random) -> None:
    """Connections that end in the middle of a request, or before its answer is there."""
    whole = greeting() + call_frames(target, 1, rng.choice(attacks.ordinary()).SerializeToString())
    with connect(target.grpc) as connection:
        connection.sendall(whole[: rng.randint(0, len(whole))])
        time.sleep(rng.uniform(0, 0.004))
        drop(connection)
    if target.http:
        body = json.dumps(attacks_http.good_body()).encode()
        whole = head(target, "score", f"Content-Length: {len(body)}") + body
        with connect(target.http) as connection:
            connection.sendall(whole[: rng.randint(0, len(whole))])
            time.sleep(rng.uniform(0, 0.004))
            drop(connection)


def reset_streams(target: Target, rng: random.Random) -> None:
    """Calls on one connection, each cancelled at once."""
    message = attacks.ordinary()[0].SerializeToString()
    with connect(target.grpc) as connection:
        connection.sendall(greeting())
        for stream in range(1, 400, 2):
            reset = frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
            connection.sendall(call_frames(target, stream, message) + reset)
        drop(connection)
    time.sleep(PAUSE)


def garbage(target: Target, rng: random.Random) -> None:
    """Frames that are wrong, and floods of frames that are allowed."""
    block = header_block(target)
    wrong = [
        rng.randbytes(5000),
        PREFACE + rng.randbytes(5000),
        greeting() + frame(HEADERS, END_HEADERS, 1, rng.randbytes(500)),
        greeting() + frame(HEADERS, END_HEADERS, 0, block),
        greeting() + frame(HEADERS, 0, 1, block) + frame(CONTINUATION, 0, 1, b"\0\1a\1b" * 3000) * 10,
        greeting() + frame(SETTINGS, 0, 0, b"") * FLOOD,
        greeting() + frame(PING, 0, 0, b"12345678") * FLOOD,
        greeting() + frame(DATA, 0, 7, b"x" * 100),
        greeting() + b"\xff\xff\xff" + bytes([DATA, 0, 0, 0, 0, 1]) + b"x" * 100_000,
        greeting() + call_frames(target, 1, b"\xff" * 1000),  # not a message of the protocol
        greeting() + frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, b"\0\xff\xff\xff\xffabc"),
        greeting() + frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, b"\1\0\0\0\3abc"),
    ]
    with connect(target.grpc) as connection:
        connection.sendall(rng.choice(wrong))
        connection.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            connection.recv(4096)
    time.sleep(PAUSE)


def half_requests(target: Target, rng: random.Random) -> None:
    """Heads of which a line comes now and then, and requests whose end never comes."""
    with contextlib.ExitStack() as stack:
        held = []
        for number in range(40):
            connection = stack.enter_context(connect(target.http if target.http and number % 2 else target.grpc))
            whole = head(target, "score", "Content-Length: 100") if number % 2 else greeting()
            held.append((connection, whole))
        for step in range(10):
            for connection, whole in held:
                with contextlib.suppress(OSError):
                    connection.sendall(whole[step * 4 : step * 4 + 4])
            time.sleep(HELD_SECONDS / 10)


def idle(target: Target, rng: random.Random) -> None:
    """Some hundred connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for number in range(IDLE):
            stack.enter_context(connect(target.http if target.http and number % 2 else target.grpc))
        time.sleep(HELD_SECONDS)


def slow_readers(target: Target, rng: random.Random) -> None:
    """Clients that ask for much and take none of the answer: over gRPC with a window of zero bytes."""
    message = attacks.request("score", attacks.pairs(PAIRS_IN_A_WINDOW)).SerializeToString()
    body = json.dumps(attacks_http.good_body(LARGEST_BATCH // 8)).encode()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(connect(target.grpc, SMALL_WINDOW))
            connection.sendall(greeting(window=0))
            connection.sendall(call_frames(target, 1, message))
            if target.http:
                reader = stack.enter_context(connect(target.http, SMALL_WINDOW))
                reader.sendall(head(target, "score", f"Content-Length: {len(body)}") + body)
        time.sleep(HELD_SECONDS)


def _repeated(hold: Callable[[Target, random.Random], None]) -> Attack:
    def attack(target: Target, seconds: float, seed: int) -> Counter[str]:
        rng, outcomes, until = random.Random(seed), Counter[str](), time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                hold(target, rng)
                outcomes["done"] += 1
            except ConnectionRefusedError:
                outcomes["refused connection"] += 1
                time.sleep(0.05)
            except OSError:
                outcomes["closed"] += 1
        return outcomes

    return attack


RAW: dict[str, Attack] = {
    "dropped connections": _repeated(dropped),
    "reset streams": _repeated(reset_streams),
    "HTTP/2 garbage": _repeated(garbage),
    "half requests": _repeated(half_requests),
    "idle connections": _repeated(idle),
    "slow readers": _repeated(slow_readers),
}
