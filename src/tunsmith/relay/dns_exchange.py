"""One question put to one server: over UDP from a port of its own, or over a TCP connection of its own.

A fresh port for each question is what makes answers hard to forge (RFC 5452 §9.2); it is closed with the
answer. Upstream sockets come from the dialer, which pins them to the chosen interface. The exceptions are
servers whose address itself says where they are, loopback (systemd-resolved, dnsmasq) and scoped link-local
(fe80::1%eth0): no interface may or need bend the way to them; a mark they get like all others.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from tunsmith.dial.base import Datagrams, Dialer, Stream
from tunsmith.dial.escape import Escape
from tunsmith.dial.readiness import readable, writable
from tunsmith.errors import DialError, DialRefused
from tunsmith.flow import Target
from tunsmith.wire import dns
from tunsmith.wire.dns_stream import Deframer, frame

PORT = 53
_READ = 65536


@dataclass(frozen=True, slots=True)
class Server:
    """A resolver to ask. `near` is its socket address where it is reached without the dialer."""

    target: Target
    family: int
    packed: bytes
    near: tuple[Any, ...] | None
    escape: Escape | None = None

    def open_near(self, kind: int) -> socket.socket:
        """A non-blocking socket of `kind` to reach `near` with."""
        sock = socket.socket(self.family, kind | socket.SOCK_NONBLOCK)
        if self.escape is not None:
            self.escape.mark_only(sock)
        return sock

    @classmethod
    def of(cls, address: str, port: int = PORT, escape: Escape | None = None) -> Server:
        """`address` is an IP literal, scoped if need be; sockets that no dialer opens are marked as `escape` says.
        Raises ValueError or OSError (no such interface)."""
        ip = ip_address(address)
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        near = None
        if ip.is_loopback or "%" in address:
            numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            near = socket.getaddrinfo(address, port, family, socket.SOCK_DGRAM, flags=numeric)[0][4]
        return cls(Target(address, port), family, ip.packed, near, escape)


async def ask_udp(dialer: Dialer, server: Server, query: dns.Query) -> bytes:
    """The first datagram from `server` that is a reply to `query`. Waits for ever; raises DialError or
    OSError where the server or the way to it refuses."""
    if server.near is not None:
        return await _ask_near(server, query)
    port = await dialer.open_datagrams(server.family)
    try:
        port.send([query.wire], 0, server.target)
        while True:
            await readable(port.fileno())
            for datagram, peer in _received(port):
                from_server = (
                    peer.port == server.target.port and ip_address(peer.host).packed == server.packed
                )
                if from_server and dns.is_reply(query, datagram):
                    return datagram
            for fault in port.faults():
                raise DialRefused(f"resolver {server.target}: ICMP {fault.icmp_type}/{fault.icmp_code}")
    finally:
        port.close()


def _received(port: Datagrams) -> Iterator[tuple[bytes, Target]]:
    """The datagrams that have arrived, one by one, each with its sender."""
    while True:
        try:
            data, size, peer = port.receive()
        except BlockingIOError:
            return
        except EOFError:
            raise DialError("the way to the resolver is gone") from None
        for start in range(0, len(data), size or len(data) or 1):
            yield data[start : start + size] if size else data, peer


async def _ask_near(server: Server, query: dns.Query) -> bytes:
    loop = asyncio.get_running_loop()
    with server.open_near(socket.SOCK_DGRAM) as sock:
        assert server.near is not None
        sock.connect(server.near)
        sock.send(query.wire)
        while True:
            data = await loop.sock_recv(sock, _READ)
            if dns.is_reply(query, data):
                return data


async def ask_tcp(dialer: Dialer, server: Server, query: dns.Query) -> bytes:
    """The reply of `server` over TCP. Waits for ever; raises DialError or OSError."""
    if server.near is None:
        return await ask_stream(await dialer.open_stream(server.target), query)
    sock = server.open_near(socket.SOCK_STREAM)
    try:
        await _connect(sock, server.near)
    except BaseException:
        sock.close()
        raise
    return await ask_stream(Stream(sock), query)


async def ask_stream(stream: Stream, query: dns.Query) -> bytes:
    """Put `query` to the DNS server at the other end of `stream`, then close that. Raises DialError or
    OSError."""
    loop = asyncio.get_running_loop()
    deframer = Deframer()
    with stream.sock as sock:
        await loop.sock_sendall(sock, frame(query.wire))
        data = stream.early or await loop.sock_recv(sock, _READ)
        while data:
            for message in deframer.feed(data):
                if dns.is_reply(query, message):
                    return message
            data = await loop.sock_recv(sock, _READ)
    raise DialError("the resolver hung up without an answer")


async def _connect(sock: socket.socket, address: tuple[Any, ...]) -> None:
    code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        await writable(sock.fileno())
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
