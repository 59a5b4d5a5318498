"""Ethernet II frames, with an 802.1Q tag or without, and the group addresses that IP maps onto them."""

from __future__ import annotations

from string import hexdigits
from struct import Struct
from typing import NamedTuple

from tunsmith.errors import WireError
from tunsmith.wire.checksum import Buffer

HEADER_LENGTH = 14
TAG_LENGTH = 4
BROADCAST = b"\xff" * 6

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_VLAN, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD

_HEADER = Struct(">6s6sH")
_TAG = Struct(">HH")
_VLAN_ID = 0x0FFF
_GROUP = 0x01


class EthernetHeader(NamedTuple):
    """One parsed header. `vlan` is the VLAN of a tagged frame, 0 for one that has no tag or only a priority
    (802.1Q §6.9.1); `length` is where the payload begins."""

    destination: bytes
    source: bytes
    ethertype: int
    vlan: int
    length: int


def parse_ethernet(frame: Buffer) -> EthernetHeader:
    """The header at the start of `frame`. Raises WireError `ethernet_short`."""
    if len(frame) < HEADER_LENGTH:
        raise WireError("ethernet_short")
    destination, source, ethertype = _HEADER.unpack_from(frame)
    if ethertype != ETHERTYPE_VLAN:
        return EthernetHeader(destination, source, ethertype, 0, HEADER_LENGTH)
    if len(frame) < HEADER_LENGTH + TAG_LENGTH:
        raise WireError("ethernet_short")
    tag, ethertype = _TAG.unpack_from(frame, HEADER_LENGTH)
    return EthernetHeader(destination, source, ethertype, tag & _VLAN_ID, HEADER_LENGTH + TAG_LENGTH)


def build_ethernet(destination: bytes, source: bytes, ethertype: int, vlan: int = 0) -> bytes:
    """A header, tagged where `vlan` is not 0."""
    if not vlan:
        return _HEADER.pack(destination, source, ethertype)
    return _HEADER.pack(destination, source, ETHERTYPE_VLAN) + _TAG.pack(vlan, ethertype)


def is_group(mac: Buffer) -> bool:
    """Whether `mac` stands for several stations: multicast or broadcast."""
    return bool(mac[0] & _GROUP)


def group_mac(address: bytes) -> bytes:
    """Where packets to a multicast or the limited broadcast `address` go: RFC 1112 §6.4, RFC 2464 §7."""
    if len(address) == 16:
        return b"\x33\x33" + address[12:]
    if address[0] >= 240:
        return BROADCAST
    return b"\x01\x00\x5e" + bytes((address[1] & 0x7F,)) + address[2:]


def parse_mac(text: str) -> bytes:
    """The six bytes of "02:00:5e:10:00:01". Raises ValueError."""
    digits = text.replace(":", "").replace("-", "")
    if len(digits) != 12 or not set(digits) <= set(hexdigits):
        raise ValueError(f"{text!r} is no MAC address: six bytes in hexadecimal, like 02:00:5e:10:00:01")
    return bytes.fromhex(digits)


def format_mac(mac: bytes) -> str:
    """As people write it."""
    return mac.hex(":")
