"""KServe v2 over HTTP as its clients use it: the real server, Triton's own client, and plain sockets."""

import gzip
import json
import ssl
import time
import zlib
from datetime import datetime, timedelta, timezone
from http.client import HTTPConnection, HTTPSConnection

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

INFER = "/v2/models/echo/infer"
GOOD = json.dumps({"inputs": [{"name": "x", "datatype": "INT64", "shape": [2], "data": [1, 2]}]})


@pytest.fixture
def client(echo):
    with InferenceServerClient(f"{echo.host}:{echo.port}", concurrency=2) as client:
        yield client


def error(answer) -> str:
    _, headers, body = answer
    assert headers["Content-Type"].startswith("application/json")
    assert set(json.loads(body)) == {"error"}
    sentence = json.loads(body)["error"]
    assert "Traceback" not in sentence
    assert "<html" not in sentence
    return sentence


def tensors(values: dict[str, np.ndarray], datatypes: dict[str, str], binary: bool) -> list[InferInput]:
    inputs = []
    for name, array in values.items():
        one = InferInput(name, list(array.shape), datatypes[name])
        one.set_data_from_numpy(array, binary_data=binary)
        inputs.append(one)
    return inputs


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritons_client_gets_what_it_sent(client, binary_in, binary_out, compression):
    values = {
        "fp32": np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32),
        "bool": np.array([True, False]),
        "int64": np.array([-(2**63), 0, 2**63 - 1]),
        "int32": np.zeros((0, 2), np.int32),
        "bytes": np.array([["Amélie", ""], ["七人の侍", '"{[']], np.object_),
    }
    datatypes = {"fp32": "FP32", "bool": "BOOL", "int64": "INT64", "int32": "INT32", "bytes": "BYTES"}
    outputs = None if binary_out is None else [InferRequestedOutput(name, binary_data=binary_out) for name in values]
    answer = client.infer(
        "echo",
        tensors(values, datatypes, binary_in),
        outputs=outputs,
        request_id="7",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert answer.get_response()["id"] == "7"
    for name, sent in values.items():
        got = answer.as_numpy(name)
        if name == "bytes":
            got = np.vectorize(lambda one: one.decode() if isinstance(one, bytes) else one, otypes=[object])(got)
        assert got.shape == sent.shape
        assert got.tolist() == sent.tolist()


def test_tritons_clients_other_questions(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert not client.is_model_ready("echo", "2")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata() == {"name": "door", "version": "1.0", "extensions": ["binary_tensor_data"]}
    metadata = client.get_model_metadata("echo", "3")
    assert metadata["versions"] == ["3"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "INT64", "shape": [-1, 2**40]}]
    config = client.get_model_config("echo")
    assert config["input"][0]["data_type"] == "TYPE_INT64"
    assert config["max_batch_size"] == 8
    assert config["parameters"] == {"marquee.rows": {"string_value": "x"}}
    assert client.get_inference_statistics()["model_stats"][0]["name"] == "all"
    assert client.get_inference_statistics("echo", "3")["model_stats"][0]["inference_count"] == 2**60


def test_what_tritons_client_cannot_have_is_an_error_in_words(client):
    calls = [
        client.get_model_repository_index,
        lambda: client.load_model("echo"),
        lambda: client.register_system_shared_memory("a", "/a", 8),
        client.get_trace_settings,
        client.get_log_settings,
    ]
    for call in calls:
        with pytest.raises(InferenceServerException, match=r"not found|not allowed"):
            call()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics", 404),
        ("POST", "/v2/models/echo/generate", 404),
        ("POST", "/v2/models/echo/generate_stream", 404),
        ("POST", "/v2/repository/models/echo/unload", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("GET", INFER, 405),
        ("PUT", INFER, 405),
        ("DELETE", "/v2/models/echo", 405),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/%ff/infer", 404),
        ("POST", "/v2/models/..%2f..%2fetc/infer", 404),
        ("POST", "/v2/models/<b>/infer", 404),
    ],
)
def test_what_is_not_there(echo, method, path, status):
    answer = echo.ask(method, path, GOOD)
    assert answer[0] == status
    assert error(answer)
    assert (answer[1]["Allow"] is not None) == (status == 405)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("UNAUTHENTICATED", 401),
        ("NOT_FOUND", 404),
        ("RESOURCE_EXHAUSTED", 429),
        ("INTERNAL", 500),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
    ],
)
def test_a_refusals_status(echo, code, status):
    answer = echo.ask("POST", f"/v2/models/{code}/versions/1/infer", GOOD)
    assert answer[0] == status
    assert error(answer) == f"refused with {code}"
    assert (answer[1]["Retry-After"] is not None) == (status in {429, 503})


