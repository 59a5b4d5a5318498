"""The talk with a proxy on a fresh TCP connection, before the connection becomes the flow's.

Codecs say what the bytes mean, dialers what to say next; here the bytes come and go. What is heard
beyond the proxy's last word belongs to the destination and is handed over with the socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tunsmith.dial.base import Stream
from tunsmith.dial.tcp import Connector
from tunsmith.errors import (
    DialError,
    DialProhibited,
    DialRefused,
    DialTimeout,
    DialUnreachable,
    ProxyError,
    WireError,
)
from tunsmith.flow import Target

Heard = TypeVar("Heard")

_CHUNK = 4096


class Conversation:
    """A connection to the proxy called `proxy`; `with` closes it unless it was handed over."""

    __slots__ = ("_heard", "_loop", "_proxy", "_sock")

    def __init__(self, sock: socket.socket, proxy: str) -> None:
        self._sock: socket.socket | None = sock
        self._proxy = proxy
        self._heard = bytearray()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, connector: Connector, address: Target, proxy: str) -> Conversation:
        """Connect to the proxy at `address`. Raises ProxyError where it is down or out of reach: to the
        flow this is another matter than a refusing destination."""
        try:
            sock = await connector.connect(address)
        except DialRefused:
            raise ProxyError(f"{proxy}: the proxy refuses connections; is it running?") from None
        except (DialUnreachable, DialProhibited, DialTimeout) as error:
            raise ProxyError(f"{proxy}: cannot reach the proxy: {error}") from None
        return cls(sock, proxy)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, unless the connection was handed over."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    @property
    def sock(self) -> socket.socket:
        """The connection, while it is not handed over."""
        assert self._sock is not None
        return self._sock

    @property
    def proxy_address(self) -> str:
        """The address that the proxy was reached at. Raises ProxyError once it has hung up."""
        try:
            return str(self.sock.getpeername()[0])
        except OSError as error:
            raise ProxyError(f"{self._proxy}: the proxy hung up ({error.strerror})") from None

    async def say(self, data: bytes) -> None:
        """Send all of `data`. Raises ProxyError."""
        try:
            try:
                sent = self.sock.send(data)  # all of it, as long as anyone listens
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                await self._loop.sock_sendall(self.sock, data[sent:])
        except OSError as error:
            raise ProxyError(f"{self._proxy}: the proxy hung up ({error.strerror})") from None

    async def hear(self, parse: Callable[[bytearray], tuple[Heard, int] | None]) -> Heard:
        """Read until `parse` makes something of it. Raises ProxyError for an end, a reset or nonsense."""
        while True:
            try:
                parsed = parse(self._heard)
            except WireError as error:
                raise ProxyError(f"{self._proxy}: the proxy does not speak its protocol: {error}") from None
            if parsed is not None:
                value, size = parsed
                del self._heard[:size]
                return value
            try:
                chunk = await self._loop.sock_recv(self.sock, _CHUNK)
            except OSError as error:
                raise ProxyError(f"{self._proxy}: the proxy hung up ({error.strerror})") from None
            if not chunk:
                raise ProxyError(f"{self._proxy}: the proxy hung up in the middle of its answer")
            self._heard += chunk

    def hand_over(self) -> Stream:
        """The connection and what the destination has already said; both are the caller's now."""
        stream = Stream(self.sock, bytes(self._heard))
        self._sock = None
        return stream


@asynccontextmanager
async def patience(
    seconds: float, complaint: str, kind: type[DialError] = DialTimeout
) -> AsyncIterator[None]:
    """Raise `kind`(`complaint`) where the body takes longer: ProxySilent where only the proxy can be to blame."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise kind(f"{complaint} within {seconds:g} s") from None
