"""End a TCP connection of a program of this machine, whose address the machine has lost: sock_diag(7), SOCK_DESTROY.

No packet can tell such a program: none would arrive. Without this it waits for its own timeouts, a quarter of an hour
as a rule. It sees ECONNABORTED. Needs CAP_NET_ADMIN and a kernel with CONFIG_INET_DIAG_DESTROY, as distributions
have it; where either is missing, nothing happens.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress

from tunsmith.host.netlink.channel import Netlink

End = tuple[bytes, int]
"""Packed address and port."""

_NETLINK_SOCK_DIAG = 4
_SOCK_DESTROY = 21
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_REQUEST = struct.Struct("=BBxxI")
_PORTS = struct.Struct(">HH")
_LINK = struct.Struct("=I")


def sever(connections: Iterable[tuple[End, End]]) -> None:
    """End each connection from the first end, which is here, to the second, as far as there is one."""
    with suppress(OSError), Netlink(_NETLINK_SOCK_DIAG) as netlink:
        for (here, port), (there, there_port) in connections:
            family = socket.AF_INET if len(here) == 4 else socket.AF_INET6
            request = b"".join(
                (
                    _REQUEST.pack(family, socket.IPPROTO_TCP, _ANY_STATE),
                    _PORTS.pack(port, there_port),
                    here.ljust(16, b"\0"),
                    there.ljust(16, b"\0"),
                    _LINK.pack(0),
                    _NO_COOKIE,
                )
            )
            with suppress(FileNotFoundError):  # it has ended
                netlink.change(_SOCK_DESTROY, 0, request)
