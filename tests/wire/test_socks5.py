"""RFC 1928 and RFC 1929 as bytes."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.wire import socks5
from tunsmith.wire.socks5 import Command, Method, Reply

ports = st.integers(0, 65535)
literals = st.ip_addresses().map(str)
names = st.from_regex(r"[a-z][a-z0-9.-]{0,254}", fullmatch=True)
hosts = literals | names
fields = st.binary(min_size=1, max_size=255)

PARSERS: list[Callable[[bytes], Any]] = [
    socks5.parse_address,
    socks5.parse_greeting,
    socks5.parse_choice,
    socks5.parse_credentials,
    socks5.parse_verdict,
    socks5.parse_request,
    socks5.parse_reply,
]


def assert_incremental(parse: Callable[[bytes], Any], message: bytes, value: object) -> None:
    """No proper prefix is enough, none is refused, and what follows is left alone."""
    for cut in range(len(message)):
        assert parse(message[:cut]) is None
    assert parse(message) == (value, len(message))
    assert parse(message + b"\x05\x00early") == (value, len(message))


def test_the_bytes_are_those_of_the_rfc() -> None:
    assert socks5.greeting(Method.NONE, Method.PASSWORD) == b"\x05\x02\x00\x02"
    assert socks5.credentials(b"me", b"secret") == b"\x01\x02me\x06secret"
    assert socks5.request(Command.CONNECT, "192.0.2.1", 80) == b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"
    assert socks5.request(Command.CONNECT, "a.test", 443) == b"\x05\x01\x00\x03\x06a.test\x01\xbb"
    assert (
        socks5.request(Command.UDP_ASSOCIATE, "::1", 0) == b"\x05\x03\x00\x04" + bytes(15) + b"\x01\x00\x00"
    )
    assert socks5.choice(Method.PASSWORD) == b"\x05\x02"
    assert socks5.datagram_header("192.0.2.1", 53) == b"\x00\x00\x00\x01\xc0\x00\x02\x01\x00\x35"


@given(hosts, ports, st.sampled_from(Command))
def test_request_survives_the_wire(host: str, port: int, command: Command) -> None:
    assert_incremental(socks5.parse_request, socks5.request(command, host, port), (command, (host, port)))


@given(hosts, ports)
def test_success_survives_the_wire(host: str, port: int) -> None:
    message = socks5.reply(Reply.SUCCEEDED, host, port)
    assert_incremental(socks5.parse_reply, message, (Reply.SUCCEEDED, (host, port)))


@pytest.mark.parametrize("code", range(1, 256))
def test_failure_is_told_from_two_bytes(code: int) -> None:
    """Some servers hang up without sending the address."""
    assert socks5.parse_reply(b"\x05") is None
    assert socks5.parse_reply(bytes((5, code))) == ((code, ("", 0)), 2)


@given(st.sets(st.sampled_from(Method)))
def test_greeting_survives_the_wire(methods: set[Method]) -> None:
    assert_incremental(socks5.parse_greeting, socks5.greeting(*methods), frozenset(methods))


@given(fields, fields | st.just(b""))
def test_credentials_survive_the_wire(user: bytes, password: bytes) -> None:
    assert_incremental(socks5.parse_credentials, socks5.credentials(user, password), (user, password))


@pytest.mark.parametrize(("user", "password"), [(b"", b"x"), (b"u" * 256, b"x"), (b"u", b"x" * 256)])
def test_credentials_that_do_not_fit_are_refused__rfc1929_2(user: bytes, password: bytes) -> None:
    with pytest.raises(WireError):
        socks5.credentials(user, password)


@pytest.mark.parametrize("accepted", [True, False])
def test_verdict_survives_the_wire(accepted: bool) -> None:
    assert_incremental(socks5.parse_verdict, socks5.verdict(accepted), accepted)


def test_verdict_with_the_version_of_socks_is_understood() -> None:
    assert socks5.parse_verdict(b"\x05\x00") == (True, 2)


@pytest.mark.parametrize("host", ["", "a" * 256, "bücher.example"])
def test_name_that_does_not_fit_is_refused(host: str) -> None:
    with pytest.raises(WireError):
        socks5.address(host, 1)


@pytest.mark.parametrize("kind", [0, 2, 5, 255])
def test_unknown_address_type_is_refused_at_once(kind: int) -> None:
    with pytest.raises(WireError) as caught:
        socks5.parse_request(bytes((5, 1, 0, kind)))
    assert caught.value.reason == "address type"


def test_name_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(WireError):
        socks5.parse_address(b"\x03\x02\xc3\xbc\x00\x50")


def test_empty_name_in_a_reply_is_let_through() -> None:
    assert socks5.parse_reply(b"\x05\x00\x00\x03\x00\x00\x50") == ((0, ("", 80)), 7)


@pytest.mark.parametrize("parse", PARSERS[1:])
def test_wrong_version_is_refused_at_the_first_byte(parse: Callable[[bytes], Any]) -> None:
    with pytest.raises(WireError) as caught:
        parse(b"H")
    assert caught.value.reason == "version"


@given(st.binary(max_size=600))
def test_any_bytes_are_parsed_or_refused_or_too_few(data: bytes) -> None:
    for parse in PARSERS:
        try:
            parsed = parse(data)
        except WireError:
            continue
        if parsed is None:
            assert len(data) < 513, "a parser must come to an end"
        else:
            assert 0 < parsed[1] <= len(data)


@given(hosts, ports, st.binary(max_size=64))
def test_datagram_header_survives_the_wire(host: str, port: int, payload: bytes) -> None:
    header = socks5.datagram_header(host, port)
    assert socks5.datagram_header_size(header + payload) == len(header)
    assert socks5.parse_datagram_header(header) == (host, port)
    for cut in range(len(header)):
        with pytest.raises(WireError):
            socks5.datagram_header_size(header[:cut])


@given(literals, ports)
def test_datagram_overhead_is_10_and_22(host: str, port: int) -> None:
    """The RFC's text says 20 for IPv6, its own layout 22."""
    assert len(socks5.datagram_header(host, port)) == (10 if ip_address(host).version == 4 else 22)


@given(st.integers(1, 255), hosts)
def test_fragment_is_refused__rfc1928_7(number: int, host: str) -> None:
    header = bytearray(socks5.datagram_header(host, 1))
    header[2] = number
    with pytest.raises(WireError) as caught:
        socks5.datagram_header_size(bytes(header))
    assert caught.value.reason == "fragment"


@given(st.binary(max_size=300))
def test_any_datagram_is_parsed_or_refused(data: bytes) -> None:
    try:
        size = socks5.datagram_header_size(data)
        host, port = socks5.parse_datagram_header(data[:size])
    except WireError:
        return
    assert size <= len(data)
    assert len(host) <= 255
    assert 0 <= port <= 65535


@pytest.mark.parametrize("kind", [0, 2, 5, 255])
def test_datagram_of_an_unknown_address_type_is_refused(kind: int) -> None:
    with pytest.raises(WireError) as caught:
        socks5.datagram_header_size(bytes((0, 0, 0, kind)) + bytes(300))
    assert caught.value.reason == "address type"


def test_datagram_header_that_is_cut_is_short() -> None:
    for header in (socks5.datagram_header("192.0.2.1", 53), socks5.datagram_header("a.test", 53)):
        for cut in range(3, len(header)):
            with pytest.raises(WireError) as caught:
                socks5.parse_datagram_header(header[:cut])
            assert caught.value.reason == "short"
