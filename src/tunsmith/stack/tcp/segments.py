"""Segments that belong to no connection: RST for the unknown, ACK from TIME-WAIT."""

from __future__ import annotations

from tunsmith.wire.checksum import ones_sum
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.tcp import ACK, HEADER_LENGTH, RST


def bare_segment(
    family: IpFamily, key: bytes, seq: int, ack: int, flags: int, window: int = 0, options: bytes = b""
) -> bytes:
    """A frame with one segment without text; `key` is in the order of the segment itself."""
    length = HEADER_LENGTH + len(options)
    address_sum = ones_sum(key[:-4])
    headers = family.tcp_frame.pack(
        family.tcp_vnet + family.head(length, address_sum) + key,
        seq & 0xFFFFFFFF,
        ack & 0xFFFFFFFF,
        length << 10 | flags,
        window,
        (address_sum + 6 + length) % 0xFFFF,
        0,
    )
    return headers + options


def reset_for(family: IpFamily, key: bytes, seq: int, ack: int, flags: int, length: int) -> bytes:
    """The RST that answers a segment to a connection that does not exist, RFC 9293 §3.10.7.1. `key` and
    the numbers are those of the offending segment; `length` counts SYN and FIN."""
    if flags & ACK:
        return bare_segment(family, family.swap(key), ack, 0, RST)
    return bare_segment(family, family.swap(key), 0, seq + length, RST | ACK)
