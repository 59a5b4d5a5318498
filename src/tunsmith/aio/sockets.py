"""What programs want to know of a socket, where there is none: asyncio's transports and servers show theirs.

These have no descriptor (`fileno` is -1, as of a closed socket) and carry no data; they answer questions and take
the options that a connection of ours has.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunsmith.aio.address import SocketAddress, os_error, socket_address
from tunsmith.stack.tcp.policy import Keepalive

if TYPE_CHECKING:
    from tunsmith.aio.transport import Transport

_OPTIONS = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): "keepalive",
    (socket.SOL_SOCKET, socket.SO_RCVBUF): "receive_buffer",
    (socket.SOL_SOCKET, socket.SO_SNDBUF): "send_buffer",
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): "nodelay",
    (socket.IPPROTO_TCP, socket.TCP_CORK): "cork",
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG): "mss",
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): "user_timeout",
    (socket.IPPROTO_IP, socket.IP_TOS): "traffic_class",
    (socket.IPPROTO_IPV6, socket.IPV6_TCLASS): "traffic_class",
    (socket.IPPROTO_IP, socket.IP_TTL): "ttl",
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS): "ttl",
}


@dataclass(frozen=True, slots=True, repr=False)
class ListeningSocket:
    """Where a server listens."""

    address: bytes
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return _family(self.address)

    @property
    def type(self) -> socket.SocketKind:
        return socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        return socket.IPPROTO_TCP

    def getsockname(self) -> SocketAddress:
        return socket_address(self.address, self.port)

    def fileno(self) -> int:
        return -1

    def __repr__(self) -> str:
        return f"<ListeningSocket {self.getsockname()}>"


class ConnectedSocket:
    """The ends and the options of a transport's connection."""

    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET if len(self.getsockname()) == 2 else socket.AF_INET6

    def getsockname(self) -> SocketAddress:
        name: SocketAddress = self._transport.get_extra_info("sockname")
        return name

    def getpeername(self) -> SocketAddress:
        name: SocketAddress = self._transport.get_extra_info("peername")
        return name

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option as one of `Options`. Raises OSError ENOPROTOOPT for those we do not have."""
        name = _name(level, option)
        setting: Any = value
        if name == "keepalive":
            setting = Keepalive() if value else None
        elif name in ("nodelay", "cork"):
            setting = bool(value)
        elif name == "user_timeout":
            setting = int(value) / 1000 if value else None
        self._transport.set_option(name, setting)

    def getsockopt(self, level: int, option: int) -> int:
        """The number that setsockopt takes; 0 where the stack's own setting holds."""
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return 0
        name = _name(level, option)
        value: Any = self._transport.get_option(name)
        if name == "keepalive":
            return int(value is not None)
        return int((value or 0) * 1000 if name == "user_timeout" else value or 0)

    def fileno(self) -> int:
        return -1

    def __repr__(self) -> str:
        return f"<ConnectedSocket {self.getsockname()} to {self.getpeername()}>"


def _name(level: int, option: int) -> str:
    try:
        return _OPTIONS[level, option]
    except KeyError:
        raise os_error(errno.ENOPROTOOPT, f"level {level}, option {option}") from None


def _family(address: bytes) -> socket.AddressFamily:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6
