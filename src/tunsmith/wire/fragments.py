"""Cutting an IPv4 packet for a narrower link, RFC 791 §3.2. (IPv6 routers do not: RFC 8200 §5.)"""

from __future__ import annotations

from struct import Struct

from tunsmith.wire.checksum import finish, ones_sum
from tunsmith.wire.ip import IpHeader

_U16 = Struct(">H")
_COPIED = 0x80
_END, _NOP = 0, 1
_MORE = 0x2000


def fragment(packet: bytes, header: IpHeader, mtu: int) -> list[bytes]:
    """`packet`, whose header is `header`, as packets of at most `mtu` bytes, or alone where it fits. `mtu` is 68
    or more."""
    if header.total_length <= mtu:
        return [packet]
    first = packet[: header.header_length]
    later = first[:20] + _copied_options(first[20:])
    payload = memoryview(packet)[header.header_length : header.total_length]
    pieces = []
    at = 0
    while at < len(payload):
        head = bytearray(later if at else first)
        step = (mtu - len(head)) // 8 * 8
        piece = payload[at : at + step]
        more = header.more_fragments or at + step < len(payload)
        head[0] = 0x40 | len(head) // 4
        _U16.pack_into(head, 2, len(head) + len(piece))
        _U16.pack_into(head, 6, (header.fragment_offset + at) // 8 | (_MORE if more else 0))
        _U16.pack_into(head, 10, 0)
        _U16.pack_into(head, 10, finish(ones_sum(head)))
        pieces.append(bytes(head) + piece)
        at += step
    return pieces


def _copied_options(options: bytes) -> bytes:
    """The options that go into every fragment; a list that does not add up goes into none."""
    copied = b""
    at = 0
    while at < len(options) and options[at] != _END:
        if options[at] == _NOP:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2 or at + length > len(options):
            return b""
        if options[at] & _COPIED:
            copied += options[at : at + length]
        at += length
    return copied + bytes(-len(copied) % 4)
