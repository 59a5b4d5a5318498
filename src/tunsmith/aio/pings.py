"""ICMP echo: pings that we send and wait for, and pings of others that a program wants to answer itself."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from random import SystemRandom
from typing import TYPE_CHECKING

from tunsmith.aio.address import Addresses, os_error, pack, unpack
from tunsmith.aio.inbox import Inbox
from tunsmith.stack.events import Echo
from tunsmith.stack.input import FATAL_WHILE_OPENING
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import family_of

if TYPE_CHECKING:
    from types import TracebackType

    from tunsmith.stack.stack import Stack

QUEUE = 128
"""Pings that wait for a program that wants to answer them."""
AT_ONCE = 1024
"""Pings of ours that wait for an answer."""
LONGEST = 65535 - 20 - 8
"""Bytes in a ping, behind the headers of IPv4 and ICMP."""


class Pings:
    """All echoes of `stack`: its PingHandler, and the part of its handler that is about pings."""

    def __init__(
        self, stack: Stack, addresses: Addresses, clock: Callable[[], float], on_change: Callable[[], None]
    ) -> None:
        self.stack = stack
        stack.ping_handler = self
        self._addresses = addresses
        self._clock = clock
        self._on_change = on_change
        self._identifier = SystemRandom().randrange(1 << 16)
        self._sequence = 0
        self._waiting: dict[tuple[bytes, int], asyncio.Future[float]] = {}
        """By whom we asked and sequence number: when the answer came."""
        self._endpoint: PingEndpoint | None = None

    @property
    def hears_all(self) -> bool:
        """Whether somebody wants what goes to addresses that are not ours."""
        return self._endpoint is not None and self._endpoint.any_destination

    async def ping(self, source: bytes, destination: bytes, size: int, ttl: int) -> float:
        """See `Stack.ping`, which bounds its time."""
        if not 0 <= size <= LONGEST:
            raise os_error(errno.EMSGSIZE, f"{size} bytes, where 0 to {LONGEST} fit")
        if not 1 <= ttl <= 255:
            raise os_error(errno.EINVAL, f"ttl {ttl}, where 1 to 255 are possible")
        if len(self._waiting) >= AT_ONCE:
            raise os_error(errno.ENOBUFS, f"{AT_ONCE} pings wait for an answer")
        self._sequence = (self._sequence + 1) & 0xFFFF
        key = destination, self._sequence
        answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answered
        data = bytes(number & 0xFF for number in range(size))
        try:
            began = self._clock()
            self.stack.send_echo(
                Echo(family_of(destination), source, destination, self._identifier, key[1], ttl, data)
            )
            return await answered - began
        finally:
            del self._waiting[key]

    def open(self, any_destination: bool, queue: int) -> PingEndpoint:
        """Have pings answered by somebody else. Raises OSError EADDRINUSE where that is so already."""
        if self._endpoint is not None:
            raise os_error(errno.EADDRINUSE, "pings have an endpoint already")
        self._endpoint = PingEndpoint(self, any_destination, queue)
        self._on_change()
        return self._endpoint

    def forget(self) -> None:
        """The endpoint is closed: the stack answers by itself again."""
        self._endpoint = None
        self._on_change()

    def close(self, error: OSError | None = None) -> None:
        """The stack ends."""
        if self._endpoint is not None:
            self._endpoint.close(error)
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(error or os_error(errno.ECONNABORTED, "the stack is closed"))

    def answer(self, echo: Echo, error: IcmpError | None, source: bytes | None = None) -> None:
        """Send the reply, or why there is none."""
        if error is None:
            self.stack.send_echo_reply(echo)
        else:
            self.stack.send_echo_error(echo, error, self._clock(), source=source)

    # --- the stack's handler and PingHandler ---

    def on_echo(self, echo: Echo) -> None:
        """A ping: StackHandler."""
        ours = echo.destination in self._addresses.packed
        if self._endpoint is not None and (ours or self._endpoint.any_destination):
            self._endpoint.put(PingRequest(self, echo))
        elif ours:
            self.stack.send_echo_reply(echo)

    def on_echo_reply(self, echo: Echo) -> None:
        """An answer to one of ours: PingHandler."""
        answered = self._answered(echo.source, echo)
        if answered is not None:
            answered.set_result(self._clock())

    def on_echo_error(self, echo: Echo, error: IcmpError | None) -> None:
        """The network could not deliver one of ours: PingHandler."""
        answered = self._answered(echo.destination, echo)
        if answered is not None and error is not None:
            code = FATAL_WHILE_OPENING.get(error, errno.EHOSTUNREACH)
            answered.set_exception(os_error(code, unpack(echo.destination)))

    def _answered(self, peer: bytes, echo: Echo) -> asyncio.Future[float] | None:
        if echo.identifier != self._identifier:
            return None
        answered = self._waiting.get((peer, echo.sequence))
        return None if answered is None or answered.done() else answered


class PingRequest:
    """A ping that waits to be answered, once: `reply`, `unreachable`, or nothing."""

    __slots__ = ("_echo", "_pings", "data", "destination", "source", "ttl")

    def __init__(self, pings: Pings, echo: Echo) -> None:
        self._pings = pings
        self._echo = echo
        self.source = unpack(echo.source)
        self.destination = unpack(echo.destination)
        self.ttl = echo.ttl
        self.data = echo.data

    def reply(self) -> None:
        """Answer as `destination`."""
        self._pings.answer(self._echo, None)

    def unreachable(self, error: IcmpError = IcmpError.HOST, *, router: str | None = None) -> None:
        """Say, as `router` or else as `destination` itself, that it cannot be reached."""
        self._pings.answer(self._echo, error, None if router is None else pack(router))

    def __repr__(self) -> str:
        return f"<PingRequest {self.source} to {self.destination}>"


class PingEndpoint:
    """An async iterator of `PingRequest`, and an async context manager; made by `Stack.open_ping_endpoint`. While
    it is open the stack answers no ping by itself. Those that find its queue full are lost and counted."""

    def __init__(self, pings: Pings, any_destination: bool, queue: int) -> None:
        self._pings = pings
        self._inbox: Inbox[PingRequest] = Inbox(queue)
        self.any_destination = any_destination

    @property
    def lost(self) -> int:
        """Pings that found the queue full."""
        return self._inbox.lost

    def put(self, request: PingRequest) -> None:
        """One more."""
        self._inbox.put(request)

    def close(self, error: OSError | None = None) -> None:
        """The stack answers by itself again; iteration ends. Idempotent."""
        if not self._inbox.closed:
            self._inbox.close(error)
            self._pings.forget()

    def __aiter__(self) -> PingEndpoint:
        return self

    async def __anext__(self) -> PingRequest:
        return await self._inbox.get()

    def __repr__(self) -> str:
        whose = "any address" if self.any_destination else "our addresses"
        return f"<PingEndpoint for {whose}{', closed' if self._inbox.closed else ''}>"

    async def __aenter__(self) -> PingEndpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()
