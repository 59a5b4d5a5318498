"""Neighbour discovery for IPv6: solicitation and advertisement, RFC 4861 §4.3, §4.4, with the checks of §7.1.

Router discovery and redirects are parsed nowhere: addresses and routes are given, not learnt.
"""

from __future__ import annotations

from typing import NamedTuple

from tunsmith.errors import WireError
from tunsmith.wire.checksum import Buffer, ones_sum, pseudo_sum
from tunsmith.wire.icmp import HEADER_LENGTH, build_icmp
from tunsmith.wire.ip import IPV6, IpHeader

SOLICITATION, ADVERTISEMENT = 135, 136
ROUTER_SOLICITATION, REDIRECT = 133, 137

ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
UNSPECIFIED = bytes(16)

_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")
_HOP_LIMIT = 255
_SHORTEST = 24
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2
_ROUTER, _SOLICITED, _OVERRIDE = 1 << 31, 1 << 30, 1 << 29


class NeighbourMessage(NamedTuple):
    """One message. `mac` is the link-layer address of its sender (solicitation) or of `target`
    (advertisement), None where it has none. The flags are an advertisement's."""

    solicitation: bool
    target: bytes
    mac: bytes | None
    router: bool = False
    solicited: bool = False
    override: bool = False


def solicited_node(address: bytes) -> bytes:
    """The multicast group in which the owner of `address` listens: RFC 4291 §2.7.1."""
    return _SOLICITED_NODE + address[13:]


def link_local(mac: bytes) -> bytes:
    """The link-local address made of a MAC: RFC 4291 §2.5.6, appendix A."""
    return b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]


def parse_ndp(ip: IpHeader, message: Buffer, *, vouched: bool = False) -> NeighbourMessage:
    """The solicitation or advertisement `message`, the ICMPv6 payload behind `ip`; `vouched`: the checksum is
    known to be right. Raises WireError: `ndp_hop_limit` (it came from beyond the link), `icmp_checksum`,
    `ndp_short`, `ndp_code`, `ndp_target`, `ndp_option`, `ndp_source`, `ndp_flags`: RFC 4861 §7.1.1, §7.1.2."""
    if ip.ttl != _HOP_LIMIT:
        raise WireError("ndp_hop_limit")
    if len(message) < _SHORTEST:
        raise WireError("ndp_short")
    total = ones_sum(message) + pseudo_sum(ip.source + ip.destination, IPV6.icmp, len(message))
    if not vouched and total % 0xFFFF:
        raise WireError("icmp_checksum")
    if message[1]:
        raise WireError("ndp_code")
    target = bytes(message[HEADER_LENGTH:_SHORTEST])
    if target[0] == 0xFF:
        raise WireError("ndp_target")
    solicitation = message[0] == SOLICITATION
    mac = _link_layer(message, _SOURCE_LINK_LAYER if solicitation else _TARGET_LINK_LAYER)
    flags = int.from_bytes(message[4:8], "big")
    if solicitation:
        if not any(ip.source) and (mac is not None or ip.destination != solicited_node(target)):
            raise WireError("ndp_source")
        return NeighbourMessage(True, target, mac)
    if ip.destination[0] == 0xFF and flags & _SOLICITED:
        raise WireError("ndp_flags")
    return NeighbourMessage(
        False, target, mac, bool(flags & _ROUTER), bool(flags & _SOLICITED), bool(flags & _OVERRIDE)
    )


def _link_layer(message: Buffer, kind: int) -> bytes | None:
    """The MAC in the option `kind`; options nobody knows are stepped over."""
    at, mac = _SHORTEST, None
    while at < len(message):
        if at + 2 > len(message) or not message[at + 1] or at + message[at + 1] * 8 > len(message):
            raise WireError("ndp_option")
        if message[at] == kind and message[at + 1] == 1:
            mac = bytes(message[at + 2 : at + 8])
        at += message[at + 1] * 8
    return mac


def build_solicitation(source: bytes, target: bytes, mac: bytes, *, to: bytes | None = None) -> bytes:
    """The packet that asks for `target`: its solicited-node group, or `to` itself where we only ask whether it is
    still there. From UNSPECIFIED it is a probe (RFC 4862 §5.4.2), which must not say who asks."""
    option = _option(_SOURCE_LINK_LAYER, mac) if any(source) else b""
    return build_icmp(
        IPV6, source, to or solicited_node(target), SOLICITATION, 0, 0, target + option, ttl=_HOP_LIMIT
    )


def build_advertisement(
    source: bytes,
    destination: bytes,
    mac: bytes,
    *,
    router: bool = False,
    solicited: bool = False,
    override: bool = True,
) -> bytes:
    """The packet that says that `source` is at `mac`."""
    flags = router * _ROUTER | solicited * _SOLICITED | override * _OVERRIDE
    body = source + _option(_TARGET_LINK_LAYER, mac)
    return build_icmp(IPV6, source, destination, ADVERTISEMENT, 0, flags, body, ttl=_HOP_LIMIT)


def _option(kind: int, mac: bytes) -> bytes:
    return bytes((kind, 1)) + mac
