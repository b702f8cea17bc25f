"""What broken and hostile clients send over HTTP is refused in words, cheaply, while a good request beside is answered.

How long the server's event loop works at a time is measured inside it, in processor time.
"""

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

INFER = "/v2/models/echo/infer"
GOOD = json.dumps({"inputs": [{"name": "x", "datatype": "INT64", "shape": [2], "data": [1, 2]}]}).encode()
MIB = 2**20
LONGEST_STOP = 0.1  # seconds of the event loop's own processor time; measured: at most 0.006
MORE_MEMORY = 64  # MiB above the start


def head(*headers: str, path: str = INFER) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def answer(sock: socket.socket) -> tuple[int, str]:
    """The status and the sentence of one error, whether or not the connection stays."""
    text = b""
    while not (found := re.match(rb"HTTP/1.[01] (\d+) .*?\r\n\r\n(\{.*\})", text, re.DOTALL)):
        piece = sock.recv(65536)
        assert piece, text
        text += piece
    return int(found[1]), json.loads(found[2])["error"]


def send(echo, request: bytes) -> tuple[int, str]:
    """An error's status and sentence for a request of which the server may not want to read all."""
    with echo.raw() as sock:
        sender = threading.Thread(target=send_all, args=(sock, request), daemon=True)
        sender.start()
        try:
            return answer(sock)
        finally:
            with contextlib.suppress(OSError):  # the server closed before
                sock.shutdown(socket.SHUT_RDWR)
            sender.join(60)


def send_all(sock: socket.socket, request: bytes) -> None:
    with contextlib.suppress(OSError):  # the server closed
        sock.sendall(request)


