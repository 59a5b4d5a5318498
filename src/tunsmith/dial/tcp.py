"""TCP connections out of this machine: to destinations (direct) and to proxies (the rest).

The way to an IP literal is the hot one, one flow one connect: no resolver, no timer, no task; the owner of
the flow bounds the time by cancelling. Buffer sizes are left alone: setting them would switch the
kernel's autotuning off. A name is resolved off the loop and its addresses raced (Happy Eyeballs,
RFC 8305): families interleaved, the next attempt 250 ms after the last or as soon as it failed.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Awaitable

from tunsmith.dial.errnos import dial_error
from tunsmith.dial.escape import Escape
from tunsmith.dial.readiness import writable
from tunsmith.dial.resolve import Address, Resolver, family_of
from tunsmith.errors import DialError, DialRefused
from tunsmith.flow import Target

ATTEMPT_DELAY = 0.25
"""RFC 8305 §5: seconds an attempt stays alone before the next address joins the race."""


class Connector:
    """Opens TCP connections, the way `escape` says where one is given. Stateless per connection."""

    __slots__ = ("_attempt_delay", "_escape", "_resolver", "_underway")

    def __init__(
        self,
        escape: Escape | None = None,
        resolver: Resolver | None = None,
        attempt_delay: float = ATTEMPT_DELAY,
    ) -> None:
        self._escape = escape
        self._underway = None if escape is None else escape.underway
        self._resolver = resolver or Resolver()
        self._attempt_delay = attempt_delay

    async def connect(self, target: Target) -> socket.socket:
        """A connected, non-blocking socket. Raises DialError; cancellation closes whatever was opened."""
        family = family_of(target.host)
        if family is not None:
            return await self._attempt(family, target)
        addresses = await self._resolver.addresses(target.host)
        try:
            sock, address = await self._race(addresses, target)
        except DialError:
            self._resolver.forget(target.host)
            raise
        self._resolver.prefer(target.host, address)
        return sock

    def begin(self, target: Target) -> socket.socket | Awaitable[socket.socket]:
        """As `connect`, but the socket itself where the handshake is over when connect(2) returns: on this
        machine and its containers the answer comes within the call. Raises DialError."""
        family = family_of(target.host)
        if family is None:
            return self.connect(target)
        sock, code = self._open(family, target)
        if code == errno.EINPROGRESS:
            code = sock.connect_ex((target.host, target.port))
            if code == errno.EALREADY:
                return self._finish(sock, target)
            if self._underway is not None:
                self._underway.connected(sock, target)
        return _settled(sock, code, target)

    def _open(self, family: int, target: Target) -> tuple[socket.socket, int]:
        """A socket on its way to `target`, and what connect(2) said."""
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise dial_error(error.errno or 0, target) from None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._escape is not None:
                self._escape.pin(sock, target.host)
            code = sock.connect_ex((target.host, target.port))
        except OSError as error:
            sock.close()
            raise dial_error(error.errno or 0, target) from None
        if code == errno.EINPROGRESS and self._underway is not None:
            self._underway.connecting(sock, target)
        return sock, code

    async def _finish(self, sock: socket.socket, target: Target) -> socket.socket:
        try:
            code = await _outcome(sock)
        except BaseException:
            sock.close()
            raise
        finally:
            if self._underway is not None:
                self._underway.connected(sock, target)
        return _settled(sock, code, target)

    async def _attempt(self, family: int, target: Target) -> socket.socket:
        sock, code = self._open(family, target)
        if code == errno.EINPROGRESS:
            return await self._finish(sock, target)
        return _settled(sock, code, target)

    async def _race(self, addresses: list[Address], target: Target) -> tuple[socket.socket, str]:
        """The first connection that stands, and to which address."""
        waiting = deque(addresses)
        racing: dict[asyncio.Task[socket.socket], str] = {}
        errors: list[DialError] = []
        try:
            while waiting or racing:
                if waiting:
                    family, host = waiting.popleft()
                    racing[asyncio.ensure_future(self._attempt(family, Target(host, target.port)))] = host
                done, _ = await asyncio.wait(
                    racing,
                    timeout=self._attempt_delay if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for attempt in done:
                    host = racing.pop(attempt)
                    try:
                        return attempt.result(), host
                    except DialError as error:
                        errors.append(error)
        finally:
            for attempt in racing:
                attempt.cancel()
                attempt.add_done_callback(_discard)
        # A refusal proves that a host is there, which says more than an address family without a route.
        raise next((error for error in errors if isinstance(error, DialRefused)), errors[0])


async def _outcome(sock: socket.socket) -> int:
    """Wait for a connect under way; its errno, 0 when connected."""
    await writable(sock.fileno())
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _settled(sock: socket.socket, code: int, target: Target) -> socket.socket:
    """`sock`, if connecting it ended with `code` 0. Raises DialError."""
    if code:
        sock.close()
        raise dial_error(code, target)
    return sock


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that lost the race but connected before it was cancelled."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
