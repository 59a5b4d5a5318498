"""The careful path: options, extension headers, fragments, and what is told of them."""

from __future__ import annotations

import pytest

from tests.stack.packets import (
    FAMILIES,
    HOST,
    STACK,
    name,
    packet,
    ping,
    sent,
    udp_datagram,
    udp_packet,
    with_ipv4_options,
)
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Datagram, Echo
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import IcmpError, build_error, build_icmp
from tunsmith.wire.ip import IPV4, IPV6, IpFamily
from tunsmith.wire.vnet import NEEDS_CSUM, VNET

both = pytest.mark.parametrize("family", FAMILIES, ids=name)


def payloads(stack: Stack) -> list[bytes]:
    out = []
    while (event := stack.poll_event()) is not None:
        assert isinstance(event, Datagram | Echo)
        out.append(bytes(event.data))
    return out


def fragments(
    family: IpFamily, protocol: int, payload: bytes, size: int, *, ident: int = 9, before: bytes = b""
) -> list[bytes]:
    """`payload` in pieces of `size`; for IPv6 with the extension headers `before` the fragment header, the
    first of which is destination options (60)."""
    out = []
    for at in range(0, len(payload), size):
        piece, more = payload[at : at + size], at + size < len(payload)
        if family is IPV4:
            field = at // 8 | (0x2000 if more else 0)
            out.append(packet(family, protocol, piece, identification=ident, fragment=field))
        else:
            head = bytes((protocol, 0)) + (at | more).to_bytes(2, "big") + ident.to_bytes(4, "big")
            out.append(packet(family, 60 if before else 44, before + head + piece))
    return out


# --- what is no packet at all ---


@pytest.mark.parametrize(
    ("whole", "cause"),
    [
        (b"", "ip_short"),
        (b"\x45" + bytes(5), "tcp_length"),
        (b"\x46" + bytes(5), "ip_short"),
        (b"\x55" + bytes(30), "ip_version"),
        (b"\x60" + bytes(25), "ip_short"),
        (b"\x60\0\0\0\0\x09\x3b\x40" + bytes(32), "ip_length"),
    ],
    ids=range(6),
)
def test_what_is_no_packet_is_counted(whole: bytes, cause: str) -> None:
    stack = Stack()
    stack.receive(whole, 1.0)
    assert sum(stack.drops.values()) == 1
    if cause != "tcp_length":
        assert stack.drops == {cause: 1}


def test_an_ipv4_header_with_a_wrong_checksum_is_dropped() -> None:
    stack = Stack()
    broken = bytearray(ping(IPV4))
    broken[8] ^= 1
    stack.receive(bytes(broken), 1.0)
    assert stack.drops == {"ip_checksum": 1}


@both
def test_a_source_that_is_no_host_is_a_martian__rfc1122_3_2_1_3(family: IpFamily) -> None:
    stack = Stack()
    group = b"\xe0\0\0\x01" if family is IPV4 else b"\xff\x02" + bytes(13) + b"\x01"
    echo = build_icmp(family, group, STACK[family], 8 if family is IPV4 else 128, 0, 0, b"")
    stack.receive(echo, 1.0)
    assert stack.drops == {"martian": 1}
    assert stack.poll_event() is None


# --- IPv4 options ---


def test_harmless_options_are_stepped_over() -> None:
    stack = Stack()
    for options in (b"\x01\x01\x01\0", b"\x07\x07\x04\0\0\0\0\0", b"\x94\x04\0\0"):
        stack.receive(with_ipv4_options(udp_packet(IPV4, b"query"), options), 1.0)
    assert payloads(stack) == [b"query"] * 3


def test_an_offload_frame_with_options_is_still_vouched_for() -> None:
    stack = Stack()
    whole = with_ipv4_options(udp_packet(IPV4, b"query", checksum=0x1234), b"\x94\x04\0\0")
    stack.receive(whole, 1.0, vnet=VNET.pack(NEEDS_CSUM, 0, 0, 0, 24, 6))
    assert payloads(stack) == [b"query"]


