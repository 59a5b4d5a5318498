"""Segments that belong to no connection: RST for the unknown, ACK from TIME-WAIT."""

from __future__ import annotations

from tunsmith.wire.checksum import partial, pseudo_sum
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.tcp import ACK, CHECKSUM_OFFSET, HEADER_LENGTH, RST, TCP
from tunsmith.wire.vnet import GSO_NONE, NEEDS_CSUM, VNET


def bare_segment(
    family: IpFamily, key: bytes, seq: int, ack: int, flags: int, window: int = 0, options: bytes = b""
) -> bytes:
    """A frame with one segment without text; `key` is in the order of the segment itself."""
    source, source_port, destination, destination_port = family.split(key)
    length = HEADER_LENGTH + len(options)
    return b"".join(
        (
            VNET.pack(NEEDS_CSUM, GSO_NONE, 0, 0, family.header_length, CHECKSUM_OFFSET),
            family.header(source, destination, 6, length),
            TCP.pack(
                source_port,
                destination_port,
                seq & 0xFFFFFFFF,
                ack & 0xFFFFFFFF,
                length << 10 | flags,
                window,
                partial(pseudo_sum(source + destination, 6, length)),
                0,
            ),
            options,
        )
    )


def reset_for(family: IpFamily, key: bytes, seq: int, ack: int, flags: int, length: int) -> bytes:
    """The RST that answers a segment to a connection that does not exist, RFC 9293 §3.10.7.1. `key` and
    the numbers are those of the offending segment; `length` counts SYN and FIN."""
    if flags & ACK:
        return bare_segment(family, family.swap(key), ack, 0, RST)
    return bare_segment(family, family.swap(key), 0, seq + length, RST | ACK)
