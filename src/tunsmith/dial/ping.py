"""Pings from this machine: one socket, one echo identifier.

An ICMP datagram socket needs no privilege where net.ipv4.ping_group_range includes the caller's group: the
kernel gives it an identifier of its own and hands over the replies to that, nothing else. Where the range
does not, a raw socket serves whoever may open one (CAP_NET_RAW); it sees all echo replies of the machine, so
the identifier is drawn at random and looked for here.

Errors come through the error queue (IP_RECVERR), with the address of the router or host that reported them
and the request it quoted; the socket stays unconnected, so that replies from other addresses arrive too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator

from tunsmith.dial.base import PingFault, PingReply
from tunsmith.dial.errnos import dial_error
from tunsmith.dial.escape import Escape
from tunsmith.errors import DialProhibited
from tunsmith.wire.checksum import finish, ones_sum
from tunsmith.wire.icmp import ECHO_REPLY, ECHO_REQUEST, HEADER_LENGTH, ICMP
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

IP_RECVERR = 11
IP_RECVTTL = 12
IPV6_RECVERR = 25
_ICMP_FILTER = 1
_ICMP6_FILTER = 1
_SOL_RAW = 255
_ORIGIN_LOCAL = 1
_MESSAGE_SIZE = 65536
_QUOTE_SIZE = 2048
_TTL_ROOM = socket.CMSG_SPACE(4)
_ERROR_ROOM = _TTL_ROOM + socket.CMSG_SPACE(16 + 28)
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, type, code, info (the MTU), data; the offender follows."""

FORBIDDEN = (
    "ping is not permitted: net.ipv4.ping_group_range does not include this user's group; "
    "root can allow it with: sysctl -w net.ipv4.ping_group_range='0 2147483647'"
)


class DirectPings:
    """A `Pings` straight onto the network."""

    __slots__ = ("_family", "_identifier", "_is_raw_ipv4", "_sock", "_ttl", "_ttl_option")

    def __init__(self, family: int, escape: Escape | None) -> None:
        """Raises DialError."""
        self._family: IpFamily = IPV4 if family == socket.AF_INET else IPV6
        self._ttl_option = (
            (socket.IPPROTO_IP, socket.IP_TTL)
            if self._family is IPV4
            else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        )
        self._ttl = 0
        try:
            self._sock, self._identifier = _open(family)
            self._is_raw_ipv4 = self._identifier is not None and self._family is IPV4
        except OSError as error:
            raise dial_error(error.errno or 0, "ping") from None
        try:
            self._sock.setblocking(False)
            if escape is not None:
                escape.pin(self._sock, "")
            _ask_for_errors_and_ttl(self._sock, self._family)
            if escape is not None and escape.underway is not None:
                escape.underway.pinging(self._sock, self._identifier)
        except OSError as error:
            self._sock.close()
            raise dial_error(error.errno or 0, "ping") from None

    def fileno(self) -> int:
        """The descriptor to watch for reading."""
        return self._sock.fileno()

    def send(self, host: str, sequence: int, data: bytes, ttl: int) -> None:
        """See `Pings.send`."""
        if ttl != self._ttl:
            self._sock.setsockopt(*self._ttl_option, ttl)
            self._ttl = ttl
        rest = (self._identifier or 0) << 16 | sequence
        request = ICMP.pack(ECHO_REQUEST[self._family], 0, 0, rest) + data
        if self._is_raw_ipv4:
            request = request[:2] + finish(ones_sum(request)).to_bytes(2, "big") + request[4:]
        try:
            self._sock.sendto(request, (host, 0))
        except BlockingIOError:
            raise
        except OSError:
            # Either the pending errno of an earlier request, now cleared; or this one's own, which comes
            # again.
            self._sock.sendto(request, (host, 0))

    def receive(self) -> PingReply:
        """See `Pings.receive`."""
        while True:
            message, control, _, address = self._sock.recvmsg(_MESSAGE_SIZE, _TTL_ROOM)
            if self._is_raw_ipv4:
                message = message[(message[0] & 15) * 4 :]
            if len(message) < HEADER_LENGTH:
                continue
            icmp_type, _, _, rest = ICMP.unpack_from(message)
            if icmp_type == ECHO_REPLY[self._family] and self._identifier in (None, rest >> 16):
                ttl = int.from_bytes(control[0][2], sys.byteorder) if control else 64
                return PingReply(_host(address), rest & 0xFFFF, message[HEADER_LENGTH:], ttl)

    def faults(self) -> Iterator[PingFault]:
        """See `Pings.faults`."""
        while True:
            try:
                quoted, control, _, address = self._sock.recvmsg(
                    _QUOTE_SIZE, _ERROR_ROOM, socket.MSG_ERRQUEUE
                )
            except OSError:
                return
            for _, kind, error in control:
                if kind not in (IP_RECVERR, IPV6_RECVERR) or len(quoted) < HEADER_LENGTH or not address:
                    continue
                code, origin, icmp_type, icmp_code, info, _ = _EXTENDED_ERROR.unpack_from(error)
                _, _, _, rest = ICMP.unpack_from(quoted)
                if origin == _ORIGIN_LOCAL or self._identifier not in (None, rest >> 16):
                    continue
                yield PingFault(
                    destination=_host(address),
                    sequence=rest & 0xFFFF,
                    offender=self._offender(error[_EXTENDED_ERROR.size :]),
                    icmp_type=icmp_type,
                    icmp_code=icmp_code,
                    mtu=info if code == errno.EMSGSIZE else 0,
                    data=quoted[HEADER_LENGTH:],
                )

    def close(self) -> None:
        """Close; idempotent."""
        self._sock.close()

    def _offender(self, address: bytes) -> str:
        """The text of a sockaddr_in or sockaddr_in6."""
        if self._family is IPV4:
            return socket.inet_ntop(socket.AF_INET, address[4:8])
        return socket.inet_ntop(socket.AF_INET6, address[8:24])


def _open(family: int) -> tuple[socket.socket, int | None]:
    """A socket for pings and, where it is ours to write and to look for, its identifier."""
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    try:
        return socket.socket(family, socket.SOCK_DGRAM, protocol), None
    except PermissionError:
        pass
    try:
        sock = socket.socket(family, socket.SOCK_RAW, protocol)
    except PermissionError:
        raise DialProhibited(FORBIDDEN) from None
    with contextlib.suppress(OSError):  # it only spares us the look at other messages
        if family == socket.AF_INET:
            sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << ECHO_REPLY[IPV4]) & 0xFFFFFFFF))
        else:
            blocked = [0xFFFFFFFF] * 8
            blocked[ECHO_REPLY[IPV6] // 32] ^= 1 << ECHO_REPLY[IPV6] % 32
            sock.setsockopt(protocol, _ICMP6_FILTER, struct.pack("=8I", *blocked))
    return sock, int.from_bytes(os.urandom(2), "big")


def _ask_for_errors_and_ttl(sock: socket.socket, family: IpFamily) -> None:
    if family is IPV4:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)


def _host(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    return address[0].partition("%")[0]