def test_a_fault_of_the_door_is_an_error_without_its_traceback(echo):
    answer = echo.ask("POST", "/v2/models/fails/infer", GOOD)
    assert answer[0] == 500
    assert "as asked" not in error(answer)


@pytest.mark.parametrize("content_type", ["", "text/html", "multipart/form-data; boundary=x", "application/json; x"])
def test_the_content_type_changes_nothing(echo, content_type):
    assert echo.ask("POST", INFER, GOOD, {"Content-Type": content_type})[0] == 200
    assert echo.ask("POST", INFER, "--x\r\n\r\n1\r\n--x--", {"Content-Type": content_type})[0] == 400


def test_patience_and_asker_reach_the_door(echo):
    echo.echo(1)
    assert echo.seen()["seconds"] == 30
    assert echo.seen()["asker"] == "client"
    asked = json.loads(GOOD) | {"parameters": {"timeout": 1_500_000}}
    assert echo.ask("POST", INFER, json.dumps(asked), {"marquee-canary": "1"})[0] == 200
    assert echo.seen()["seconds"] == 1.5
    assert echo.seen()["asker"] == "canary"


def test_refusals_before_the_door_are_counted(serve):
    server = serve(secret="open sesame")
    for body, headers in [(GOOD, {}), ("{", {"marquee-secret": "open sesame", "marquee-canary": "1"})]:
        server.ask("POST", INFER, body, headers)
    assert server.seen()["refusals"][-2:] == ["echo secret client", "echo bytes canary"]


@pytest.mark.parametrize(
    "headers",
    [
        {"marquee-secret": "open sesame"},
        {"Authorization": "Bearer open sesame"},
        {"authorization": "bearer open sesame"},
        {"marquee-secret": "wrong", "Authorization": "Bearer open sesame"},
    ],
)
def test_the_secret_opens(serve, headers):
    server = serve(secret="open sesame")
    assert server.ask("POST", INFER, GOOD, headers)[0] == 200
    assert server.ask("GET", "/v2", headers=headers)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"marquee-secret": ""},
        {"marquee-secret": "open sesam"},
        {"marquee-secret": "open sesame2"},
        {"Authorization": "open sesame"},
        {"Authorization": "Basic open sesame"},
        {"marquee-secret": b"\xff\xfe"},
    ],
)
def test_nothing_but_health_opens_without_it(serve, headers):
    server = serve(secret="open sesame")
    for method, path in [
        ("POST", INFER),
        ("GET", "/v2"),
        ("GET", "/v2/models/echo"),
        ("GET", "/v2/models/echo/ready"),
        ("GET", "/v2/models/stats"),
        ("GET", "/nothing"),
        ("POST", "/v2/health/live/"),
    ]:
        answer = server.ask(method, path, GOOD if method == "POST" else None, headers)
        assert answer[0] == 401
        assert answer[1]["WWW-Authenticate"] == "Bearer"
        assert "secret" in error(answer)
    assert server.ask("GET", "/v2/health/live", headers=headers)[0] == 200
    assert server.ask("GET", "/v2/health/ready", headers=headers)[0] == 200


def test_metrics_want_the_secret_too(serve, echo):
    for server, headers, status in [
        (serve(secret="open sesame"), {}, 401),
        (serve(secret="open sesame"), {"Authorization": "Bearer open sesame"}, 200),
        (echo, {}, 200),
    ]:
        connection = HTTPConnection(server.host, server.metrics_port, timeout=60)
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        assert response.status == status
        text = response.read()
        connection.close()
        if status == 200:
            assert response.headers["Content-Type"].startswith("text/plain")
            assert b"marquee_questions_total 3.0" in text


