"""Addresses of interfaces over netlink: RTM_GETADDR, RTM_NEWADDR, RTM_DELADDR.

IFA_LOCAL is the interface's own address and IFA_ADDRESS the other end of a point-to-point link. Where there is no
such end, IPv4 says the same in both, and IPv6 leaves IFA_LOCAL out.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address, ip_interface

from tunsmith.host.netlink.attributes import attribute, attributes
from tunsmith.host.netlink.channel import CREATE, EXCLUSIVE, Netlink
from tunsmith.route.facts import Address, Interface, LinkAddress

NEW, DELETE, GET = 20, 21, 22
_ADDRESS, _LOCAL = 1, 2
_NODAD, _DADFAILED, _TENTATIVE = 0x02, 0x08, 0x40

_INFO = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""


def read_addresses(netlink: Netlink, name_of: Callable[[int], str]) -> list[LinkAddress]:
    """Every address of the namespace; `name_of` tells an interface by its index."""
    messages = netlink.dump(GET, _INFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    found = (read_address(message, name_of) for message in messages)
    return [each for each in found if each is not None]


def read_address(message: bytes, name_of: Callable[[int], str]) -> LinkAddress | None:
    """The address that `message` tells; None where it is of neither family."""
    family, prefix, flags, scope, index = _INFO.unpack_from(message)
    found = attributes(message, _INFO.size)
    peer = found.get(_ADDRESS)
    local = found.get(_LOCAL, peer)
    if family not in (socket.AF_INET, socket.AF_INET6) or local is None or peer is None:
        return None
    address = ip_interface((ip_address(local), prefix))
    usable = not flags & (_DADFAILED | _TENTATIVE)
    return LinkAddress(name_of(index), address, ip_address(peer) if peer != local else None, scope, usable)


def add_address(netlink: Netlink, index: int, address: Interface, peer: Address | None) -> None:
    """Give interface `index` an address, usable at once: no duplicate address detection (RFC 4862)."""
    flags = _NODAD if address.version == 6 else 0
    netlink.change(NEW, CREATE | EXCLUSIVE, pack_address(index, address, peer, flags))


def delete_address(netlink: Netlink, index: int, address: Interface, peer: Address | None) -> None:
    """Take it away."""
    netlink.change(DELETE, 0, pack_address(index, address, peer))


def pack_address(index: int, address: Interface, peer: Address | None, flags: int = 0) -> bytes:
    """The body of a request about `address`; with `peer`, its prefix length is that of the peer's network."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    head = _INFO.pack(family, address.network.prefixlen, flags, 0, index)
    other = address.ip if peer is None else peer
    return head + attribute(_LOCAL, address.ip.packed) + attribute(_ADDRESS, other.packed)
