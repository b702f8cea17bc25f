"""Ports are checked before anything starts, on IPv4 and IPv6."""

import socket

import pytest

from core.errors import UserError
from ensemble.server.ports import Ports, free_port, is_free, private_port
from ensemble.server.waiting import wait_for_an_end


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "127.0.0.1:8001"),
        ("0.0.0.0", "127.0.0.1:8001"),
        ("::1", "[::1]:8001"),
        ("::", "[::1]:8001"),
        ("localhost", "localhost:8001"),
    ],
)
def test_urls_are_what_grpc_takes(host, url):
    assert Ports(8001, host=host).url == url


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_taken_port_is_found(family, host):
    with socket.socket(family) as taken:
        try:
            taken.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} here")
        taken.listen()
        port = taken.getsockname()[1]
        for ports in (Ports(port, host=host), Ports(0, http=port, host=host), Ports(0, metrics=port, host=host)):
            with pytest.raises(UserError, match=f"port {port} of {host} cannot be used"):
                ports.check()
    Ports(port, host=host).check()


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        (Ports(-1), "-1 is not a port"),
        (Ports(70_000), "70000 is not a port"),
        (Ports(18_001, 18_001), "must differ"),
        (Ports(18_001, 18_002, 18_001), "must differ"),
        (Ports(0, host="192.0.2.1"), "no address 192.0.2.1"),
        (Ports(0, host="no such host"), "not an address"),
        (Ports(0, host="2001:db8::1"), "2001:db8::1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(ports, words):
    with pytest.raises(UserError, match=words) as refused:
        ports.check()
    assert "\n" not in str(refused.value)


def test_a_private_port_is_free_and_not_one_of_outgoing_connections():
    port = private_port()
    assert is_free(port)
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        assert port < int(file.read().split()[0])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not is_free(port)
    assert is_free(free_port())


def test_the_end_of_a_process_is_noticed_at_once():
    import subprocess
    import time

    began = time.monotonic()
    with subprocess.Popen(["sleep", "0.2"]) as process:
        wait_for_an_end([process.pid], 600.0)
    assert time.monotonic() - began < 300
    wait_for_an_end([process.pid], 0.01)  # it was reaped
    wait_for_an_end([], 0.01)
    wait_for_an_end([], -1.0)