def test_metrics_of_several_processes_are_added_up(tmp_path):
    """In prometheus_client's multiprocess mode, which is chosen by the environment before its import."""
    import subprocess
    import sys

    count = "import prometheus_client as p; p.Counter('marquee_answers', 'Of this test.').inc(2)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}, check=True)
    import asyncio

    from ensemble.front_door.http_server import serve_http
    from ensemble.front_door.http_service import metrics_application

    async def read() -> bytes:
        runner, port = await serve_http(metrics_application("", tmp_path, None, lambda *_: None), "127.0.0.1", 0)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            text = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            return text
        finally:
            await runner.cleanup()

    assert b"marquee_answers_total 4.0" in asyncio.run(read())


def test_a_connection_is_kept_also_after_errors(echo):
    connection = HTTPConnection(echo.host, echo.port, timeout=60)
    connection.connect()
    first = connection.sock
    for path, body, status in [(INFER, GOOD, 200), (INFER, "{", 400), ("/v2/no", GOOD, 404), (INFER, GOOD, 200)]:
        connection.request("POST", path, body)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is first
    connection.request("HEAD", "/v2/health/ready")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    assert connection.sock is first
    connection.close()


def heads(answers: bytes) -> list[int]:
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def received(sock) -> bytes:
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_pipelined_requests_are_answered_in_order(echo):
    requests = [post(INFER, GOOD.encode()), post(INFER, b"{"), post("/v2/no", b""), post(INFER, GOOD.encode())]
    requests.append(post(INFER, GOOD.encode(), "Connection: close"))
    with echo.raw() as sock:
        sock.sendall(b"".join(requests))
        assert heads(received(sock)) == [200, 400, 404, 200, 200]


def test_expect_100_continue_is_answered_when_the_body_is_wanted(serve):
    server = serve(secret="open sesame")
    head = post(INFER, GOOD.encode(), "Expect: 100-continue", "Connection: close", "marquee-secret: open sesame")
    head = head.removesuffix(GOOD.encode())
    with server.raw() as sock:
        sock.sendall(head)
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(GOOD.encode())
        assert heads(received(sock)) == [200]
    for wrong in [
        head.replace(b"open sesame", b"wrong"),
        head.replace(b"Content-Length: ", b"Content-Length: 9999999"),
        head.replace(b"Connection", b"Content-Encoding: br\r\nConnection"),
    ]:
        with server.raw() as sock:
            sock.sendall(wrong)
            assert heads(sock.recv(4096))[0] >= 400, "and not 100: the client need not send what is refused"


def test_a_client_that_goes_ends_its_wait(echo):
    before = echo.seen()
    with echo.raw() as sock:
        sock.sendall(post("/v2/models/wait/infer", GOOD.encode()))
        wait_until(lambda: echo.seen()["waiting"] == before["waiting"] + 1)
    wait_until(lambda: echo.seen()["cancelled"] == before["cancelled"] + 1)
    assert echo.echo(5) == 5


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def certificate(folder) -> list[str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(made.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return [str(folder / "certificate.pem"), str(folder / "key.pem")]


def test_tls_on_ipv6(serve, tmp_path):
    files = certificate(tmp_path)
    server = serve(host="::1", certificate=files)
    context = ssl.create_default_context(cafile=files[0])
    context.check_hostname = False
    for port, path in [(server.port, "/v2/health/live"), (server.metrics_port, "/metrics")]:
        connection = HTTPSConnection("::1", port, context=context, timeout=60)
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()
    with server.raw() as sock:  # no TLS: it gets nothing
        sock.sendall(post(INFER, GOOD.encode()))
        assert b"200" not in received(sock)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("DEFLATE", zlib.compress)])
def test_compressed_bodies(echo, encoding, compress):
    packed = compress(GOOD.encode())
    headers = {"Content-Encoding": encoding}
    assert echo.ask("POST", INFER, packed, headers)[0] == 200
    for wrong, said in [
        (packed[:-3], "ends before"),
        (packed + b"x", "more bytes after"),
        (packed + packed, "more bytes after"),
        (GOOD.encode(), "not valid"),
        (b"", "ends before"),
    ]:
        answer = echo.ask("POST", INFER, wrong, headers)
        assert answer[0] == 400
        assert said in error(answer)
    for other in ("br", "zstd", "compress", "gzip, gzip", "gzip;q=1"):
        answer = echo.ask("POST", INFER, packed, {"Content-Encoding": other})
        assert answer[0] == 415
        assert "gzip or deflate" in error(answer)
