"""`python -m ensemble.front_door` as a process."""

import datetime
import ipaddress
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tritonclient import grpc as triton_grpc
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from tests.ensemble.front_door.models import score_request
from tests.ensemble.front_door.workers import HANG_SECONDS, TritonInThread, Worker, inputs, score, start, worker

pytestmark = pytest.mark.slow  # each starts a process


@pytest.fixture
def triton() -> Iterator[TritonInThread]:
    found = TritonInThread()
    yield found
    found.close()


def right(users: list[int]) -> list[float]:
    return (np.array(users) / 1000).astype(np.float32).tolist()


def until(is_so) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_says_where_it_listens_answers_and_ends_with_its_input(triton):
    with worker(triton=triton.triton.url, triton_headers={"private": "s"}) as one:
        assert set(one.ports) == {"grpc"}
        assert score(one.url, [1, 2]) == right([1, 2])
        assert ("private", "s") in [tuple(pair) for pair in triton.triton.headers[-1]]
        assert one.end() == (0, "")


def test_it_moves_to_another_triton_and_survives_notes_that_are_none(triton):
    other = TritonInThread()
    other.triton.version = "2"
    try:
        with worker(triton=triton.triton.url, metrics=0) as one:
            assert score(one.url, [1]) == right([1])
            notes = [
                "",
                "garbage",
                "[]",
                "5",
                "null",
                "{}",
                '{"count": "nope"}',
                '{"count": "model_reloads"}',
                "[" * 50_000,
            ]
            notes += ['{"count": "note"}', '{"set": "triton_up"}', '{"set": "requests", "value": 1}', "x" * 300_000]
            notes += ['{"triton": "127.0.0.1:1", "http": "nonsense"}', '{"count": "triton_restarts", "other": 1}']
            for line in notes:
                one.note(line)
            one.note({"count": "triton_restarts"})
            one.note({"count": "model_reloads", "model": "scorer"})
            one.note({"set": "served_version", "value": 3})
            one.note({"triton": other.triton.url})
            until(lambda: score(one.url, [1]) == right([1]) and other.triton.asked)
            found = metrics(one)
            assert "marquee_triton_restarts_total 1.0" in found
            assert 'marquee_model_reloads_total{model="scorer"} 1.0' in found
            assert "marquee_served_version 3.0" in found
            code, errors = one.end()
            assert code == 0
            assert "Traceback" not in errors
            assert len(notes) <= len(errors.splitlines()) < 2 * len(notes)
    finally:
        other.close()


def metrics(one: Worker, secret: str = "") -> str:
    url = f"http://127.0.0.1:{one.ports['metrics']}/metrics"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"marquee-secret": secret})) as answer:
        return answer.read().decode()


def test_it_says_what_memory_it_holds(triton):
    with worker(triton=triton.triton.url) as one:
        held, bytes_held = one.process.stdout.readline().split()
        assert held == "holds"
        assert 5e6 < int(bytes_held) < psutil.Process(one.process.pid).memory_info().rss


@pytest.mark.parametrize("how", ["input", "SIGTERM"])
def test_at_its_end_it_answers_what_is_under_way_and_accepts_nothing_more(triton, how):
    with worker(triton=triton.triton.url) as one:
        score(one.url, [1])
        triton.hold()
        answers: list = []
        asking = threading.Thread(target=lambda: answers.append(score(one.url, [7])))
        asking.start()
        until(lambda: triton.triton.under_way == 1)
        if how == "input":
            one.process.stdin.close()
        else:
            one.process.send_signal(signal.SIGTERM)
        until(lambda: not accepts(one))
        assert one.process.poll() is None
        triton.let_go()
        asking.join(HANG_SECONDS)
        assert answers == [right([7])]
        assert one.process.wait(HANG_SECONDS) == 0
        assert one.process.stderr.read() == ""


def accepts(one: Worker) -> bool:
    try:
        score(one.url, [1], client_timeout=0.3)
    except InferenceServerException as error:
        return "DEADLINE" in str(error) or "Deadline" in str(error)
    return True


