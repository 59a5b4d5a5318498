"""A passive open: the stack itself answers SYNs to an address and a port, RFC 9293 §3.10.1.

Connections that are opening are kept, those that are open wait for `accept`; either list has `backlog` places.
One source gets no more than three quarters of those for opening ones, so that what it begins and never ends leaves
places for others. Who finds none is answered by a cookie (cookies.py), which needs none. SYNs that no listener takes
go the other way, to `StackHandler.on_flow`, where the owner answers each by itself (request.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tunsmith.errors import LocalError
from tunsmith.stack.cookies import LIFETIME
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.tcp.timers import NEVER
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.tcp import TcpOptions

if TYPE_CHECKING:
    from tunsmith.stack.events import ConnectionHandler, ListenerHandler
    from tunsmith.stack.stack import Stack
    from tunsmith.stack.tcp.connection import Connection
    from tunsmith.stack.tcp.policy import Options

Place = tuple[bytes | None, int | None]
"""An address and a port; None: any."""


class Listener:
    """Made by `Stack.listen`. Handler of its connections until somebody accepts them."""

    __slots__ = (
        "_cookies_until",
        "_opening_by_source",
        "_places_per_source",
        "address",
        "backlog",
        "handler",
        "opening",
        "options",
        "port",
        "stack",
        "waiting",
    )

    def __init__(
        self, stack: Stack, place: Place, backlog: int, handler: ListenerHandler, options: Options | None
    ) -> None:
        self.stack = stack
        self.address, self.port = place
        self.backlog = backlog
        self.handler = handler
        self.options = options
        self.opening: dict[Connection, bytes] = {}
        """In SYN-RECEIVED, with the addresses that they come from."""
        self._opening_by_source: dict[bytes, int] = {}
        self._places_per_source = min(backlog - backlog // 4, stack.config.pending_per_source)
        self.waiting: dict[Connection, None] = {}
        """Open, the oldest first."""
        self._cookies_until = -NEVER

    def accept(self, handler: ConnectionHandler | None, now: float) -> Connection | None:
        """The connection that waits longest, or None. `handler` is told all that has happened so far: that it
        is established, text, FIN."""
        if not self.waiting:
            return None
        connection = next(iter(self.waiting))
        del self.waiting[connection]
        connection.hand_over(handler or self.stack.queue, now)
        return connection

    def close(self, now: float) -> None:
        """Answer no more SYNs; what nobody has accepted is reset. Idempotent."""
        self.stack.listeners.remove(self)
        for connection in [*self.opening, *self.waiting]:
            connection.abort(now)
        self.opening.clear()
        self._opening_by_source.clear()
        self.waiting.clear()

    def on_syn(self, family: IpFamily, key: bytes, isn: int, options: TcpOptions, now: float) -> None:
        """A SYN to our place. Where too many are opening, in all or from its source, it is answered by a cookie, and
        where too many wait by silence: a real client tries again, RFC 4987 §3."""
        stack = self.stack
        request = FlowRequest(stack, family, key, isn, options)
        source = key[: family.address_length]
        from_there = self._opening_by_source.get(source, 0)
        if self.is_full():
            stack.drops["listen_overflow"] += 1
        elif len(self.opening) >= self.backlog or from_there >= self._places_per_source:
            stack.drops["syn_flood"] += 1
            if stack.config.syn_cookies and key not in stack.time_waits.records:
                stack.send_cookie(request, self, now)
                self._cookies_until = now + LIFETIME
        else:
            connection = stack.admit(request, self, now, self.options)
            if connection is not None:
                self.opening[connection] = source
                self._opening_by_source[source] = from_there + 1

    def takes_cookies(self, now: float) -> bool:
        """Whether an ACK out of nowhere may be the answer to a cookie."""
        return now < self._cookies_until

    def is_full(self) -> bool:
        """Whether no more connections may wait."""
        return len(self.waiting) >= self.backlog

    # --- of connections that nobody has accepted ---

    def on_established(self, connection: Connection) -> None:
        self._leave_place(connection)
        self.waiting[connection] = None
        self.handler.on_connection(self)

    def on_data(self, connection: Connection, data: memoryview) -> int:
        return 0

    def on_writable(self, connection: Connection) -> None:
        """Nobody has written."""

    def on_fin(self, connection: Connection) -> None:
        """Told to whoever accepts."""

    def on_closed(self, connection: Connection, error: int) -> None:
        """It is gone before anybody accepted it."""
        self._leave_place(connection)
        self.waiting.pop(connection, None)

    def _leave_place(self, connection: Connection) -> None:
        """It is not opening any more, if it was: what came with a cookie never had a place."""
        source = self.opening.pop(connection, None)
        if source is None:
            return
        left = self._opening_by_source[source] - 1
        if left:
            self._opening_by_source[source] = left
        else:
            del self._opening_by_source[source]


class Listeners:
    """The listeners of a stack by place. The most particular one takes a SYN: address before port."""

    __slots__ = ("_by_place",)

    def __init__(self) -> None:
        self._by_place: dict[Place, Listener] = {}

    def __bool__(self) -> bool:
        return bool(self._by_place)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._by_place.values())

    def __contains__(self, place: Place) -> bool:
        return place in self._by_place

    def add(self, listener: Listener) -> None:
        """Raises LocalError EADDRINUSE where another listens."""
        place = listener.address, listener.port
        if place in self._by_place:
            raise LocalError(errno.EADDRINUSE, "another listens on this address and port")
        self._by_place[place] = listener

    def remove(self, listener: Listener) -> None:
        """Idempotent."""
        place = listener.address, listener.port
        if self._by_place.get(place) is listener:
            del self._by_place[place]

    def find(self, address: bytes, port: int) -> Listener | None:
        """Who takes a SYN to `address` and `port`."""
        places = self._by_place
        return (
            places.get((address, port))
            or places.get((None, port))
            or places.get((address, None))
            or places.get((None, None))
        )
