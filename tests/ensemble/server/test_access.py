"""TLS and secrets, on the real Triton."""

import datetime
import ipaddress
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tritonclient.utils import InferenceServerException

from core.errors import UserError
from ensemble import client
from ensemble.client import Access, NoServerError
from ensemble.server.access import ServerAccess
from ensemble.server.ports import Ports, free_port
from ensemble.server.process import running
from ensemble.server.supervisor import supervised
from tests.names import HANG_SECONDS


class Authority:
    """Makes certificates, for a test."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._write(name, self.key, self.name, x509.BasicConstraints(True, None))[0]

    def issue(self, name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
        """The files of a certificate and its key."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        extension = x509.SubjectAlternativeName(names) if names else x509.BasicConstraints(False, None)
        return self._write(name, ec.generate_private_key(ec.SECP256R1()), subject, extension)

    def _write(self, name, key, subject, extension) -> tuple[Path, Path]:
        now = datetime.datetime.now(datetime.timezone.utc)
        made = x509.CertificateBuilder(
            self.name, subject, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(hours=1),
            now + datetime.timedelta(days=1),
        ).add_extension(extension, critical=False).sign(self.key, hashes.SHA256())  # fmt: skip
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "authority")


@pytest.fixture(scope="module")
def server_files(authority) -> tuple[Path, Path]:
    return authority.issue(
        "server", x509.DNSName("triton.example.org"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    )


@pytest.fixture(scope="module")
def guarded(exported, authority, server_files, tmp_path_factory):
    """A server with mutual TLS and a secret."""
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    access = ServerAccess("a=b:c,d", *server_files, authority.certificate)
    with supervised(exported.repository, log, Ports(free_port()), access, report=lambda _: None) as guarded:
        yield guarded


@pytest.mark.slow
def test_a_client_with_certificate_and_secret_is_answered(guarded, asked, authority):
    ca, certificate, key = authority.certificate, *authority.issue("client")
    for access in (
        Access("a=b:c,d", ca, certificate=certificate, key=key),
        Access("a=b:c,d", ca, certificate=certificate, key=key, server_name="triton.example.org"),
    ):
        np.testing.assert_allclose(asked.scores(guarded.ports.url, access), asked.expected(), atol=1e-5)
    guarded.step()
    assert guarded.events == []


@pytest.mark.slow
def test_any_other_client_is_refused_in_one_line(guarded, asked, authority, tmp_path):
    ca, certificate, key = authority.certificate, *authority.issue("another-client")
    other = Authority(tmp_path, "other")
    stranger = other.issue("stranger")
    url = guarded.ports.url
    for access, error, words in (
        (Access("", ca, certificate=certificate, key=key), UserError, "was started with a secret"),
        (Access("wrong", ca, certificate=certificate, key=key), UserError, "a different secret"),
        (Access("a=b:c,d", other.certificate, certificate=certificate, key=key), NoServerError, "not issued by"),
        (
            Access("a=b:c,d", ca, certificate=certificate, key=key, server_name="elsewhere.org"),
            NoServerError,
            "under that name",
        ),
        (Access("a=b:c,d", ca), NoServerError, "certificate"),
        (Access("a=b:c,d", ca, certificate=stranger[0], key=stranger[1]), NoServerError, "certificate"),
        (Access("a=b:c,d"), NoServerError, "TLS"),
    ):
        for ask in (asked.scores, lambda url, access: client.recommend(url, 1, access=access)):
            with pytest.raises(error, match=words) as refused:
                ask(url, access)
            assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_secret_is_not_in_the_command_line(guarded):
    assert guarded.server.hidden
    arguments = psutil.Process(guarded.server.process.pid).cmdline()
    assert any("marquee-secret=" in argument for argument in arguments)
    assert not any("a=b:c,d" in argument for argument in arguments)


@pytest.mark.slow
def test_no_client_controls_the_server(exported, tmp_path):
    ports = Ports(free_port(), free_port())
    with running(exported.repository, tmp_path / "triton.log", ports, ServerAccess("open sesame".replace(" ", "-"))):
        header = Access("open-sesame").headers
        with grpc.InferenceServerClient(ports.url) as triton:
            for forbidden in (
                lambda: triton.load_model("score", headers=header),
                lambda: triton.unload_model("score", headers=header),
                lambda: triton.get_model_repository_index(headers=header),
                lambda: triton.register_system_shared_memory("here", "/here", 8, headers=header),
                lambda: triton.update_trace_settings(settings={"trace_level": ["TENSORS"]}, headers=header),
                lambda: triton.update_log_settings({"log_verbose_level": 9}, headers=header),
            ):
                with pytest.raises(InferenceServerException, match="restricted"):
                    forbidden()
            assert triton.is_server_ready()  # without the secret, for load balancers

        def ask(path: str, body: bytes | None = None, **headers: str) -> int:
            request = urllib.request.Request(f"http://127.0.0.1:{ports.http}/v2/{path}", body, headers)
            try:
                with urllib.request.urlopen(request, timeout=HANG_SECONDS) as reply:
                    return int(reply.status)
            except urllib.error.HTTPError as error:
                return error.code

        for path in (
            "repository/index", "repository/models/score/load", "repository/models/score/unload",
            "systemsharedmemory/region/here/register", "trace/setting", "logging",
        ):  # fmt: skip
            assert ask(path, b"{}", **{"marquee-secret": "open-sesame"}) == 403
        question = (
            b'{"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [1]},'
            b' {"name": "movie_id", "datatype": "INT64", "shape": [1], "data": [10]}]}'
        )
        assert ask("models/score/infer", question) == 403
        assert ask("models/score/infer", question, **{"marquee-secret": "wrong"}) == 403
        assert ask("models/score/infer", question, **{"marquee-secret": "open-sesame"}) == 200
        assert ask("health/ready") == 200
        assert client.score(ports.url, [1], [10], access=Access("open-sesame"))[0].shape == (1,)


def test_a_secret_that_no_header_can_carry_is_refused():
    for secret in ("two words", "ümlaut", "line\n"):
        for refused in (Access(secret).connect, lambda _, secret=secret: ServerAccess(secret).own()):
            with pytest.raises(UserError, match="no space"):
                refused("127.0.0.1:1")


def test_certificates_that_cannot_be_used_are_refused_before_anything_starts(authority, server_files, tmp_path):
    certificate, key = server_files
    nameless, other = authority.issue("nameless"), authority.issue("other", x509.DNSName("other.org"))
    stranger = Authority(tmp_path, "stranger").certificate
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    for access, words in (
        (ServerAccess("", certificate), "needs its key"),
        (ServerAccess("", None, key), "needs its key"),
        (ServerAccess("", None, None, stranger), "only with TLS"),
        (ServerAccess("", tmp_path / "none.pem", key), "cannot read .*none.pem"),
        (ServerAccess("", text, key), "not a certificate and its key"),
        (ServerAccess("", certificate, other[1]), "key values mismatch"),
        (ServerAccess("", certificate, key, text), "does not hold a certificate"),
        (ServerAccess("", *nameless), "no subjectAltName"),
        (ServerAccess("", certificate, key, stranger), "cannot be used"),
    ):
        with pytest.raises(UserError, match=words) as refused:
            access.own()
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="HTTP has no TLS"):
        ServerAccess("", certificate, key).flags(http=True)


def test_a_certificate_for_any_name_or_for_an_address_is_asked_by_one(authority):
    for name, expected in (
        (x509.DNSName("*.example.org"), "any.example.org"),
        (x509.IPAddress(ipaddress.ip_address("10.0.0.1")), "10.0.0.1"),
    ):
        own = ServerAccess("", *authority.issue("named", name)).own()
        assert own.server_name == expected
        assert own.certificate is None


def test_a_client_with_half_of_its_files_is_refused(authority, tmp_path):
    ca, certificate, key = authority.certificate, *authority.issue("halved")
    for access, words in (
        (Access("", ca, certificate=certificate), "needs its key"),
        (Access("", None, certificate=certificate, key=key), "root certificate too"),
        (Access("", tmp_path / "none.pem"), "cannot read .*none.pem"),
    ):
        with pytest.raises(UserError, match=words):
            client.score("127.0.0.1:1", [1], [10], access=access)


@pytest.mark.slow
def test_a_server_without_tls_is_recognised(supervisor, asked, authority):
    with pytest.raises(NoServerError, match="does not speak TLS"):
        asked.scores(supervisor.ports.url, Access("", authority.certificate))