def plain_post(body: bytes, *headers: str) -> bytes:
    return head(f"Content-Length: {len(body)}", *headers) + body


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def of_shape(shape: list[int], size: int | None = None) -> bytes:
    asked = {"name": "x", "datatype": "INT64", "shape": shape}
    asked |= {"data": []} if size is None else {"parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [asked]}).encode()


def bomb(wbits: int) -> bytes:
    """A gibibyte of zeros, compressed: after a full flush each part of it is the same."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, wbits)
    first, again = (squeeze.compress(bytes(16 * MIB)) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * 63 + squeeze.flush()


ATTACKS = {
    "deep JSON": (lambda: plain_post(b"[" * 100_000), 400, "nested too deep"),
    "deep data": (lambda: plain_post(of_shape([1])[:-4] + b"[" * 100_000), 400, "nested too deep"),
    "lists": (lambda: plain_post(b"[" + b"[]," * (2 * MIB) + b"[]]"), 400, "more than 600,000 lists"),
    "digits": (lambda: plain_post(b"9" * (8 * MIB)), 400, "not valid JSON"),
    "shape 2^31": (lambda: plain_post(of_shape([2**31])), 400, "tensor 'x'"),
    "shape 2^61": (lambda: plain_post(of_shape([2**61])), 400, "tensor 'x'"),
    "shape 2^64": (lambda: plain_post(of_shape([2**32, 2**32])), 400, "tensor 'x'"),
    "binary shape 2^61": (
        lambda: plain_post(of_shape([2**61], 0), f"Inference-Header-Content-Length: {len(of_shape([2**61], 0))}"),
        400,
        "tensor 'x'",
    ),
    "gzip bomb": (lambda: plain_post(bomb(31), "Content-Encoding: gzip"), 413, "8,388,608 bytes"),
    "deflate bomb": (lambda: plain_post(bomb(15), "Content-Encoding: deflate"), 413, "8,388,608 bytes"),
    "chunked gzip bomb": (
        lambda: head("Transfer-Encoding: chunked", "Content-Encoding: gzip") + chunked(bomb(31), 1000),
        413,
        "8,388,608 bytes",
    ),
    "one-byte chunks": (
        lambda: head("Transfer-Encoding: chunked") + chunked(b" " * 3_600_000, 1),
        413,
        "too many small pieces",
    ),
    "one-byte chunks of gzip": (
        lambda: (
            head("Transfer-Encoding: chunked", "Content-Encoding: gzip")
            + chunked(gzip.compress(bytes(range(256)) * 9999, 0), 1)
        ),
        413,
        "too many small pieces",
    ),
    "large, announced": (lambda: plain_post(bytes(8 * MIB + 1)), 413, "8,388,608 bytes"),
    "large, in chunks": (
        lambda: head("Transfer-Encoding: chunked") + chunked(bytes(64 * MIB), 65536),
        413,
        "8,388,608 bytes",
    ),
    "announced 2^62": (lambda: head(f"Content-Length: {2**62}") + bytes(1000), 413, "8,388,608 bytes"),
    "announced 2^80": (lambda: head(f"Content-Length: {2**80}") + bytes(1000), 400, "not a valid HTTP request"),
    "announced twice": (lambda: head("Content-Length: 3", "Content-Length: 4") + b"{}  ", 400, "not a valid HTTP"),
    "both lengths": (
        lambda: head("Content-Length: 3", "Transfer-Encoding: chunked") + chunked(GOOD, 5),
        400,
        "not a valid HTTP",
    ),
    "negative length": (lambda: head("Content-Length: -1") + GOOD, 400, "not a valid HTTP request"),
    "no chunk": (lambda: head("Transfer-Encoding: chunked") + b"x\r\n", 400, "not a valid HTTP request"),
    "no HTTP": (lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400, "not a valid HTTP request"),
    "long path": (lambda: head(path="/" + "a" * 100_000), 400, "not a valid HTTP request"),
    "long header": (lambda: head("a: " + "b" * 100_000), 400, "not a valid HTTP request"),
    "many headers": (lambda: head(*(f"a{place}: b" for place in range(10_000))), 400, "not a valid HTTP request"),
    "JSON longer than the body": (
        lambda: plain_post(GOOD, "Inference-Header-Content-Length: 99999"),
        400,
        "the JSON must have 1 to",
    ),
    "JSON of no length": (lambda: plain_post(GOOD, "Inference-Header-Content-Length: 0"), 400, "the JSON must have"),
    "JSON of a long length": (
        lambda: plain_post(GOOD, f"Inference-Header-Content-Length: {'9' * 5000}"),
        400,
        "must be a number of bytes",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_beside_good_requests(echo, name):
    make, status, said = ATTACKS[name]
    request = make()
    before = echo.memory()
    echo.seen()  # the longest stop is counted from here
    with ThreadPoolExecutor(2) as pool:
        attacks = [pool.submit(send, echo, request) for _ in range(2)]
        assert [echo.echo(number) for number in range(10)] == list(range(10))
        for attack in attacks:
            found, sentence = attack.result(timeout=120)
            assert said in sentence
            assert found == status
    assert echo.echo(11) == 11
    assert echo.seen()["longest_stop"] < LONGEST_STOP
    assert echo.memory() < before + MORE_MEMORY


@pytest.mark.parametrize("binary", [False, True])
def test_a_large_request_is_answered_with_small_ones_beside_it(echo, binary):
    rng = np.random.default_rng(3)
    sent = {name: rng.integers(0, 300_000, 262_144) for name in ("user_id", "movie_id")}
    inputs = []
    for name, values in sent.items():
        one = InferInput(name, list(values.shape), "INT64")
        one.set_data_from_numpy(values, binary_data=binary)
        inputs.append(one)
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in sent]
    address = f"{echo.host}:{echo.port}"
    with ThreadPoolExecutor(1) as pool, InferenceServerClient(address, network_timeout=120) as client:
        large = pool.submit(client.infer, "echo", inputs, outputs=outputs)
        answered = 0
        while not large.done() or answered < 3:
            assert echo.echo(answered) == answered
            answered += 1
    for name, values in sent.items():
        assert np.array_equal(large.result().as_numpy(name), values)


def test_two_bodies_are_two_requests(echo):
    with echo.raw() as sock:
        sock.sendall(plain_post(GOOD + GOOD))
        assert answer(sock) == (
            400,
            f"the body is not valid JSON: trailing characters at line 1 column {len(GOOD) + 1}",
        )
    with echo.raw() as sock:  # what follows the announced length is the next request, and no HTTP
        sock.sendall(head(f"Content-Length: {len(GOOD)}") + GOOD)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        sock.sendall(GOOD)
        assert answer(sock)[0] == 400


def test_a_body_that_stops_being_chunks_is_refused(serve):
    server = serve(seconds=1)
    with server.raw() as sock:
        sock.sendall(head("Transfer-Encoding: chunked", "Expect: 100-continue"))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"5\r\n{    \r\nno chunk\r\n")
        assert answer(sock)[0] in {400, 408}  # aiohttp does not tell who waits for the rest
    assert server.echo(2) == 2


@pytest.mark.parametrize("headers", [["Content-Length: 1000"], ["Transfer-Encoding: chunked"]])
def test_a_body_that_ends_early_does_no_harm(echo, headers):
    with echo.raw() as sock:
        sock.sendall(head(*headers) + GOOD[:10])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ended by a reset
    assert echo.echo(3) == 3


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_body_has_to_arrive_in_time(serve, framing):
    server = serve(seconds=1)
    with server.raw() as sock:
        sock.sendall(head(framing) + (b"5\r\n{    \r\n" if "chunked" in framing else b"{"))
        assert answer(sock) == (408, "the body did not arrive within 1 seconds")
    assert server.echo(4) == 4


def test_slow_bodies_take_no_place_from_ordinary_requests(serve):
    server = serve(large=2)
    with ExitStack() as stack:
        for _ in range(100):
            sock = stack.enter_context(server.raw())
            sock.sendall(head("Content-Length: 60000") + b"{")
        for _ in range(2):
            sock = stack.enter_context(server.raw())
            sock.sendall(head("Transfer-Encoding: chunked") + chunked(bytes(70_000), 35_000)[:-5])
        assert server.echo(5) == 5
        large = b"{" + bytes(70_000)
        # The places are taken once the server has read the bodies above.
        while (found := send(server, plain_post(large)))[0] != 429:
            assert found[0] == 400
        assert found[1] == "2 large requests are being answered already; try again"
        assert server.echo(6) == 6
    while (found := send(server, plain_post(large)))[0] != 400:  # they are free when their clients are gone
        assert found[0] == 429


@pytest.mark.slow
def test_an_answer_has_to_be_taken_in_time(serve):
    server = serve(seconds=3, large=1)
    values = np.zeros(980_000, np.int64)  # 7.5 MiB: more than the system holds for both ends
    text = of_shape([values.size], values.nbytes).replace(b"}]", b'}], "parameters": {"binary_data_output": true}')
    request = plain_post(text + values.tobytes(), f"Inference-Header-Content-Length: {len(text)}")
    large = plain_post(b"{" + bytes(70_000))
    with socket.socket() as sock:
        sock.settimeout(60)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((server.host, server.port))
        sock.sendall(request)
        assert sock.recv(4) == b"HTTP"
        assert send(server, large)[0] == 429  # the answer's place is taken until the client is given up
        assert server.echo(8) == 8
        while (found := send(server, large))[0] != 400:
            assert found[0] == 429
        with contextlib.suppress(ConnectionError):
            while sock.recv(2**20):
                pass


def test_connections_are_bounded(serve):
    server = serve(seconds=20)
    with ExitStack() as stack:
        idle = [stack.enter_context(server.raw()) for _ in range(512)]
        with server.raw() as sock:
            status, sentence = answer(sock)
        assert (status, sentence) == (503, "this server has 512 connections already; try again")
        idle[0].sendall(plain_post(GOOD, "Connection: close"))
        assert idle[0].recv(65536).startswith(b"HTTP/1.1 200")
        assert idle[0].recv(1) == b""
        while True:
            try:
                assert server.echo(7) == 7
                break
            except (AssertionError, OSError):
                pass
