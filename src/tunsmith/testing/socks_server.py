"""A well-behaved SOCKS5 server for tests and the demo: CONNECT and UDP ASSOCIATE, both families, names,
optional password. It does to the letter what RFC 1928 says, and remembers which names it was asked for.

One task a client. Associations are endpoint-independent: one outer port per family, replies from anyone,
each under the address it came from.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Mapping

from tunsmith.dial.base import Stream
from tunsmith.dial.conversation import Conversation, patience
from tunsmith.dial.resolve import Resolver
from tunsmith.dial.tcp import Connector
from tunsmith.errors import (
    DialError,
    DialProhibited,
    DialRefused,
    DialUnreachable,
    Reach,
    WireError,
)
from tunsmith.flow import Target
from tunsmith.testing.socks_association import BURST, REMEMBERED, Association
from tunsmith.wire import socks5
from tunsmith.wire.socks5 import Command, Method, Reply

HANDSHAKE_TIMEOUT = 10.0
_CHUNK = 1 << 17
_RESET = struct.pack("ii", 1, 0)
"""struct linger: close with RST."""


class SocksServer:
    """`async with SocksServer() as server:` listens on `server.host`, `server.port`.

    `credentials`: the user name and password clients must give. `hosts`: names this server knows, others
    are left to the system. `udp`: False refuses UDP ASSOCIATE. At most `limit` clients at a time."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        credentials: tuple[bytes, bytes] | None = None,
        hosts: Mapping[str, str] | None = None,
        udp: bool = True,
        limit: int = 1024,
    ) -> None:
        self.host = host
        self.port = port
        self.asked: deque[Target] = deque(maxlen=REMEMBERED)
        """Destinations of CONNECT and of each new UDP peer, as the clients wrote them, oldest first."""
        self._credentials = credentials
        self._hosts = dict(hosts or {})
        self._udp = udp
        self._limit = limit
        self.resolver = Resolver()
        self._connector = Connector(resolver=self.resolver)
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> list[str]:
        """The names among `asked`."""
        return [target.host for target in self.asked if target.is_name]

    async def __aenter__(self) -> SocksServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen. Raises OSError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def close(self) -> None:
        """Stop listening and hang up on everyone; idempotent."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(BURST):
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if len(self._tasks) >= self._limit:
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.ensure_future(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        with Conversation(sock, "a SOCKS5 client") as talk, contextlib.suppress(DialError, OSError):
            async with patience(HANDSHAKE_TIMEOUT, "the client said nothing"):
                if not await self._admit(talk):
                    return
                command, target = await self._request(talk)
            if command == Command.CONNECT:
                await self._connect(talk, target)
            elif command == Command.UDP_ASSOCIATE and self._udp:
                await self._associate(talk)
            else:
                await talk.say(socks5.reply(Reply.COMMAND_UNSUPPORTED))

    async def _admit(self, talk: Conversation) -> bool:
        method = Method.NONE if self._credentials is None else Method.PASSWORD
        if method not in await talk.hear(socks5.parse_greeting):
            await talk.say(socks5.choice(Method.NO_ACCEPTABLE))
            return False
        await talk.say(socks5.choice(method))
        if self._credentials is None:
            return True
        accepted = await talk.hear(socks5.parse_credentials) == self._credentials
        await talk.say(socks5.verdict(accepted))
        return accepted

    async def _request(self, talk: Conversation) -> tuple[int, Target]:
        refusal = None

        def parse(data: bytearray) -> tuple[tuple[int, socks5.Address], int] | None:
            nonlocal refusal
            try:
                return socks5.parse_request(data)
            except WireError as error:
                if error.reason == "address type":
                    refusal = Reply.ADDRESS_TYPE_UNSUPPORTED
                raise

        try:
            command, address = await talk.hear(parse)
        except DialError:
            if refusal is not None:
                await talk.say(socks5.reply(refusal))
            raise
        return command, Target(*address)

    def known(self, target: Target) -> Target:
        """`target` with the name replaced by its address, where this server knows it."""
        return Target(self._hosts.get(target.host, target.host), target.port)

    async def _connect(self, talk: Conversation, target: Target) -> None:
        self.asked.append(target)
        try:
            upstream = await self._connector.connect(self.known(target))
        except DialError as error:
            await talk.say(socks5.reply(_reply_for(error)))
            return
        with upstream:
            host, port = upstream.getsockname()[:2]
            await talk.say(socks5.reply(Reply.SUCCEEDED, host, port))
            client = talk.hand_over()
            with client.sock:
                await _splice(client, upstream)

    async def _associate(self, talk: Conversation) -> None:
        local, client = talk.sock.getsockname(), talk.sock.getpeername()
        association = Association(local[0], client[0], self.resolver, self.known, self.asked)
        try:
            await talk.say(socks5.reply(Reply.SUCCEEDED, local[0], association.port))
            await talk.hear(_until_end)
        finally:
            association.close()


def _until_end(data: bytearray) -> None:
    """A parser that is never satisfied, nor fooled into keeping what it hears."""
    data.clear()


def _reply_for(error: DialError) -> Reply:
    if isinstance(error, DialRefused):
        return Reply.REFUSED
    if isinstance(error, DialProhibited):
        return Reply.NOT_ALLOWED
    if isinstance(error, DialUnreachable):
        return {
            Reach.NETWORK: Reply.NETWORK_UNREACHABLE,
            Reach.HOST: Reply.HOST_UNREACHABLE,
            Reach.EXPIRED: Reply.TTL_EXPIRED,
        }[error.reach]
    return Reply.GENERAL_FAILURE


async def _splice(client: Stream, upstream: socket.socket) -> None:
    """Move bytes both ways until both have ended; a reset of one resets the other."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(upstream, client.early)
    broken = asyncio.Event()
    ways = [
        asyncio.ensure_future(_pump(client.sock, upstream, broken)),
        asyncio.ensure_future(_pump(upstream, client.sock, broken)),
    ]
    try:
        await asyncio.gather(*ways)
    except OSError:
        for sock in (client.sock, upstream):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pump(source: socket.socket, sink: socket.socket, broken: asyncio.Event) -> None:
    """Only the first call after a reset fails; where that was a send, the next receive looks like a clean end."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_CHUNK))
    try:
        while count := await loop.sock_recv_into(source, buffer):
            await loop.sock_sendall(sink, buffer[:count])
    except OSError:
        broken.set()
        raise
    await asyncio.sleep(0)  # the other way may have failed already, and just not been told
    if not broken.is_set():
        sink.shutdown(socket.SHUT_WR)