@pytest.mark.parametrize("kind", [131, 137])
def test_source_routes_are_dropped__rfc7126(kind: int) -> None:
    stack = Stack()
    route = bytes((kind, 7, 4)) + bytes(4)
    for options in (route + b"\0", b"\x01" + route, b"\x94\x04\0\0\x01" + route):
        stack.receive(with_ipv4_options(udp_packet(IPV4, b"query"), options), 1.0)
    assert stack.drops == {"ip_source_route": 3}


@pytest.mark.parametrize(
    ("options", "pointer"),
    [(b"\x44\x01\0\0", 21), (b"\x01\x01\x01\x44", 24), (b"\x44\x09\x05\0", 21), (b"\x44\0\0\0", 21)],
)
def test_options_that_do_not_add_up_are_told_of__rfc1122_3_2_2_5(options: bytes, pointer: int) -> None:
    stack = Stack()
    bad = with_ipv4_options(udp_packet(IPV4, b"query"), options)
    stack.receive(bad, 1.0)
    assert stack.drops == {"ip_options": 1}
    ((header, message),) = sent(stack)
    assert (header.source, header.destination) == (STACK[IPV4], HOST[IPV4])
    assert (message[:2], message[4:]) == (b"\x0c\0", bytes((pointer, 0, 0, 0)) + bad)


BAD_OPTION = b"\x3a\0\x80\x04" + bytes(4)
"""Hop by hop, in front of ICMPv6: an option that nobody knows, of which the sender wants to hear."""


@pytest.mark.parametrize("family", FAMILIES, ids=name)
@pytest.mark.parametrize("kind", ["error", "ping", "fragment"])
def test_of_what_is_wrong_with_an_error_nobody_is_told__rfc1122_3_2_2_rfc4443_2_4(
    family: IpFamily, kind: str
) -> None:
    stack = Stack()
    message = (ping(family) if kind == "ping" else error(family))[family.header_length :]
    if family is IPV4:
        bad = with_ipv4_options(packet(IPV4, 1, message, fragment=100 * (kind == "fragment")), b"\x44\0\0\0")
    elif kind == "fragment":
        bad = packet(IPV6, 44, b"\x3c\0\0\1" + bytes(4) + BAD_OPTION + message)
    else:
        bad = packet(IPV6, 0, BAD_OPTION + message)
    stack.receive(bad, 1.0)
    assert len(sent(stack)) == (kind == "ping")


@pytest.mark.parametrize("kind", [5, 137])
def test_of_what_is_wrong_with_a_redirect_nobody_is_told_either__rfc4443_2_4(kind: int) -> None:
    stack = Stack()
    if kind == 5:
        stack.receive(with_ipv4_options(packet(IPV4, 1, bytes((5,)) + bytes(7)), b"\x44\0\0\0"), 1.0)
    else:
        stack.receive(packet(IPV6, 0, BAD_OPTION + bytes((137,)) + bytes(7)), 1.0)
    assert sent(stack) == []


@pytest.mark.parametrize("family", FAMILIES, ids=name)
@pytest.mark.parametrize("kind", ["error", "ping"])
def test_of_an_error_that_never_becomes_whole_nobody_is_told__rfc1122_3_2_2(
    family: IpFamily, kind: str
) -> None:
    stack = Stack()
    message = (ping(family, bytes(80)) if kind == "ping" else error(family))[family.header_length :]
    first, *_ = fragments(family, family.icmp, message, 16)
    stack.receive(first, 1.0)
    stack.handle_timeout(60.0)
    assert stack.drops == {"fragment_timeout": 1}
    assert len(sent(stack)) == (kind == "ping")


def error(family: IpFamily) -> bytes:
    return build_error(family, HOST[family], STACK[family], IcmpError.PORT, udp_packet(family, b"query"))


# --- unknown protocols ---


def test_an_unknown_protocol_is_unreachable_and_the_quote_is_what_came__rfc1122_3_2_2_1() -> None:
    stack = Stack()
    whole = packet(IPV4, 132, b"sctp, perhaps", identification=77)
    stack.receive(whole, 1.0)
    ((header, payload),) = sent(stack)
    assert (header.source, header.destination) == (STACK[IPV4], HOST[IPV4])
    assert payload[:2] == b"\x03\x02"
    assert payload[8:] == whole
    assert stack.drops == {"protocol_unknown": 1}


