"""A link between this machine and a stack of ours: a TUN or TAP interface, made or found.

One that is there already, made by `ip tuntap add` say, is used as it is and left as it was. One that we make is set
up and gets an address on this machine's side, with the stack's as the other end of a point-to-point link, which
brings the route to it. Nothing has to be undone: the interface goes with its descriptor, however we die, and takes
address and route with it.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from tunsmith.errors import DeviceError, UsageError
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import open_tap, open_tun

if TYPE_CHECKING:
    from tunsmith.device.tun import TunDevice

Address = IPv4Address | IPv6Address

_SIOCGIFFLAGS = 0x8913
_IFF_UP = 0x1
_IFREQ_FLAGS = struct.Struct("16sH22x")


@dataclass(frozen=True, slots=True)
class Link:
    """An open interface. The device is the holder's; `made` is whether it was made for him, `up` whether packets
    can pass (one that was found may be down)."""

    device: TunDevice
    name: str
    made: bool
    up: bool
    here: Address | None
    """This machine's address on a link that was made."""


def open_link(
    name: str,
    stack: Address,
    machine: Address | None = None,
    *,
    tap: bool = False,
    default_route: bool = False,
) -> Link:
    """Open the TUN interface `name`, TAP with `tap`, for a stack that is `stack`. On one that is made, this machine
    is `machine`, or by default the other host of the stack's /30 (10.7.0.1 for 10.7.0.2; /126 for IPv6); with
    `default_route` all else goes there as well, which is for networks of one's own (host/private.py).

    Raises UsageError where `stack` is an address of this machine, and what open_tun raises; DeviceError where an
    interface that was made cannot be configured."""
    if is_local(stack):
        raise UsageError(f"{stack} is an address of this machine; the stack needs one of its own")
    found = _exists(name)
    device = (open_tap if tap else open_tun)(name)
    name = device.name
    if found:
        return Link(device, name, False, _is_up(name), None)
    here = machine or neighbour(stack)
    try:
        index = socket.if_nametoindex(name)
        with RtNetlink() as netlink:
            netlink.link_up(index)
            netlink.address_add(index, here, stack)
            if default_route:
                netlink.default_route_add(index, _family(stack))
    except OSError as error:
        device.close()
        raise DeviceError(f"cannot set up {name} with address {here}: {error.strerror}") from error
    return Link(device, name, True, True, here)


def neighbour(address: Address) -> Address:
    """The other host of the address's /30 or /126."""
    return type(address)(int(address) ^ 3)


def is_local(address: Address) -> bool:
    """Whether `address` belongs to this machine."""
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return False
        raise
    return True


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except (OSError, ValueError):
        return False
    return True


def _is_up(name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(name.encode(), 0))
    flags: int = _IFREQ_FLAGS.unpack(answer)[1]
    return bool(flags & _IFF_UP)
