"""Hostile clients over HTTP/JSON: what `attacks.py` is for gRPC. An outcome is an HTTP status, or how it ended."""

import functools
import gzip
import json
import random
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from attacks import PATIENT_SECONDS, Attack, Target

from ensemble.headers import SECRET_HEADER

DEPTH = 100_000
CHUNKED_BYTES = 3_600_000
BOMB_BYTES = 1 << 30
PIECE = 1 << 20
SMALL_WINDOW = 4096  # bytes that a slow reader takes at a time


def connect(address: str, window: int = 0) -> socket.socket:
    """A connection to `host:port` of this machine.

    Args:
        window: bytes of the buffer that receives; 0 for the system's default.
    """
    host, _, port = address.rpartition(":")
    made = socket.socket()
    if window:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    made.settimeout(PATIENT_SECONDS)
    made.connect((host, int(port)))
    return made


def head(target: Target, model: str, *lines: str) -> bytes:
    """The head of a request to infer, with the secret where the attacker has it."""
    secret = [f"{SECRET_HEADER}: {target.secret}"] if target.secret else []
    first = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*first, *secret, *lines, "", ""]).encode()


def exchange(target: Target, pieces: Iterable[bytes]) -> str:
    """Sends pieces on a connection of its own until the server answers or hangs up."""
    try:
        with connect(target.http) as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it was refused before all of it was sent; the answer may have come before
            return _status(connection.recv(4096))
    except TimeoutError:
        return "no answer"
    except ConnectionRefusedError:
        time.sleep(0.05)
        return "refused connection"
    except OSError:
        return "closed"


def _status(answer: bytes) -> str:
    words = answer.split(b" ", 2)
    return words[1].decode(errors="replace")[:3] if len(words) > 2 and answer.startswith(b"HTTP/") else "closed"


def post(target: Target, model: str, body: bytes, *lines: str) -> str:
    """Sends one body whole."""
    return exchange(target, [head(target, model, f"Content-Length: {len(body)}", *lines), body])


def good_body(pairs: int = 1) -> dict[str, Any]:
    """A request that `score` answers."""
    return {
        "inputs": [
            {"name": name, "datatype": "INT64", "shape": [pairs], "data": [1] * pairs}
            for name in ("user_id", "movie_id")
        ]
    }


# -- one hostile request each ------------------------------------------------------------------------------------------


def deep_json(target: Target, _: random.Random) -> str:
    """JSON nested a hundred thousand deep: as the whole body, and as a tensor's values."""
    deep = "[" * DEPTH + "]" * DEPTH
    whole = json.dumps(good_body()).replace("[1]}]", f"{deep}}}]")
    return post(target, "score", _.choice([deep, whole, '{"a":' * DEPTH + "1" + "}" * DEPTH]).encode())


