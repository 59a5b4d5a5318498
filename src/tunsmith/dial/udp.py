"""One UDP port of this machine, talking to any number of peers.

The socket stays unconnected, so every peer sees the same address and port: endpoint-independent mapping
(RFC 4787 §4.1), which peer-to-peer programs need. A connected socket would be told ICMP errors by
errno; an unconnected one is told with IP_RECVERR, through its error queue and with the destination that
caused each.

Super-datagrams go both ways. UDP_SEGMENT cuts one buffer into datagrams in the kernel or in the network
card, UDP_GRO hands a run of equal datagrams over as one; at 64 KiB per system call Python's cost per
datagram all but vanishes.

The don't-fragment bit is left to the system default (`net.ipv4.ip_no_pmtu_disc`, normally IP_PMTUDISC_WANT),
as it is for any program that does not ask: packets leave with DF, a "too big" is learnt and
reported in `faults`, and what exceeds the known path MTU is fragmented here. Fragmenting always (DONT) would
hide the path MTU from QUIC's probes; never (DO) would break programs that count on fragments.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Iterator

from tunsmith.dial.base import DatagramFault
from tunsmith.dial.errnos import dial_error
from tunsmith.dial.escape import Escape
from tunsmith.dial.resolve import Resolver, family_of
from tunsmith.errors import DialError
from tunsmith.flow import Target

IP_RECVERR = 11
IPV6_RECVERR = 25
UDP_SEGMENT = 103
UDP_GRO = 104
SO_RCVBUFFORCE = 33
_SO_EE_ORIGIN_LOCAL = 1

MAX_SEGMENTS = 64
"""UDP_MAX_SEGMENTS of the kernels before 6.7; newer ones take 128."""
RECEIVE_BUFFER = 4 << 20
SEND_BUFFER = 1 << 20
PEERS = 1024
"""Peers remembered per port, to save making a `Target` for each datagram."""
ERRORS = 64
"""Errors in a row that may be about datagrams sent before; more are about the socket itself."""
HELD = 16
"""Datagrams kept per port while the name they go to is looked up."""

CONTROL_SIZE = socket.CMSG_SPACE(4)
_ERROR_CONTROL_SIZE = socket.CMSG_SPACE(16 + 28)
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, type, code, info (the MTU), data."""
DATAGRAM_SIZE = 65536
NOT_SEGMENTABLE = frozenset({errno.EINVAL, errno.EMSGSIZE, errno.EIO})
"""UDP_SEGMENT refused: segments above the path MTU, or a route without checksum offload (EIO)."""

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
Parts = list[bytes] | list[memoryview]


def open_udp(family: int, escape: Escape | None, peer: Target | None = None) -> socket.socket:
    """A non-blocking UDP socket on a port of the kernel's choosing, with UDP_GRO and deep buffers; connected
    where `peer`, an IP literal, is all it will ever talk to. Raises DialError."""
    where = peer or "UDP"
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise dial_error(error.errno or 0, where) from None
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if escape is not None:
            escape.pin(sock, peer.host if peer else "")
        if peer is None:
            sock.bind(("", 0))
        else:
            sock.connect((peer.host, peer.port))
        if escape is not None and escape.underway is not None:
            escape.underway.opened(sock)
    except OSError as error:
        sock.close()
        raise dial_error(error.errno or 0, where) from None
    with contextlib.suppress(OSError):  # Linux 5.0
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError:  # not root: as much as net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock


