"""A small DNS server on loopback, UDP and TCP, made of dnspython; and a network that hides where it is."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tunsmith.dial.base import DatagramFault, Datagrams, Stream
from tunsmith.dial.block import BlockDialer
from tunsmith.dial.direct import DirectDialer
from tunsmith.errors import DialError
from tunsmith.flow import Target

Handler = Callable[[dns.message.Message, str], dns.message.Message | bytes | None]
"""Gets the query and "udp" or "tcp"; None is silence."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def zone(message: dns.message.Message, transport: str) -> dns.message.Message:
    """A for every name, a TXT of 3000 octets (hence TC over UDP), NXDOMAIN below `none.`."""
    reply = dns.message.make_response(message)
    question = message.question[0]
    rdtype = question.rdtype.name
    if question.name.to_text().endswith("none."):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    elif rdtype == "A":
        reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "192.0.2.80"))
    elif rdtype == "TXT" and transport == "udp":
        reply.flags |= dns.flags.TC
    elif rdtype == "TXT":
        text = " ".join(f'"{"x" * 250}"' for _ in range(12))
        reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "TXT", text))
    return reply


def silence(message: dns.message.Message, transport: str) -> None:
    """Never answers."""


def failing(rcode: dns.rcode.Rcode) -> Handler:
    def handler(message: dns.message.Message, transport: str) -> dns.message.Message:
        reply = dns.message.make_response(message)
        reply.set_rcode(rcode)
        return reply

    return handler


class DnsServer(asyncio.DatagramProtocol):
    """`async with DnsServer("127.0.0.1", port, zone) as server:`; `asked` lists (name, type, transport)."""

    def __init__(self, host: str, port: int, handler: Handler = zone) -> None:
        self.host = host
        self.port = port
        self.handler = handler
        self.asked: list[tuple[str, str, str]] = []
        self.ports: set[int] = set()
        self.raw: list[bytes] = []

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, (self.host, self.port))
        self._tcp = await asyncio.start_server(self.serve_stream, self.host, self.port)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()
        await asyncio.sleep(0)  # the datagram transport closes in the next turn of the loop

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.ports.add(addr[1])
        reply = self._answer(data, "udp")
        if reply is not None:
            self._udp.sendto(reply, addr)

    async def serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack(">H", await reader.readexactly(2))
                reply = self._answer(await reader.readexactly(length), "tcp")
                if reply is not None:
                    framed = struct.pack(">H", len(reply)) + reply
                    for cut in (framed[:1], framed[1:20], framed[20:]):
                        writer.write(cut)
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, data: bytes, transport: str) -> bytes | None:
        self.raw.append(data)
        message = dns.message.from_wire(data)
        question = message.question[0]
        self.asked.append((question.name.to_text(), question.rdtype.name, transport))
        reply = self.handler(message, transport)
        return reply.to_wire(max_size=65535) if isinstance(reply, dns.message.Message) else reply


class Elsewhere(DirectDialer):
    """A direct dialer in whose network 192.0.2.N is our 127.0.0.N, so that resolvers look remote.
    Counts the sockets that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[Target] = []
        self.open = 0
        self.most_open = 0

    async def open_stream(self, target: Target) -> Stream:
        self.targets.append(target)
        return await super().open_stream(Target(target.host.replace("192.0.2.", "127.0.0."), target.port))

    async def open_datagrams(self, family: int) -> Datagrams:
        port = _Translated(await super().open_datagrams(family), self)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return port


class _Translated:
    def __init__(self, inner: Datagrams, dialer: Elsewhere) -> None:
        self._inner = inner
        self._dialer = dialer

    def fileno(self) -> int:
        return self._inner.fileno()

    def send(self, parts: list[bytes] | list[memoryview], segment_size: int, target: Target) -> None:
        self._dialer.targets.append(target)
        inside = Target(target.host.replace("192.0.2.", "127.0.0."), target.port)
        self._inner.send(parts, segment_size, inside)

    def receive(self) -> tuple[bytes, int, Target]:
        data, size, peer = self._inner.receive()
        return data, size, Target(peer.host.replace("127.0.0.", "192.0.2."), peer.port)

    def faults(self) -> Iterable[DatagramFault]:
        return self._inner.faults()

    def close(self) -> None:
        self._dialer.open -= 1
        self._inner.close()


class Proxy(BlockDialer):
    """A dialer for names: every stream ends at `server`, whatever it was asked for. Carries nothing else."""

    def __init__(self, server: DnsServer | None) -> None:
        self._server = server
        self._direct = DirectDialer()
        self.targets: list[Target] = []

    async def open_stream(self, target: Target) -> Stream:
        self.targets.append(target)
        if self._server is None:
            raise DialError("down")
        return await self._direct.open_stream(Target(self._server.host, self._server.port))

    async def open_datagrams(self, family: int) -> Datagrams:
        raise AssertionError("a query would leak past the proxy")
