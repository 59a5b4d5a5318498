"""What is fuzzed: every parser of bytes from outside, and the stack as a whole, raw and in conversation.

A target takes bytes and returns how many packets it has made of them for a stack, if it has one; it raises only what
is a defect. Its corpus is corpus/NAME.hex, one input a line, and is replayed by test_corpus.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fuzz.conversation import converse
from tunsmith.errors import WireError
from tunsmith.stack.config import StackConfig
from tunsmith.stack.stack import Stack
from tunsmith.testing.script.parser import ScriptError
from tunsmith.testing.script.parser import parse as parse_script
from tunsmith.wire import dns, http_connect, socks5
from tunsmith.wire.arp import build_arp, parse_arp
from tunsmith.wire.dns_stream import Deframer
from tunsmith.wire.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV6, parse_ethernet
from tunsmith.wire.fragments import fragment
from tunsmith.wire.ip import IPV4, parse_ip
from tunsmith.wire.ndp import parse_ndp
from tunsmith.wire.offload import complete_checksum, segment
from tunsmith.wire.tcp import build_options, parse_options
from tunsmith.wire.vnet import DATA_VALID, VNET

SMALL = StackConfig(
    receive_buffer=1 << 14, send_buffer=1 << 14, pending_limit=4, connection_limit=4, time_wait_limit=4
)


def ip_header(data: bytes) -> None:
    header = parse_ip(data)
    assert header.header_length <= header.total_length <= len(data)


def tcp_options(data: bytes) -> None:
    options = parse_options(data)
    if len(options.sack) <= 4:
        assert parse_options(build_options(options)) == options


def super_segments(data: bytes) -> None:
    complete_checksum(data)
    for piece in segment(data):
        assert segment(piece) == [piece]


def ethernet_frame(data: bytes) -> None:
    """What a frame carries, as far as the link itself looks into it."""
    header = parse_ethernet(data)
    payload = data[header.length :]
    if header.ethertype == ETHERTYPE_ARP:
        arp = parse_arp(payload)
        assert build_arp(arp) == payload[: len(build_arp(arp))]
    elif header.ethertype == ETHERTYPE_IPV6:
        ip = parse_ip(payload)
        parse_ndp(ip, payload[ip.header_length : ip.total_length], vouched=True)


def fragments(data: bytes) -> None:
    """A packet is cut, behind two bytes that say how small."""
    packet = data[2:]
    header = parse_ip(packet)
    if header.family is not IPV4:
        return
    mtu = max(68, int.from_bytes(data[:2], "big"))
    for piece in fragment(packet[: header.total_length], header, mtu):
        assert len(piece) <= mtu
        parse_ip(piece)


def dns_message(data: bytes) -> None:
    dns.question_of(data)
    dns.addresses_in(data)
    dns.error_reply(data, dns.SERVFAIL)
    query = dns.parse_query(data)
    answer = dns.reply(query)
    assert dns.is_reply(query, answer)
    assert len(dns.fit_udp(query, answer + data)) <= query.udp_limit
    reply = bytes((data[0], data[1], data[2] | 0x80)) + data[3:]
    if dns.is_reply(query, reply):
        dns.rcode_of(reply)


def _tolerant(parse: Callable[[bytes], Any], data: bytes) -> None:
    try:
        parse(data)
    except WireError:
        pass


def dns_stream(data: bytes) -> None:
    whole, pieces = Deframer(), Deframer()
    messages = whole.feed(data)
    found = [message for at in range(0, len(data), 3) for message in pieces.feed(data[at : at + 3])]
    assert found == messages


def http_response(data: bytes) -> None:
    http_connect.parse_response(data)


def socks5_messages(data: bytes) -> None:
    for parse in (
        socks5.parse_greeting,
        socks5.parse_choice,
        socks5.parse_credentials,
        socks5.parse_verdict,
        socks5.parse_request,
        socks5.parse_reply,
        lambda message: socks5.parse_datagram_header(message[: socks5.datagram_header_size(message)]),
    ):
        _tolerant(parse, data)


def script(data: bytes) -> None:
    try:
        parse_script(data.decode("latin-1"))
    except ScriptError:
        pass


def frames(data: bytes) -> int:
    """Raw packets, each behind two bytes of length; a set high bit vouches for its checksum."""
    stack = Stack(SMALL)
    at, now, packets = 0, 1000.0, 0
    while at + 2 <= len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        vnet = VNET.pack(DATA_VALID if length & 0x8000 else 0, 0, 0, 0, 0, 0)
        packet = data[at + 2 : at + 2 + (length & 0x7FFF)]
        at += 2 + len(packet)
        if packet:
            stack.receive(packet, now, vnet=vnet)
            packets += 1
        for frame in stack.frames_to_send():
            segment(frame)
        now += 0.01
    return packets


TARGETS: dict[str, Callable[[bytes], int | None]] = {
    "ip_header": ip_header,
    "tcp_options": tcp_options,
    "super_segments": super_segments,
    "ethernet_frame": ethernet_frame,
    "fragments": fragments,
    "dns_message": dns_message,
    "dns_stream": dns_stream,
    "http_response": http_response,
    "socks5_messages": socks5_messages,
    "script": script,
    "frames": frames,
    "conversation": converse,
}


def run(name: str, data: bytes) -> int:
    """Give `data` to a target; WireError is how parsers say no. Returns the packets that a stack was given."""
    try:
        return TARGETS[name](data) or 0
    except WireError:
        return 0