def test_it_does_not_wait_for_ever_at_its_end(triton):
    """It leaves what hangs, so that a supervisor need not kill it."""
    with worker(triton=triton.triton.url) as one:
        score(one.url, [1])
        triton.hold()

        def ask() -> None:
            with pytest.raises(InferenceServerException):
                score(one.url, [7])

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: triton.triton.under_way == 1)
        began = time.monotonic()
        code, errors = one.end()
        assert (code, errors) == (0, "")
        assert time.monotonic() - began < 30
        asking.join(HANG_SECONDS)


def test_sigint_is_the_supervisors(triton):
    with worker(triton=triton.triton.url) as one:
        for _ in range(3):
            one.process.send_signal(signal.SIGINT)
        assert score(one.url, [1]) == right([1])
        assert one.end() == (0, "")


def test_a_taken_port_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name in ("grpc", "http", "metrics"):
            one = start({"triton": "127.0.0.1:1", name: taken.getsockname()[1]})
            code, errors = one.end()
            assert code == 2
            assert len(errors.splitlines()) == 1, errors
            assert errors.startswith("error: ")
            assert str(taken.getsockname()[1]) in errors


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "garbage",
        "[]",
        "{}",
        "null",
        '{"triton": 5}',
        '{"triton": "x", "other": 1}',
        '{"triton": "127.0.0.1:1", "grpc": 65536}',
        '{"triton": "127.0.0.1:1", "limits": {"rows": 0}}',
        '{"triton": "127.0.0.1:1", "host": "no.such.host.invalid"}',
        '{"triton": "127.0.0.1:1", "host": "192.0.2.1"}',
        '{"triton": "127.0.0.1:1", "certificate": "/nowhere", "key": "/nowhere"}',
        '{"triton": "127.0.0.1:1", "certificate": "/dev/null", "key": "/dev/null"}',
        '{"triton": "127.0.0.1:1", "private": "/nowhere/socket"}',
        '{"triton": "127.0.0.1:1", "triton_http": "nonsense"}',
    ],
)
def test_bad_settings_are_one_line(settings):
    code, errors = start(settings).end()
    assert code == 2
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("error: ")


@pytest.mark.skipif(not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"), reason="no IPv6 here")
def test_ipv6(triton):
    with worker(triton=triton.triton.url, host="::1", http=0) as one:
        assert set(one.ports) == {"grpc", "http"}
        assert score(one.url, [1]) == right([1])


def test_workers_share_a_port(triton):
    with worker(triton=triton.triton.url, workers=2) as first:
        port = first.ports["grpc"]
        with worker(triton=triton.triton.url, workers=2, worker=1, grpc=port) as second:
            assert second.ports["grpc"] == port
            processes = [psutil.Process(one.process.pid) for one in (first, second)]

            def connected() -> list[int]:
                return [
                    sum(c.status == "ESTABLISHED" and c.laddr.port == port for c in p.net_connections())
                    for p in processes
                ]

            with_channels = []
            for place in range(24):  # each is a connection, which the system gives to either
                channel = grpc.insecure_channel(first.url, options=[("grpc.use_local_subchannel_pool", 1)])
                ask = channel.unary_unary(
                    "/inference.GRPCInferenceService/ModelInfer",
                    service_pb2.ModelInferRequest.SerializeToString,
                    service_pb2.ModelInferResponse.FromString,
                )
                assert len(ask(score_request([place])).outputs) == 2
                with_channels.append(channel)
            assert min(connected()) > 0
            assert sum(connected()) == 24
            for channel in with_channels:
                channel.close()


def test_the_private_socket_asks_for_its_own_secret_and_counts_as_canary(triton, tmp_path):
    path = tmp_path / "socket"
    with worker(
        triton=triton.triton.url, private=str(path), private_secret="inside", secret="outside", metrics=0
    ) as one:
        headers = {"marquee-secret": "inside"}
        assert score(f"unix:{path}", [1], headers=headers) == right([1])
        with pytest.raises(InferenceServerException, match="asks for its secret"):
            score(f"unix:{path}", [1], headers={"marquee-secret": "outside"})
        with pytest.raises(InferenceServerException, match="asks for its secret"):
            score(one.url, [1], headers=headers)
        assert score(one.url, [1], headers={"marquee-secret": "outside"}) == right([1])
        found = metrics(one, "outside")
        for asker in ("canary", "client"):
            labels = f'asker="{asker}",model="score",outcome="answered",protocol="grpc"'
            assert f"marquee_requests_total{{{labels}}} 1.0" in found
        assert one.end()[0] == 0


def test_the_private_socket_answers_beside_a_full_public_port(triton, tmp_path):
    path = tmp_path / "socket"
    with worker(triton=triton.triton.url, private=str(path), limits={"requests": 2}) as one:
        score(one.url, [1])
        triton.hold()
        channel = grpc.insecure_channel(one.url)
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", service_pb2.ModelInferRequest.SerializeToString
        )
        calls = [ask.future(score_request([1])) for _ in range(2)]
        until(lambda: triton.triton.under_way == 1)
        shed = ask.future(score_request([1]))
        assert shed.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        answers: list = []
        private = threading.Thread(target=lambda: answers.append(score(f"unix:{path}", [5])))
        private.start()
        time.sleep(0.2)
        triton.let_go()
        private.join(HANG_SECONDS)
        assert answers == [right([5])]
        assert [call.result(HANG_SECONDS) is not None for call in calls] == [True, True]
        channel.close()


