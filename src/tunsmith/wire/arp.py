"""ARP for IPv4 on Ethernet, RFC 826; probes and announcements, RFC 5227."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from tunsmith.errors import WireError
from tunsmith.wire.checksum import Buffer
from tunsmith.wire.ethernet import is_group

LENGTH = 28
REQUEST, REPLY = 1, 2
UNKNOWN_MAC = bytes(6)
UNSPECIFIED = bytes(4)

_ARP = Struct(">HHBBH6s4s6s4s")
_ETHERNET_IPV4 = (1, 0x0800, 6, 4)


class Arp(NamedTuple):
    """One message. A request from UNSPECIFIED is a probe: its sender does not own the address yet."""

    operation: int
    sender_mac: bytes
    sender: bytes
    target_mac: bytes
    target: bytes


def parse_arp(message: Buffer) -> Arp:
    """Raises WireError: `arp_short`, `arp_format` (another hardware or protocol), `arp_operation`, `arp_sender` (a
    station that no frame can come from). Padding behind is allowed."""
    if len(message) < LENGTH:
        raise WireError("arp_short")
    *kind, operation, sender_mac, sender, target_mac, target = _ARP.unpack_from(message)
    if tuple(kind) != _ETHERNET_IPV4:
        raise WireError("arp_format")
    if operation not in (REQUEST, REPLY):
        raise WireError("arp_operation")
    if is_group(sender_mac) or sender_mac == UNKNOWN_MAC:
        raise WireError("arp_sender")
    return Arp(operation, sender_mac, sender, target_mac, target)


def build_arp(arp: Arp) -> bytes:
    """The message, without Ethernet header."""
    return _ARP.pack(*_ETHERNET_IPV4, *arp)
