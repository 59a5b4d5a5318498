"""What a router does to packets that are not for itself: RFC 1812 §5, RFC 8200.

Checked, one hop older, on to the next. Super-segments go on whole; they are cut only where the way on has no
offload. What cannot go on is answered by ICMP, rate-limited, never about an ICMP error (RFC 1812 §4.3.2.7).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from tunsmith.errors import WireError
from tunsmith.stack.extensions import carries_error
from tunsmith.wire.checksum import finish, ones_sum
from tunsmith.wire.fragments import fragment
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV6, IpHeader, is_unicast, parse_ip
from tunsmith.wire.offload import segment
from tunsmith.wire.vnet import GSO_ECN, GSO_NONE, GSO_UDP_L4, NEEDS_CSUM, PLAIN, VNET, VNET_HDR_LEN

if TYPE_CHECKING:
    from tunsmith.stack.router import Router

_U16 = Struct(">H")
_DONT_FRAGMENT = 0x40


class Forwarder:
    """The forwarding side of `router`. Counts what it does not forward: `forward_martian`, `forward_broadcast`,
    `forward_ttl`,
    `forward_too_big`, `no_route`, and the words of parse_ip and segment."""

    __slots__ = ("_router",)

    def __init__(self, router: Router) -> None:
        self._router = router

    def forward(self, frame: memoryview, now: float) -> None:
        """One frame that is not for us, cut to its length."""
        drops = self._router.stack.drops
        packet = frame[VNET_HDR_LEN:]
        try:
            header = parse_ip(packet)
            self._forward(frame, packet[: header.total_length], header, now)
        except WireError as error:
            drops[error.reason] += 1

    def _forward(self, frame: memoryview, packet: memoryview, header: IpHeader, now: float) -> None:
        router = self._router
        if not (_travels(header.source) and _travels(header.destination)):
            raise WireError("forward_martian")
        if router.is_broadcast(header.destination):  # RFC 2644
            raise WireError("forward_broadcast")
        if header.ttl <= 1:
            self.complain(header, packet, IcmpError.TIME_EXCEEDED, now)
            raise WireError("forward_ttl")
        way = router.way(header.destination)
        if way is None:
            self.complain(header, packet, IcmpError.NETWORK, now)
            raise WireError("no_route")
        out, next_hop = way
        head = _aged(packet, header)
        if _longest_piece(frame, packet, header) <= out.mtu:
            parts = bytes(frame[:VNET_HDR_LEN]) + head, packet[len(head) :]
            out.send(next_hop, parts, forwarded=True)
            return
        if header.family is IPV6 or packet[6] & _DONT_FRAGMENT:
            self.complain(header, packet, IcmpError.TOO_BIG, now, out.mtu)
            raise WireError("forward_too_big")
        whole = b"".join((frame[:VNET_HDR_LEN], head, packet[len(head) :]))
        for piece in segment(whole):
            finished = piece[VNET_HDR_LEN:]
            for part in fragment(finished, parse_ip(finished), out.mtu):
                out.send(next_hop, (PLAIN + part,), forwarded=True)

    def complain(
        self, header: IpHeader, packet: memoryview, error: IcmpError, now: float, rest: int = 0
    ) -> None:
        """Tell the source of `packet` that it did not go on, from the address that it knows us by."""
        source = self._router.source_for(header.source)
        if source is None or header.fragment_offset or carries_error(header, packet):
            return
        self._router.stack.send_error(header.family, source, header.source, error, packet, now, rest)


def _travels(address: bytes) -> bool:
    """Whether packets from and to `address` may be forwarded: one host's, and not of one link or machine only
    (RFC 1812 §5.3.7, RFC 4291 §2.5.6, RFC 3927 §7)."""
    if not is_unicast(address):
        return False
    if len(address) == 4:
        return address[0] != 127 and address[:2] != b"\xa9\xfe"
    loopback = address == b"\0" * 15 + b"\1"
    return not (loopback or (address[0] == 0xFE and address[1] & 0xC0 == 0x80))


def _aged(packet: memoryview, header: IpHeader) -> bytes:
    """The header of `packet` one hop on."""
    head = bytearray(packet[: header.header_length])
    if header.family is IPV6:
        head[7] -= 1
        return bytes(head)
    head[8] -= 1
    _U16.pack_into(head, 10, 0)
    _U16.pack_into(head, 10, finish(ones_sum(head)))
    return bytes(head)


def _longest_piece(frame: memoryview, packet: memoryview, header: IpHeader) -> int:
    """The length of the packets that the frame stands for. Raises WireError `gso_header`."""
    flags, gso_type, _, gso_size, start, _ = VNET.unpack_from(frame)
    kind = gso_type & ~GSO_ECN
    if kind == GSO_NONE:
        return len(packet)
    begin = start if flags & NEEDS_CSUM else header.header_length
    if begin + 13 > len(packet) or not gso_size:
        raise WireError("gso_header")
    transport: int = 8 if kind == GSO_UDP_L4 else (packet[begin + 12] >> 4) * 4
    return min(len(packet), int(begin) + transport + int(gso_size))
