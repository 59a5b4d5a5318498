"""What programs want to know of a socket, where there is none: asyncio's transports and servers show theirs.

These have no descriptor (`fileno` is -1, as of a closed socket) and carry no data; they answer questions and take
the options that a connection of ours has.
"""

from __future__ import annotations

import errno
import socket
import sys
from dataclasses import dataclass, replace
from struct import Struct
from typing import TYPE_CHECKING, Any

from tunsmith.aio.address import SocketAddress, os_error, socket_address
from tunsmith.stack.tcp.policy import Keepalive

if TYPE_CHECKING:
    from tunsmith.aio.transport import Transport

Option = tuple[int, int]
"""Level and name, as setsockopt has them."""

_OPTIONS: dict[Option, str] = {
    (socket.SOL_SOCKET, socket.SO_RCVBUF): "receive_buffer",
    (socket.SOL_SOCKET, socket.SO_SNDBUF): "send_buffer",
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG): "mss",
    (socket.IPPROTO_IP, socket.IP_TOS): "traffic_class",
    (socket.IPPROTO_IPV6, socket.IPV6_TCLASS): "traffic_class",
    (socket.IPPROTO_IP, socket.IP_TTL): "ttl",
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS): "ttl",
}
_FLAGS: dict[Option, str] = {
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): "nodelay",
    (socket.IPPROTO_TCP, socket.TCP_CORK): "cork",
}
_KEEPALIVE: dict[Option, str] = {
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): "idle",
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): "interval",
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): "count",
}
_KEEPALIVE_ON = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
_USER_TIMEOUT = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
_LINGER = (socket.SOL_SOCKET, socket.SO_LINGER)
_ABOUT_BINDING = {(socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_REUSEPORT)}
"""A connection has its port already, and a stack needs no leave to use one again."""
_KNOWN: dict[Option, int] = {
    (socket.SOL_SOCKET, socket.SO_ERROR): 0,
    (socket.SOL_SOCKET, socket.SO_TYPE): socket.SOCK_STREAM,
    (socket.SOL_SOCKET, socket.SO_PROTOCOL): socket.IPPROTO_TCP,
    (socket.SOL_SOCKET, socket.SO_ACCEPTCONN): 0,
}
_LINGER_STRUCT = Struct("ii")


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
        self._keepalive = Keepalive()
        """What keeping alive means once it is switched on."""

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET if len(self.getsockname()) == 2 else socket.AF_INET6

    def getsockname(self) -> SocketAddress:
        name: SocketAddress = self._transport.get_extra_info("sockname")
        return name

    def getpeername(self) -> SocketAddress:
        name: SocketAddress = self._transport.get_extra_info("peername")
        return name

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """Set an option as one of `Options`. Raises OSError ENOPROTOOPT for those we do not have, EINVAL for values
        that make no sense."""
        option = level, name
        number = value if isinstance(value, int) else int.from_bytes(value, sys.byteorder)
        if option in _OPTIONS:
            setting = number & ~3 if _OPTIONS[option] == "traffic_class" else number  # ECN is not the owner's
            self._transport.set_option(_OPTIONS[option], setting)
        elif option in _FLAGS:
            self._transport.set_option(_FLAGS[option], bool(number))
        elif option == _KEEPALIVE_ON:
            self._transport.set_option("keepalive", self._keepalive if number else None)
        elif option in _KEEPALIVE:
            self._keepalive = replace(self._keepalive, **{_KEEPALIVE[option]: number})
            if self._transport.get_option("keepalive") is not None:
                self._transport.set_option("keepalive", self._keepalive)
        elif option == _USER_TIMEOUT:
            self._transport.set_option("user_timeout", number / 1000 if number else None)
        elif option == _LINGER:
            if isinstance(value, int) or len(value) != _LINGER_STRUCT.size:
                raise os_error(errno.EINVAL, "SO_LINGER takes a struct linger")
            on, seconds = _LINGER_STRUCT.unpack(value)
            self._transport.set_option("linger", seconds if on else None)
        elif option not in _ABOUT_BINDING:
            raise _unknown(option)

    def getsockopt(self, level: int, name: int, length: int = 0) -> int | bytes:
        """What setsockopt takes: a number, or `length` bytes; 0 where the stack's own setting holds."""
        if (level, name) == _LINGER:
            linger: Any = self._transport.get_option("linger")
            return _LINGER_STRUCT.pack(linger is not None, int(linger or 0))[: length or None]
        number = self._number((level, name))
        return number.to_bytes(4, sys.byteorder)[:length] if length else number

    def _number(self, option: Option) -> int:
        get = self._transport.get_option
        value: Any = 0
        if option in _KNOWN:
            return _KNOWN[option]
        if option in _OPTIONS or option in _FLAGS:
            value = get(_OPTIONS.get(option) or _FLAGS[option])
        elif option == _KEEPALIVE_ON:
            value = get("keepalive") is not None
        elif option in _KEEPALIVE:
            value = getattr(self._keepalive, _KEEPALIVE[option])
        elif option == _USER_TIMEOUT:
            value = (get("user_timeout") or 0) * 1000  # type: ignore[operator]
        elif option not in _ABOUT_BINDING:
            raise _unknown(option)
        return int(value or 0)

    def fileno(self) -> int:
        return -1

    def __repr__(self) -> str:
        return f"<ConnectedSocket {self.getsockname()} to {self.getpeername()}>"


def _unknown(option: Option) -> OSError:
    return os_error(errno.ENOPROTOOPT, f"level {option[0]}, option {option[1]}")


def _family(address: bytes) -> socket.AddressFamily:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6
