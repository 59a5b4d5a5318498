from __future__ import annotations

import errno
import socket
from ipaddress import ip_interface

import pytest

from tunsmith.aio.address import Addresses, check_port, os_error, pack, socket_address, unpack

BOTH = Addresses(
    map(ip_interface, ["10.7.0.2/24", "192.168.1.1/16", "fd07::2/64", "fd08::1"]),
    lambda _: None,
    lambda: None,
)


def test_the_source_is_what_the_routes_say() -> None:
    asked: list[bytes] = []

    def source(destination: bytes) -> bytes:
        asked.append(destination)
        return pack("10.7.0.2")

    ours = Addresses([ip_interface("10.7.0.2/24")], source, lambda: None)
    assert unpack(ours.source_for(pack("10.7.0.9"))) == "10.7.0.2"
    assert asked == [pack("10.7.0.9")]


def test_no_way_and_no_address_are_two_errors() -> None:
    ours = Addresses([ip_interface("10.7.0.2/24")], lambda _: None, lambda: None)
    for destination, code in (("10.8.0.1", errno.ENETUNREACH), ("::1", errno.EADDRNOTAVAIL)):
        with pytest.raises(OSError, match=destination) as raised:
            ours.source_for(pack(destination))
        assert raised.value.errno == code


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
    assert pack("::ffff:10.7.0.2") == pack("10.7.0.2")
    for host in ("", "name", "10.7.0", "10.7.0.2/24", "[::1]", None, 167968770, b"10.7"):
        with pytest.raises(socket.gaierror):
            pack(host)  # type: ignore[arg-type]
    for port in (-1, 65536):
        with pytest.raises(OverflowError):
            check_port(port)


def test_ports_are_numbers_digits_or_services_as_getaddrinfo_takes_them() -> None:
    assert [check_port(port) for port in (80, "80", "http", None)] == [80, 80, 80, 0]
    with pytest.raises(socket.gaierror, match="no service is called 'nonesuch'") as raised:
        check_port("nonesuch")
    assert raised.value.errno == socket.EAI_SERVICE
    for port in (80.0, b"80"):
        with pytest.raises(TypeError, match="a port is a number"):
            check_port(port)  # type: ignore[arg-type]


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
