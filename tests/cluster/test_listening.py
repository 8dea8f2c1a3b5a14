"""Which addresses are of this machine only, and which port is free."""

from __future__ import annotations

import socket

import pytest

from cluster.errors import ClusterError
from cluster.listening import address_of, free_port, in_address, is_everywhere, is_loopback

FIRST = 18_500


@pytest.mark.parametrize(
    ("host", "address", "loopback", "everywhere"),
    [
        ("127.0.0.1", "127.0.0.1", True, False),
        ("localhost", "127.0.0.1", True, False),
        ("127.1.2.3", "127.1.2.3", True, False),
        ("::1", "::1", True, False),
        ("0.0.0.0", "0.0.0.0", False, True),
        ("::", "::", False, True),
        ("192.168.1.5", "192.168.1.5", False, False),
    ],
)
def test_addresses(host: str, address: str, loopback: bool, everywhere: bool) -> None:
    assert address_of(host) == address
    assert is_loopback(address) == loopback
    assert is_everywhere(address) == everywhere


@pytest.mark.parametrize("name", ["", "1", "example.org", "127.0.0.1.example.org", "127.0.0.1:80", "127.1", "[::1]"])
def test_what_is_no_address(name: str) -> None:
    assert address_of(name) is None


def test_in_an_address() -> None:
    assert [in_address(host) for host in ("10.0.0.5", "::1")] == ["10.0.0.5", "[::1]"]


def test_a_port_that_is_taken_is_refused_and_a_free_one_given() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=f"port {port} is in use"):
            free_port("127.0.0.1", port, FIRST)
    assert free_port("127.0.0.1", port, FIRST) == port


@pytest.mark.parametrize("wrong", [0, -1, 65536])
def test_what_is_no_port(wrong: int) -> None:
    with pytest.raises(ClusterError, match="between 1 and 65535"):
        free_port("127.0.0.1", wrong, FIRST)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ClusterError, match=r"--host 192\.0\.2\.1 is no address of this machine"):
        free_port("192.0.2.1", None, FIRST)


def test_the_next_free_port_is_taken() -> None:
    first = free_port("127.0.0.1", None, FIRST)
    assert first >= FIRST
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert free_port("127.0.0.1", None, FIRST) > first
