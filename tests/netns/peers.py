"""Odd servers and proxies, all in one program that runs in S (ports.py says where).

What they notice goes to standard output, a JSON object a line: how a connection ended ("fin" or "reset"),
what had arrived, what a proxy was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import ClassVar

from tests.netns import ports
from tests.netns.chaos import Plan, converse
from tests.netns.connect_proxy import ConnectProxy
from tests.netns.pattern import blocks
from tests.netns.topology import SERVER
from tunsmith.dial.conversation import Conversation
from tunsmith.flow import Target
from tunsmith.testing.socks_server import SocksServer

READY = "ready"
NAMES = {"www.example.test": SERVER[4], "six.example.test": SERVER[6], "quic.example.test": SERVER[4]}
"""What the proxies know; nobody else does."""
REPLY_NAMES = {f"reply-{code}.example.test": code for code in range(1, 9)}
"""Names for which the SOCKS proxies answer with that code."""
UDP_SEGMENT = 103
_RST_ON_CLOSE = struct.pack("ii", 1, 0)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def say(server: str, **fields: object) -> None:
    os.write(1, json.dumps({"server": server, **fields}).encode() + b"\n")


class Word:
    """A line on standard input: what waits goes on."""

    waiting: ClassVar[list[asyncio.Future[None]]] = []

    @classmethod
    async def come(cls) -> None:
        cls.waiting.append(asyncio.get_running_loop().create_future())
        await cls.waiting[-1]

    @classmethod
    async def listen(cls) -> None:
        """Until the end of standard input."""
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.buffer.readline):
            for future in cls.waiting:
                future.set_result(None)
            cls.waiting.clear()


async def read_to_end(reader: asyncio.StreamReader) -> dict[str, object]:
    """How many bytes came, their digest, and how it ended."""
    sha, count, end = hashlib.sha256(), 0, "fin"
    try:
        while data := await reader.read(1 << 18):
            sha.update(data)
            count += len(data)
    except ConnectionResetError:
        end = "reset"
    return {"count": count, "sha256": sha.hexdigest(), "end": end}


def reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    writer.transport.abort()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    seen = await read_to_end(reader)
    say("digest", **seen)
    writer.write(json.dumps(seen).encode())


async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await Word.come()
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    say("late", **await read_to_end(reader))


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads a megabyte a second, in gulps."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    sha, count, end = hashlib.sha256(), 0, "fin"
    try:
        while data := await reader.read(1 << 14):
            sha.update(data)
            count += len(data)
            if count & 0x1FFFF < len(data):
                await asyncio.sleep(0.12)
    except ConnectionResetError:
        end = "reset"
    say("slow", count=count, sha256=sha.hexdigest(), end=end)


async def source(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for block in blocks(int(await reader.readline())):
        writer.write(block)
        await writer.drain()
    writer.write_eof()
    say("source", **await read_to_end(reader))


async def fin_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.write_eof()
    say("fin_first", **await read_to_end(reader))


async def reset_after_a_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"half a li")
    await writer.drain()
    # What is still unsent would be thrown away by the reset.
    await reader.readline()
    reset(writer)


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    block = bytes(1 << 16)
    count = 0
    try:
        while True:
            writer.write(block)
            await writer.drain()
            count += len(block)
    except ConnectionError:
        say("flood", end="reset", count=count)


async def who(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, port = writer.get_extra_info("peername")[:2]
    writer.write(f"{host} {port}".encode())


async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    reset(writer)


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A SOCKS5 proxy whose answer never ends."""
    await reader.read(64)
    writer.write(b"\5\0")
    await reader.read(64)
    writer.write(b"\5\0\0\3\xff")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.3)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def chaos(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    plan = Plan(**json.loads(await reader.readline()))
    say("chaos", number=plan.number, **await converse(reader, writer, plan.down, plan.server))


HANDLERS: dict[int, Handler] = {
    ports.CHAOS: chaos,
    ports.ECHO: echo,
    ports.DIGEST: digest,
    ports.LATE: late,
    ports.SLOW: slow,
    ports.SOURCE: source,
    ports.FIN_FIRST: fin_first,
    ports.RESET: reset_after_a_line,
    ports.DEAF: deaf,
    ports.FLOOD: flood,
    ports.WHO: who,
    ports.WHO_ELSE: who,
    ports.HANGING: hang,
    ports.RESETTING: slam,
    ports.TRICKLING: trickle,
}


async def serve(handler: Handler, host: str, port: int) -> asyncio.Server:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)
        writer.close()

    return await asyncio.start_server(guarded, host, port, backlog=1024)


