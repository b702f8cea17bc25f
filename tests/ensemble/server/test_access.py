"""TLS and secrets, on the real Triton."""

import ipaddress
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc
from cryptography import x509
from tritonclient.utils import InferenceServerException

from core.errors import UserError
from ensemble import client
from ensemble.client import Access, NoServerError
from ensemble.server.access import ServerAccess
from ensemble.server.ports import Ports, free_port
from ensemble.server.supervisor import supervised
from tests.ensemble.server.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "authority")


@pytest.fixture(scope="module")
def server_files(authority) -> tuple[Path, Path]:
    return authority.issue(
        "server", x509.DNSName("triton.example.org"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    )


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Authority:
    """The authority of the clients' certificates, which is not the one of the server's."""
    return Authority(tmp_path_factory.mktemp("clients"), "clients")


@pytest.fixture(scope="module")
def guarded(exported, clients, server_files, tmp_path_factory):
    """A server with mutual TLS and a secret."""
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    access = ServerAccess("a=b:c,d", *server_files, clients.certificate)
    with supervised(exported.repository, log, Ports(free_port()), access, report=lambda _: None) as guarded:
        yield guarded


@pytest.mark.slow
def test_a_client_with_certificate_and_secret_is_answered(guarded, asked, authority, clients):
    ca, certificate, key = authority.certificate, *clients.issue("client")
    for access in (
        Access("a=b:c,d", ca, certificate=certificate, key=key),
        Access("a=b:c,d", ca, certificate=certificate, key=key, server_name="triton.example.org"),
    ):
        np.testing.assert_allclose(asked.scores(guarded.ports.url, access), asked.expected(), atol=1e-5)
    guarded.step()
    assert guarded.events == []


@pytest.mark.slow
def test_any_other_client_is_refused_in_one_line(guarded, asked, authority, clients, tmp_path):
    ca, certificate, key = authority.certificate, *clients.issue("another-client")
    other = Authority(tmp_path, "other")
    stranger = other.issue("stranger")
    url = guarded.ports.url
    for access, error, words in (
        (Access("", ca, certificate=certificate, key=key), UserError, "asks for its secret"),
        (Access("wrong", ca, certificate=certificate, key=key), UserError, "asks for its secret"),
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
def test_tritons_own_secret_is_not_in_its_command_line(guarded):
    assert guarded.server.hidden
    arguments = psutil.Process(guarded.server.process.pid).cmdline()
    assert any("marquee-secret=" in argument for argument in arguments)
    assert not any(guarded.secret in argument for argument in arguments)
    assert not any("a=b:c,d" in argument for argument in arguments)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # also one that has just ended, of a test before
            assert not any(word in " ".join(process.cmdline()) for word in ("a=b:c,d", guarded.secret))


@pytest.mark.slow
def test_nobody_asks_triton_past_the_front_door(guarded, asked):
    triton = guarded.server.url
    for access in (Access(), Access("a=b:c,d")):
        with pytest.raises(UserError, match="secret"):
            asked.scores(triton, access)
    with grpc.InferenceServerClient(triton) as connection:
        for forbidden in (
            lambda: connection.load_model("score", headers=guarded.server.access.headers),
            lambda: connection.unload_model("score", headers=guarded.server.access.headers),
            lambda: connection.register_system_shared_memory("x", "/x", 8, headers=guarded.server.access.headers),
            lambda: connection.update_log_settings({"log_verbose_level": 9}, headers=guarded.server.access.headers),
        ):
            with pytest.raises(InferenceServerException, match="restricted"):
                forbidden()


@pytest.mark.slow
def test_no_client_controls_the_server(supervisor, asked):
    with grpc.InferenceServerClient(supervisor.ports.url) as triton:
        for forbidden in (
            lambda: triton.load_model("score"),
            lambda: triton.unload_model("score"),
            triton.get_model_repository_index,
            lambda: triton.register_system_shared_memory("here", "/here", 8),
            lambda: triton.update_trace_settings(settings={"trace_level": ["TENSORS"]}),
            lambda: triton.update_log_settings({"log_verbose_level": 9}),
        ):
            with pytest.raises(InferenceServerException, match="clients cannot use that"):
                forbidden()
        assert triton.is_server_ready()
    assert asked.is_right(supervisor.ports.url)


def test_a_secret_that_no_header_can_carry_is_refused():
    for secret in ("two words", "ümlaut", "line\n"):
        for refused in (Access(secret).connect, lambda _, secret=secret: ServerAccess(secret).check()):
            with pytest.raises(UserError, match="no space"):
                refused("127.0.0.1:1")


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
