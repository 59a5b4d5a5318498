"""Network interfaces over netlink: RTM_GETLINK, RTM_NEWLINK, RTM_DELLINK."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from tunsmith.host.netlink.attributes import as_number, as_text, attributes, number, text
from tunsmith.host.netlink.channel import Netlink
from tunsmith.route.facts import Link

NEW, DELETE, GET = 16, 17, 18
UP, LOOPBACK = 0x1, 0x8
_IFNAME, _MTU, _MASTER, _LINKINFO, _EXT_MASK, _CARRIER = 3, 4, 10, 18, 29, 33
_KIND, _DATA = 1, 2
_SKIP_STATISTICS = 0x8
_TUN_OWNER, _TUN_GROUP, _TUN_TYPE, _TUN_VNET_HEADER, _TUN_PERSIST = 1, 2, 3, 5, 6
_TUN_MANY_QUEUES, _TUN_QUEUES, _TUN_IDLE_QUEUES = 7, 8, 9
_TYPE_TAP = 2

_INFO = struct.Struct("=BxHiII")
"""Family, type, index, flags, mask of the flags to change."""


@dataclass(frozen=True, slots=True)
class Tun:
    """What only TUN and TAP interfaces have: who may open it (None: root), whether it stays, its queues (told where
    it may have many), and whether a program has it open."""

    tap: bool
    owner: int | None
    group: int | None
    persistent: bool
    many_queues: bool
    queues: int
    idle_queues: int
    vnet_header: bool
    is_open: bool


def read_links(netlink: Netlink) -> list[Link]:
    """Every interface of the namespace."""
    request = _INFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + number(_EXT_MASK, _SKIP_STATISTICS)
    messages = netlink.dump(GET, request)
    parsed = [parse(message) for message in messages]
    names = {index: as_text(found.get(_IFNAME)) for index, _, found in parsed}
    return [_link(index, flags, found, names) for index, flags, found in parsed]


def read_tun(netlink: Netlink, name: str) -> Tun | None:
    """What is special about the TUN or TAP interface `name`; None where it is no such thing. Raises OSError where
    there is none of that name."""
    message = netlink.ask(GET, _INFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + text(_IFNAME, name))
    _, _, link = parse(message)
    kind, data = _kind(link)
    if kind != "tun":
        return None
    found = attributes(data)
    flags = {
        key: found[key] != b"\0" for key in (_TUN_VNET_HEADER, _TUN_PERSIST, _TUN_MANY_QUEUES) if key in found
    }
    return Tun(
        tap=found.get(_TUN_TYPE) == bytes([_TYPE_TAP]),
        owner=as_number(found[_TUN_OWNER]) if _TUN_OWNER in found else None,
        group=as_number(found[_TUN_GROUP]) if _TUN_GROUP in found else None,
        persistent=flags.get(_TUN_PERSIST, False),
        many_queues=flags.get(_TUN_MANY_QUEUES, False),
        queues=as_number(found.get(_TUN_QUEUES)),
        idle_queues=as_number(found.get(_TUN_IDLE_QUEUES)),
        vnet_header=flags.get(_TUN_VNET_HEADER, False),
        is_open=link.get(_CARRIER) == b"\1",
    )


def set_link(netlink: Netlink, index: int, up: bool, mtu: int = 0) -> None:
    """Set interface `index` up or down, and its MTU where given."""
    body = _INFO.pack(socket.AF_UNSPEC, 0, index, UP if up else 0, UP)
    netlink.change(NEW, 0, body + (number(_MTU, mtu) if mtu else b""))


def delete_link(netlink: Netlink, index: int) -> None:
    """Delete interface `index`, whatever it is."""
    netlink.change(DELETE, 0, _INFO.pack(socket.AF_UNSPEC, 0, index, 0, 0))


def parse(message: bytes) -> tuple[int, int, dict[int, bytes]]:
    """Index, flags and attributes (IFLA_*) of the interface that `message` tells."""
    _, _, index, flags, _ = _INFO.unpack_from(message)
    return index, flags, attributes(message, _INFO.size)


def _link(index: int, flags: int, found: dict[int, bytes], names: dict[int, str]) -> Link:
    return Link(
        as_text(found.get(_IFNAME)),
        index,
        _kind(found)[0],
        bool(flags & UP),
        as_number(found.get(_MTU)),
        bool(flags & LOOPBACK),
        names.get(as_number(found.get(_MASTER)), ""),
    )


def _kind(found: dict[int, bytes]) -> tuple[str, bytes]:
    nested = attributes(found.get(_LINKINFO, b""))
    return as_text(nested.get(_KIND)), nested.get(_DATA, b"")