class Answers(asyncio.DatagramProtocol):
    """UDP: what `answer(data, address)` gives goes back."""

    def __init__(self, answer: Callable[[bytes, tuple[str, int]], bytes]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not the transport: in Python 3.11 it sends no empty datagrams.
        self.sock: socket.socket = transport.get_extra_info("socket")._sock

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.sock.sendto(self._answer(data, address), address)


class Stranger(Answers):
    """Answers from another socket."""

    def __init__(self, family: int) -> None:
        self._other = socket.socket(family, socket.SOCK_DGRAM)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._other.sendto(data, address)


class Burst(Answers):
    """Sends what it is asked for, as the kernel cuts it."""

    def __init__(self) -> None:
        pass

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        first, count, size = map(int, data.split())
        whole = b"".join(number.to_bytes(4, "big") * (size // 4) for number in range(first, first + count))
        self.sock.sendmsg([whole], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))], 0, address)


async def serve_udp(family: int, host: str) -> None:
    loop = asyncio.get_running_loop()

    def where(data: bytes, address: tuple[str, int]) -> bytes:
        return f"{address[0]} {address[1]}".encode()

    for port, make in {
        ports.ECHO: lambda: Answers(lambda data, address: data),
        ports.WHO: lambda: Answers(where),
        ports.WHO_ELSE: lambda: Answers(where),
        ports.STRANGER: lambda: Stranger(family),
        ports.BURST: Burst,
    }.items():
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        await loop.create_datagram_endpoint(make, sock=sock)


class Proxy(SocksServer):
    """Well-behaved, but for the names that ask for something else; says whom it was asked for."""

    async def _connect(self, talk: Conversation, target: Target) -> None:
        say("socks", port=self.port, target=str(target), name=target.is_name)
        if target.host in REPLY_NAMES:
            await talk.say(bytes((5, REPLY_NAMES[target.host], 0, 1, 0, 0, 0, 0, 0, 0)))
        elif target.host == "hang.example.test":
            await asyncio.Event().wait()
        elif target.host == "reset.example.test":
            talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        elif target.host == "nonsense.example.test":
            await talk.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        else:
            await super()._connect(talk, target)


async def serve_proxies() -> None:
    user, password = ports.CREDENTIALS
    host = SERVER[4]
    await Proxy(host, ports.SOCKS, hosts=NAMES).start()
    credentials = (user.encode(), password.encode())
    await Proxy(host, ports.SOCKS_PASSWORD, hosts=NAMES, credentials=credentials).start()
    await Proxy(host, ports.SOCKS_WITHOUT_UDP, hosts=NAMES, udp=False).start()
    await Proxy(SERVER[6], ports.SOCKS, hosts=NAMES).start()
    await ConnectProxy(NAMES, say).start(host, ports.CONNECT)
    await ConnectProxy(NAMES, say, f"{user}:{password}").start(host, ports.CONNECT_PASSWORD)


async def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    servers = []
    for host in SERVER.values():
        servers += [await serve(handler, host, port) for port, handler in HANDLERS.items()]
    await serve_udp(socket.AF_INET, SERVER[4])
    await serve_udp(socket.AF_INET6, SERVER[6])
    await serve_proxies()
    say(READY)
    await Word.listen()


if __name__ == "__main__":
    asyncio.run(main())
