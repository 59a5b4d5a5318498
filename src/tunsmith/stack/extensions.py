"""The chain of IPv6 extension headers, RFC 8200 §4, from the fixed header to the upper layer.

A host must understand hop-by-hop options, routing, fragment and destination options; anything else is
an upper-layer protocol as far as this module goes, and whether it is known is the demultiplexer's
question. The chain is bounded, because its length is the sender's choice (RFC 8504 §5.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from tunsmith.errors import WireError
from tunsmith.wire.checksum import Buffer
from tunsmith.wire.icmp import is_error
from tunsmith.wire.ip import IPV6, IpHeader
from tunsmith.wire.ndp import REDIRECT

HOP_BY_HOP, ROUTING, FRAGMENT, NO_NEXT_HEADER, DESTINATION = 0, 43, 44, 59, 60
EXTENSIONS = frozenset({HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION})

MAX_HEADERS = 8
MAX_OPTIONS = 32

ERRONEOUS_FIELD, UNKNOWN_HEADER, UNKNOWN_OPTION, FIRST_FRAGMENT_INCOMPLETE = 0, 1, 2, 3
"""Codes of ICMPv6 parameter problem: RFC 4443 §3.4 and RFC 7112 §5."""

_LARGEST_PAYLOAD = 65535
_FIXED_HEADER = 40
_NEXT_HEADER_AT = 6
_PAYLOAD_LENGTH_AT = 4
_SHORTEST = {6: 20, 17: 8, 58: 4}
"""What must be there of an upper-layer header: TCP, UDP, ICMPv6."""
_PAD1 = 0


class ParameterProblem(WireError):
    """A fault the sender is to be told of: ICMPv6 type 4 with `code`, and `pointer` to the byte at fault."""

    def __init__(self, reason: str, code: int, pointer: int) -> None:
        super().__init__(reason)
        self.code = code
        self.pointer = pointer


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a fragment header says; `offset` is in bytes."""

    offset: int
    more: bool
    identification: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a walk ended: `protocol` begins at `offset`, and the byte at `named_at` says so (the pointer
    of a parameter problem, code 1, if nobody knows that protocol).

    With `fragment`, `offset` is where its payload begins, and `protocol` what the reassembled payload
    begins with, which may be another extension header."""

    protocol: int
    offset: int
    named_at: int
    fragment: Fragment | None = None


def walk(
    packet: Buffer, named_at: int = _NEXT_HEADER_AT, offset: int = _FIXED_HEADER, *, multicast: bool = False
) -> Chain:
    """Follow the chain in `packet`, an IPv6 packet cut to its length, starting with the header at
    `offset` whose protocol is the byte at `named_at`. `multicast` says that the destination is.

    A reassembled datagram goes on where its first fragment stopped: `packet` is that fragment's header
    and the whole payload, `offset` the length of the header, `named_at` eight less. Fragments that are whole
    datagrams (RFC 6946) are stepped over.

    Raises WireError where silence is the answer (`extension_truncated`, `extension_chain`,
    `fragment_nested`, `option_discard`, `option_count`, `no_next_header`) and
    ParameterProblem where it is not."""
    fragment: Chain | None = None
    for _ in range(MAX_HEADERS):
        protocol = packet[named_at]
        end = _end(packet, protocol, offset)
        if end > len(packet):
            if fragment is not None:
                raise ParameterProblem("first_fragment_incomplete", FIRST_FRAGMENT_INCOMPLETE, 0)
            raise WireError("extension_truncated")
        if protocol not in EXTENSIONS:
            if fragment is not None:
                return fragment
            if protocol == NO_NEXT_HEADER:
                raise WireError("no_next_header")
            return Chain(protocol, offset, named_at)
        if protocol == FRAGMENT:
            if fragment is not None:
                raise WireError("fragment_nested")
            seen = _fragment(packet, offset)
            if seen.offset:
                return Chain(packet[offset], end, offset, seen)
            if seen.more:
                fragment = Chain(packet[offset], end, offset, seen)
        elif protocol == ROUTING:
            if packet[offset + 3]:  # segments left: we are no router, and type 0 is dead (RFC 5095)
                raise ParameterProblem("routing_header", ERRONEOUS_FIELD, offset + 2)
        elif protocol == HOP_BY_HOP and offset != _FIXED_HEADER:
            raise ParameterProblem("hop_by_hop_misplaced", UNKNOWN_HEADER, named_at)
        else:
            _check_options(packet, offset + 2, end, multicast)
        named_at, offset = offset, end
    raise WireError("extension_chain")


def carries_error(header: IpHeader, packet: Buffer) -> bool:
    """Whether `packet`, or the beginning of one, is an ICMP error or a redirect: about those no error is sent (RFC 1122
    §3.2.2, RFC 4443 §2.4 e). Its headers may be as bad as they like."""
    family, protocol, at = header.family, header.protocol, header.header_length
    if family is IPV6:
        for _ in range(MAX_HEADERS):
            if protocol not in EXTENSIONS or at + 8 > len(packet):
                break
            step = 8 if protocol == FRAGMENT else 8 + 8 * packet[at + 1]
            protocol, at = packet[at], at + step
    if protocol != family.icmp or at >= len(packet):
        return False
    return is_error(family, packet[at]) or (family is IPV6 and packet[at] == REDIRECT)


def _end(packet: Buffer, protocol: int, offset: int) -> int:
    """Where the header at `offset` ends, as far as can be told; beyond the packet if it is cut off."""
    if protocol in EXTENSIONS and protocol != FRAGMENT and offset + 8 <= len(packet):
        return offset + 8 + 8 * packet[offset + 1]
    return offset + (8 if protocol in EXTENSIONS else _SHORTEST.get(protocol, 0))


def _fragment(packet: Buffer, at: int) -> Fragment:
    word = packet[at + 2] << 8 | packet[at + 3]
    offset, more = word & 0xFFF8, bool(word & 1)
    length = len(packet) - at - 8
    if more and length % 8:
        raise ParameterProblem("fragment_misaligned", ERRONEOUS_FIELD, _PAYLOAD_LENGTH_AT)
    if at - _FIXED_HEADER + offset + length > _LARGEST_PAYLOAD:
        raise ParameterProblem("fragment_oversize", ERRONEOUS_FIELD, at + 2)
    return Fragment(offset, more, int.from_bytes(packet[at + 4 : at + 8], "big"))


def _check_options(packet: Buffer, at: int, end: int, multicast: bool) -> None:
    """Read the options between `at` and `end`, RFC 8200 §4.2. We know none but padding, so the two top
    bits of each type decide: skip, drop, or drop and say so (11: unless the destination is multicast)."""
    for _ in range(MAX_OPTIONS):
        if at == end:
            return
        kind = packet[at]
        if kind == _PAD1:
            at += 1
            continue
        if at + 2 > end or at + 2 + packet[at + 1] > end:
            raise ParameterProblem("option_length", ERRONEOUS_FIELD, min(at + 1, end - 1))
        action = kind >> 6  # PadN is type 1: skip
        if action == 1 or (action == 3 and multicast):
            raise WireError("option_discard")
        if action:
            raise ParameterProblem("option_unknown", UNKNOWN_OPTION, at)
        at += 2 + packet[at + 1]
    if at != end:
        raise WireError("option_count")
