from __future__ import annotations

import errno
import socket

import pytest

from tunsmith.aio.address import Addresses, check_port, os_error, pack, socket_address, unpack

BOTH = Addresses(["10.7.0.2/24", "192.168.1.1/16", "fd07::2/64", "fd08::1"])


@pytest.mark.parametrize(
    ("destination", "source"),
    [
        ("10.7.0.9", "10.7.0.2"),
        ("192.168.200.1", "192.168.1.1"),
        ("203.0.113.1", "10.7.0.2"),
        ("fd07::9", "fd07::2"),
        ("fd08::1", "fd08::1"),
        ("2001:db8::1", "fd07::2"),
    ],
)
def test_the_source_is_of_the_destinations_network_or_the_first_of_its_kind(
    destination: str, source: str
) -> None:
    assert unpack(BOTH.source_for(pack(destination))) == source


def test_no_source_of_that_kind() -> None:
    with pytest.raises(OSError, match="IPv6") as raised:
        Addresses(["10.7.0.2"]).source_for(pack("::1"))
    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_hosts_to_listen_at() -> None:
    assert [unpack(each) for each in BOTH.listening(["fd08::1", "0.0.0.0"])] == [
        "fd08::1", "10.7.0.2", "192.168.1.1",
    ]  # fmt: skip
    assert len(BOTH.listening(None)) == 4
    with pytest.raises(OSError, match="no address of this stack"):
        BOTH.listening("10.7.0.3")


def test_addresses_look_as_sockets_show_them() -> None:
    assert socket_address(pack("10.7.0.2"), 80) == ("10.7.0.2", 80)
    assert socket_address(pack("FD07:0::2"), 80) == ("fd07::2", 80, 0, 0)
    for host in ("", "name", "10.7.0", "10.7.0.2/24", "[::1]"):
        with pytest.raises(socket.gaierror):
            pack(host)
    for port in (-1, 65536):
        with pytest.raises(OverflowError):
            check_port(port)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ECONNREFUSED, ConnectionRefusedError),
        (errno.ECONNRESET, ConnectionResetError),
        (errno.ECONNABORTED, ConnectionAbortedError),
        (errno.EPIPE, BrokenPipeError),
        (errno.ETIMEDOUT, TimeoutError),
        (errno.EHOSTUNREACH, OSError),
    ],
)
def test_errors_are_of_the_usual_kind(code: int, kind: type[OSError]) -> None:
    error = os_error(code, "why")
    assert type(error) is kind
    assert error.errno == code
    assert "why" in str(error)