def one_byte_chunks(target: Target, _: random.Random) -> str:
    """A body of 3.6 MB, one byte a chunk."""
    body = json.dumps(good_body()).encode().ljust(CHUNKED_BYTES)

    def pieces() -> Iterator[bytes]:
        yield head(target, "score", "Transfer-Encoding: chunked")
        for start in range(0, len(body), PIECE // 8):
            yield b"".join(b"1\r\n%c\r\n" % byte for byte in body[start : start + PIECE // 8])
        yield b"0\r\n\r\n"

    return exchange(target, pieces())


@functools.cache
def bomb(kind: str) -> bytes:
    """A gigabyte of spaces, compressed to about a megabyte, as `gzip` or as `deflate` (zlib's format)."""
    squeeze, piece = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS), b" " * PIECE
    block = squeeze.compress(piece) + squeeze.flush(zlib.Z_FULL_FLUSH)  # needs nothing of what is before it
    count = BOMB_BYTES // PIECE
    body = block * count + b"\3\0"
    if kind == "deflate":
        total = functools.reduce(lambda before, _: zlib.adler32(piece, before), range(count), 1)
        return b"\x78\x9c" + body + total.to_bytes(4, "big")
    total = functools.reduce(lambda before, _: zlib.crc32(piece, before), range(count), 0)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + body + struct.pack("<II", total, BOMB_BYTES % 2**32)


def gzip_bomb(target: Target, rng: random.Random) -> str:
    """A gigabyte, compressed."""
    kind = rng.choice(("gzip", "deflate"))
    return post(target, "score", bomb(kind), f"Content-Encoding: {kind}")


def overflow_shapes(target: Target, rng: random.Random) -> str:
    """Shapes whose number of bytes overflows, with few or no values."""
    shape = rng.choice(
        [[2**61], [2**62, 2], [2**32, 2**32], [-1], [0], [2**31], [2**63], [2**64], [1e30], ["1"], None, 1]
    )
    data = rng.choice([[], [1], None])
    model, name = rng.choice([("score", "user_id"), ("recommend", "user_id"), ("similar", "movie_id")])
    tensor = {"name": name, "datatype": "INT64", "shape": shape, "data": data}
    others = [{**tensor, "name": "movie_id"}] if model == "score" else []
    return post(target, model, json.dumps({"inputs": [tensor, *others]}).encode())


def binary_sizes(target: Target, rng: random.Random) -> str:
    """Tensors as bytes after the JSON, whose sizes do not fit what is there."""
    size = rng.choice([8, 0, -1, 2**31, 2**61, 2**63])
    tensors = [
        {"name": name, "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": size}}
        for name in ("user_id", "movie_id")
    ]
    text = json.dumps({"inputs": tensors}).encode()
    length = rng.choice([len(text), len(text) * 2, 0, -1, 2**63])
    return post(target, "score", text + b"12345678", f"Inference-Header-Content-Length: {length}")


def nonsense(target: Target, rng: random.Random) -> str:
    """Bodies that are not what the protocol says."""
    body: dict[str, Any] = good_body()
    wrong = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe\x00",
        b'{"inputs": 1}',
        b'{"inputs": [1]}',
        b'{"inputs": [{}]}',
        json.dumps({**body, "id": "x" * 1_000_000}).encode(),
        json.dumps({**body, "parameters": {"sequence_id": 1, "timeout": -1}}).encode(),
        json.dumps({**body, "outputs": [{"name": "stars"}] * 1000}).encode(),
        json.dumps(body).replace("[1]}", "[1e400]}").encode(),
        json.dumps(body).replace("[1]}", "[NaN]}").encode(),
        json.dumps(body).replace("[1]}", f"[{'9' * 100_000}]}}").encode(),
        json.dumps(body).replace("[1]}", '["1"]}').encode(),
        json.dumps(body).replace("INT64", "BYTES").encode(),
        json.dumps(body).replace("INT64", "FP32").encode(),
        json.dumps({"inputs": body["inputs"] * 10_000}).encode(),
        gzip.compress(json.dumps(body).encode())[:-10],
    ]
    one = rng.choice(wrong)
    lines = ["Content-Encoding: gzip"] if one[:2] == b"\x1f\x8b" else []
    return post(target, "score", one, *lines)


def wrong_heads(target: Target, rng: random.Random) -> str:
    """Heads that are too long, contradict themselves or are no HTTP."""
    body = json.dumps(good_body()).encode()
    wrong = [
        head(target, "score", "X: " + "x" * 1_000_000) + body,
        head(target, "score", *[f"X{number}: 1" for number in range(20_000)]) + body,
        head(target, "score", "Content-Length: -1") + body,
        head(target, "score", f"Content-Length: {2**63}") + body,
        head(target, "score", f"Content-Length: {len(body)}", "Transfer-Encoding: chunked") + body,
        head(target, "score", "Transfer-Encoding: chunked") + b"ffffffffffffffff\r\n" + body,
        head(target, "x" * 100_000, "Content-Length: 0"),
        head(target, "..%2f..%2fscore", "Content-Length: 0"),
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        rng.randbytes(10_000) + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(1000),
    ]
    return exchange(target, [rng.choice(wrong)])


def _repeated(ask: Callable[[Target, random.Random], str]) -> Attack:
    """An attack that makes such a request again and again."""

    @functools.wraps(ask)
    def attack(target: Target, seconds: float, seed: int) -> Counter[str]:
        rng, outcomes, until = random.Random(seed), Counter[str](), time.monotonic() + seconds
        while time.monotonic() < until:
            outcomes[ask(target, rng)] += 1
        return outcomes

    return attack


HTTP: dict[str, Attack] = {
    "deep JSON": _repeated(deep_json),
    "one-byte chunks": _repeated(one_byte_chunks),
    "gzip bomb": _repeated(gzip_bomb),
    "overflow shapes": _repeated(overflow_shapes),
    "binary sizes": _repeated(binary_sizes),
    "nonsense": _repeated(nonsense),
    "wrong heads": _repeated(wrong_heads),
}