# -- TLS ---------------------------------------------------------------------------------------------------------------


class Authority:
    """Makes certificates."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._write(name, self.key, self.name, x509.BasicConstraints(True, None))[0]

    def issue(self, name: str) -> tuple[Path, Path]:
        """The files of a certificate for 127.0.0.1, and of its key."""
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return self._write(name, ec.generate_private_key(ec.SECP256R1()), subject, names)

    def _write(self, name, key, subject, extension) -> tuple[Path, Path]:
        now = datetime.datetime.now(datetime.timezone.utc)
        made = (
            x509.CertificateBuilder(
                self.name, subject, key.public_key(), x509.random_serial_number(),
                now - datetime.timedelta(hours=1), now + datetime.timedelta(days=1),
            )
            .add_extension(extension, critical=False)
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


def tls(ca: Path, own: tuple[Path, Path] | None = None) -> dict:
    """Options of tritonclient."""
    certificate, key = map(str, own) if own else (None, None)
    return {
        "ssl": True,
        "root_certificates": str(ca),
        "private_key": key,
        "certificate_chain": certificate,
    }


def test_tls_and_a_renewed_certificate(triton, tmp_path):
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    certificate, key = first.issue("server")
    with worker(triton=triton.triton.url, certificate=str(certificate), key=str(key)) as one:
        assert score(one.url, [1], **tls(first.certificate)) == right([1])
        with pytest.raises(InferenceServerException):
            score(one.url, [1], **tls(second.certificate))
        with pytest.raises(InferenceServerException):
            score(one.url, [1])
        for new, old in zip(second.issue("renewed"), (certificate, key)):
            new.replace(old)
        assert score(one.url, [1], **tls(second.certificate)) == right([1])
        with pytest.raises(InferenceServerException):
            score(one.url, [1], **tls(first.certificate))
        for file in (certificate, key):  # it keeps what it has
            file.write_bytes(b"")
        assert score(one.url, [2], **tls(second.certificate)) == right([2])


def test_clients_show_a_certificate_where_their_authority_is_given(triton, tmp_path):
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    certificate, key = ours.issue("server")
    path = tmp_path / "socket"
    with worker(
        triton=triton.triton.url,
        certificate=str(certificate),
        key=str(key),
        client_ca=str(theirs.certificate),
        private=str(path),
        private_secret="inside",
    ) as one:
        assert score(one.url, [1], **tls(ours.certificate, theirs.issue("client"))) == right([1])
        for own in (None, ours.issue("other")):
            with pytest.raises(InferenceServerException):
                score(one.url, [1], **tls(ours.certificate, own))
        assert score(f"unix:{path}", [1], headers={"marquee-secret": "inside"}) == right([1])


def test_what_was_counted_outlives_the_process(triton, tmp_path):
    def answered(one: Worker) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{one.ports['metrics']}/metrics", timeout=HANG_SECONDS) as reply:
            found = re.search(r'^marquee_requests_total\{.*outcome="answered".*\} (.*)$', reply.read().decode(), re.M)
        assert found
        return float(found[1])

    settings = {"triton": triton.triton.url, "metrics": 0, "metrics_folder": str(tmp_path)}
    for times in (1, 2):
        with worker(**settings) as one, triton_grpc.InferenceServerClient(one.url) as client:
            client.infer("score", inputs([3]))
            assert answered(one) == times