def test_an_unknown_next_header_is_a_parameter_problem__rfc4443_3_4() -> None:
    stack = Stack()
    whole = packet(IPV6, 132, b"sctp, perhaps")
    stack.receive(whole, 1.0)
    ((header, payload),) = sent(stack)
    assert (header.source, header.destination) == (STACK[IPV6], HOST[IPV6])
    assert payload[:2] == b"\x04\x01"
    assert int.from_bytes(payload[4:8], "big") == 6
    assert payload[8:] == whole
    assert stack.drops == {"protocol_unknown": 1}


def test_the_pointer_counts_the_headers_before() -> None:
    stack = Stack()
    stack.receive(packet(IPV6, 60, b"\x84\0\x01\x04" + bytes(4) + b"sctp"), 1.0)
    ((_, payload),) = sent(stack)
    assert int.from_bytes(payload[4:8], "big") == 40


def test_no_error_about_a_packet_to_a_group() -> None:
    for family, group in ((IPV4, b"\xe0\0\0\x05"), (IPV6, b"\xff\x02" + bytes(13) + b"\x05")):
        stack = Stack()
        stack.receive(packet(family, 89, b"ospf", destination=group), 1.0)
        assert not sent(stack)
        assert stack.drops == {"protocol_unknown": 1}


@both
def test_errors_are_bounded(family: IpFamily) -> None:
    stack = Stack(StackConfig(icmp_rate=10.0, icmp_burst=5.0))
    for _ in range(20):
        stack.receive(packet(family, 132, b"x"), 1.0)
    assert len(sent(stack)) == 5
    assert stack.drops["icmp_rate_limited"] == 15
    stack.receive(packet(family, 132, b"x"), 1.1)
    assert len(sent(stack)) == 1


# --- IPv6 extension headers ---


def test_extension_headers_are_walked_to_the_datagram() -> None:
    stack = Stack()
    options = b"\x3c\0\x01\x04" + bytes(4)  # hop by hop: then destination options
    options += b"\x11\0\x01\x04" + bytes(4)  # destination options: then UDP
    stack.receive(packet(IPV6, 0, options + udp_datagram(IPV6, b"query")), 1.0)
    assert payloads(stack) == [b"query"]


def test_the_quote_of_a_parameter_problem_fits_the_minimum_mtu() -> None:
    stack = Stack()
    whole = packet(IPV6, 132, bytes(1400))
    stack.receive(whole, 1.0)
    ((header, payload),) = sent(stack)
    assert header.total_length == 1280
    assert payload[8:] == whole[: 1280 - 48]


def test_an_unknown_option_to_a_group_is_dropped_in_silence_where_it_asks_for_that() -> None:
    for destination, answers in ((STACK[IPV6], 1), (b"\xff\x02" + bytes(13) + b"\x05", 0)):
        stack = Stack()
        stack.receive(packet(IPV6, 60, b"\x11\0\xde\x04" + bytes(12), destination=destination), 1.0)
        assert len(sent(stack)) == answers
        assert stack.drops == {"option_unknown" if answers else "option_discard": 1}


def test_no_next_header_is_silently_over() -> None:
    stack = Stack()
    stack.receive(packet(IPV6, 59, b""), 1.0)
    assert not sent(stack)
    assert stack.drops == {"no_next_header": 1}


def test_a_routing_header_with_a_way_to_go_is_refused__rfc5095() -> None:
    stack = Stack()
    stack.receive(packet(IPV6, 43, b"\x11\0\0\x01" + bytes(4) + udp_datagram(IPV6, b"query")), 1.0)
    ((_, payload),) = sent(stack)
    assert payload[:2] == b"\x04\0"
    assert int.from_bytes(payload[4:8], "big") == 42


# --- fragments ---


@both
@pytest.mark.parametrize("backwards", [False, True])
def test_a_fragmented_datagram_arrives_whole(family: IpFamily, backwards: bool) -> None:
    stack = Stack()
    data = bytes(range(250)) * 20
    pieces = fragments(family, 17, udp_datagram(family, data), 1400)
    for piece in reversed(pieces) if backwards else pieces:
        assert payloads(stack) == []
        stack.receive(piece, 1.0)
    assert payloads(stack) == [data]
    assert stack.next_deadline() is None