class DirectDatagrams:
    """A `Datagrams` straight onto the network."""

    __slots__ = (
        "_family",
        "_held",
        "_last_address",
        "_last_target",
        "_lookups",
        "_named",
        "_names",
        "_peers",
        "_resolver",
        "_segment_control",
        "_segment_size",
        "_sock",
    )

    def __init__(self, family: int, escape: Escape | None, resolver: Resolver) -> None:
        """Raises DialError."""
        self._family = family
        self._resolver = resolver
        self._sock = open_udp(family, escape)
        level, option = (
            (socket.IPPROTO_IP, IP_RECVERR)
            if family == socket.AF_INET
            else (socket.IPPROTO_IPV6, IPV6_RECVERR)
        )
        self._sock.setsockopt(level, option, 1)
        self._last_target: Target | None = None
        self._last_address: SocketAddress = ("", 0)
        self._peers: dict[SocketAddress, Target] = {}
        self._segment_size = 0
        self._segment_control: list[tuple[int, int, bytes]] = []
        self._names: dict[str, str] = {}
        self._named: dict[tuple[str, int], Target] = {}
        self._held: list[tuple[bytes, int, Target]] = []
        self._lookups: dict[str, asyncio.Task[None]] = {}

    def fileno(self) -> int:
        """The descriptor to watch for reading."""
        return self._sock.fileno()

    def send(self, parts: Parts, segment_size: int, target: Target) -> None:
        """See `Datagrams.send`. Datagrams for a name wait while it is looked up, at most HELD of them."""
        if target is not self._last_target:
            address = self._address(target)
            if address is None:
                self._hold(b"".join(parts), segment_size, target)
                return
            self._last_target = target
            self._last_address = address
        if segment_size:
            self._send_segments(parts, segment_size, self._last_address)
        elif len(parts) == 1:
            self._send_one(parts[0], self._last_address)
        else:
            self._send_one(b"".join(parts), self._last_address)

    def receive(self) -> tuple[bytes, int, Target]:
        """See `Datagrams.receive`."""
        errors = 0
        while True:
            try:
                data, control, _, address = self._sock.recvmsg(DATAGRAM_SIZE, CONTROL_SIZE)
                break
            except BlockingIOError:
                raise
            except OSError:
                # The errno of an ICMP error that `faults` tells in full; reading it here has cleared it.
                errors += 1
                if errors > ERRORS:
                    raise
        peer = self._peers.get(address) or self._meet(address)
        if control:
            return data, int.from_bytes(control[0][2], sys.byteorder), peer
        return data, 0, peer

    def faults(self) -> Iterator[DatagramFault]:
        """See `Datagrams.faults`."""
        while True:
            try:
                _, control, _, address = self._sock.recvmsg(0, _ERROR_CONTROL_SIZE, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for _, kind, error in control:
                if kind not in (IP_RECVERR, IPV6_RECVERR) or len(error) < _EXTENDED_ERROR.size or not address:
                    continue
                code, origin, icmp_type, icmp_code, info, _ = _EXTENDED_ERROR.unpack_from(error)
                peer = self._peers.get(address) or self._meet(address)
                mtu = info if code == errno.EMSGSIZE else 0
                if origin == _SO_EE_ORIGIN_LOCAL:
                    yield DatagramFault(peer, code, -1, 0, mtu)
                else:
                    yield DatagramFault(peer, code, icmp_type, icmp_code, mtu)

    def close(self) -> None:
        """Close; idempotent."""
        for lookup in self._lookups.values():
            lookup.cancel()
        self._held.clear()
        self._sock.close()

    def _send_one(self, data: bytes | memoryview, address: SocketAddress) -> None:
        try:
            self._sock.sendto(data, address)
        except BlockingIOError:
            raise
        except OSError:
            # Either the pending errno of an earlier datagram, to anyone, now cleared; or this one's own,
            # which comes again.
            self._sock.sendto(data, address)

    def _send_segments(self, parts: Parts, size: int, address: SocketAddress) -> None:
        if size != self._segment_size:
            self._segment_size = size
            self._segment_control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
        if sum(map(len, parts)) > size * MAX_SEGMENTS:
            self._send_singly(parts, size, address)
            return
        try:
            self._sock.sendmsg(parts, self._segment_control, 0, address)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in NOT_SEGMENTABLE:
                self._send_singly(parts, size, address)
            else:  # pending, as in _send_one
                self._sock.sendmsg(parts, self._segment_control, 0, address)

    def _send_singly(self, parts: Parts, size: int, address: SocketAddress) -> None:
        data = memoryview(b"".join(parts))
        for start in range(0, len(data), size):
            self._send_one(data[start : start + size], address)

    def _address(self, target: Target) -> SocketAddress | None:
        """Where to send what is for `target`; None while its name is not known."""
        family = family_of(target.host)
        if family is None:
            host = self._names.get(target.host)
            if host is None:
                return None
            self._named[host, target.port] = target
            self._peers.clear()  # they may know this peer by its address
            return host, target.port
        if family != self._family:
            raise OSError(errno.EAFNOSUPPORT, f"{target}: not of this port's address family")
        return target.host, target.port

    def _meet(self, address: SocketAddress) -> Target:
        host, port = address[0].partition("%")[0], address[1]
        peer = self._named.get((host, port)) or Target(host, port)
        if len(self._peers) >= PEERS:
            self._peers.clear()
        self._peers[address] = peer
        return peer

    def _hold(self, data: bytes, segment_size: int, target: Target) -> None:
        if len(self._held) < HELD:
            self._held.append((data, segment_size, target))
        if target.host not in self._lookups:
            self._lookups[target.host] = asyncio.ensure_future(self._learn(target.host))

    async def _learn(self, name: str) -> None:
        """Look `name` up and send what waited for it; a failed lookup loses that."""
        try:
            found = await self._resolver.addresses(name)
        except DialError:
            found = []
        finally:
            del self._lookups[name]
        address = next((address for family, address in found if family == self._family), None)
        waited = [held for held in self._held if held[2].host == name]
        self._held = [held for held in self._held if held[2].host != name]
        if address is None:
            return
        if len(self._names) >= PEERS or len(self._named) >= PEERS:
            self._names.clear()
            self._named.clear()
        self._names[name] = address
        for data, segment_size, target in waited:
            with contextlib.suppress(OSError):
                self.send([data], segment_size, target)