@both
def test_a_fragmented_ping_arrives_whole(family: IpFamily) -> None:
    stack = Stack()
    for piece in fragments(family, family.icmp, ping(family, bytes(3000))[family.header_length :], 1400):
        stack.receive(piece, 1.0)
    assert payloads(stack) == [bytes(3000)]


@both
def test_the_checksum_of_a_reassembled_datagram_is_checked(family: IpFamily) -> None:
    stack = Stack()
    for piece in fragments(family, 17, udp_datagram(family, bytes(2000), checksum=0x1234), 1400):
        stack.receive(piece, 1.0)
    assert payloads(stack) == []
    assert stack.drops == {"udp_checksum": 1}


def test_extension_headers_on_either_side_of_the_fragment_header() -> None:
    stack = Stack()
    payload = b"\x11\0\x01\x04" + bytes(4) + udp_datagram(IPV6, bytes(2000))
    for piece in fragments(IPV6, 60, payload, 800, before=b"\x2c\0\x01\x04" + bytes(4)):
        stack.receive(piece, 1.0)
    assert payloads(stack) == [bytes(2000)]


def test_a_fragment_header_inside_a_fragmented_packet_is_dropped() -> None:
    stack = Stack()
    inner = b"\x11\0\0\x01" + bytes(4) + udp_datagram(IPV6, bytes(1000))
    for piece in fragments(IPV6, 60, b"\x2c\0\x01\x04" + bytes(4) + inner, 800):
        stack.receive(piece, 1.0)
    assert payloads(stack) == []
    assert stack.drops == {"fragment_nested": 1}


def test_a_fault_in_a_reassembled_packet_is_told_with_the_right_pointer() -> None:
    stack = Stack()
    for piece in fragments(IPV6, 132, bytes(2000), 800):
        stack.receive(piece, 1.0)
    ((_, payload),) = sent(stack)
    assert payload[:2] == b"\x04\x01"
    pointer = int.from_bytes(payload[4:8], "big")
    assert pointer == 40
    assert payload[8 + pointer] == 132
    assert stack.drops == {"protocol_unknown": 1}


def test_an_unknown_protocol_in_fragments_is_told_only_if_the_first_is_at_hand() -> None:
    for order, errors in ((1, 0), (-1, 1)):
        stack = Stack()
        for piece in fragments(IPV4, 132, bytes(2000), 800)[::order]:
            stack.receive(piece, 1.0)
        assert len(sent(stack)) == errors


@both
def test_a_datagram_that_never_becomes_whole_is_told_about__rfc1122_3_3_2(family: IpFamily) -> None:
    stack = Stack()
    first, *_ = fragments(family, 17, udp_datagram(family, bytes(3000)), 1400)
    stack.receive(first, 1.0)
    assert stack.next_deadline() == 31.0
    stack.handle_timeout(31.0)
    ((header, payload),) = sent(stack)
    assert (header.source, header.destination) == (STACK[family], HOST[family])
    assert payload[:2] == (b"\x0b\x01" if family is IPV4 else b"\x03\x01")
    assert payload[8:] == first[: len(payload) - 8]
    assert stack.next_deadline() is None


@both
def test_without_the_first_fragment_nothing_is_told(family: IpFamily) -> None:
    stack = Stack()
    stack.receive(fragments(family, 17, udp_datagram(family, bytes(3000)), 1400)[1], 1.0)
    stack.handle_timeout(31.0)
    assert not sent(stack)


def test_the_evil_bit_is_not_a_fragment() -> None:
    stack = Stack()
    stack.receive(packet(IPV4, 17, udp_datagram(IPV4, b"query"), fragment=0x8000), 1.0)
    assert payloads(stack) == [b"query"]


@both
def test_only_our_addresses_where_we_have_some(family: IpFamily) -> None:
    stack = Stack(StackConfig(any_destination=False, addresses=(HOST[family],)))
    stack.receive(ping(family), 1.0)
    assert stack.poll_event() is None
    assert stack.drops == {"not_our_address": 1}
