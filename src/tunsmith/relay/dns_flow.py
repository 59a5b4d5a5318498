"""DNS over a TCP flow of the application, RFC 7766: many queries, answered as they become ready."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from tunsmith.config import Limits
from tunsmith.flow import Target
from tunsmith.relay.report import FlowRecord
from tunsmith.stack.tcp.connection import Connection
from tunsmith.wire.dns import question_of
from tunsmith.wire.dns_stream import Deframer, frame

if TYPE_CHECKING:
    from tunsmith.relay.dns import Resolver

AT_ONCE = 16
"""Queries of one connection under way; more is a client that does not wait for answers."""


class DnsFlow:
    """Handler of one connection to port 53. `spawn` runs a coroutine that the engine owns; `on_end(flow)` is
    called once, unless the connection was never made."""

    __slots__ = (
        "_clock",
        "_deframer",
        "_on_end",
        "_resolver",
        "_server",
        "_spawn",
        "_under_way",
        "connection",
        "record",
    )
    blocked = False
    undelivered = 0
    finished = True
    """Nobody waits for an answer once the application has ended."""

    def __init__(
        self,
        resolver: Resolver,
        server: Target | None,
        record: FlowRecord,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        on_end: Callable[[DnsFlow], None],
        clock: Callable[[], float],
    ) -> None:
        self._resolver = resolver
        self._server = server
        self._spawn = spawn
        self._on_end = on_end
        self._clock = clock
        self._deframer = Deframer()
        self._under_way = 0
        self.connection: Connection | None = None
        self.record = record

    def start(self, connection: Connection) -> None:
        """The application is being told that it is connected."""
        self.connection = connection

    def on_established(self, connection: Connection) -> None:
        """Queries follow."""

    def on_data(self, connection: Connection, data: memoryview) -> int:
        self.record.up += len(data)
        self.record.last = self._clock()
        for query in self._deframer.feed(data):
            if self._under_way >= AT_ONCE:
                self.abort("too many queries at once")
                break
            self._under_way += 1
            self.record.name = self.record.name or question_of(query)
            self._spawn(self._answer(connection, query))
        return len(data)

    async def _answer(self, connection: Connection, query: bytes) -> None:
        try:
            reply = await self._resolver.resolve(query, tcp=True, server=self._server)
        finally:
            self._under_way -= 1
        if self.connection is None:  # the application did not wait
            return
        if reply is not None and connection.can_send and connection.space > len(reply) + 2:
            self.record.down += len(reply)
            connection.send(frame(reply), self._clock())
        self._finish(connection)

    def on_writable(self, connection: Connection) -> None:
        """Answers are small; nothing waits for room."""

    def on_fin(self, connection: Connection) -> None:
        self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        if connection.fin_seen and not self._under_way:
            connection.shutdown(self._clock())

    def on_closed(self, connection: Connection, error: int) -> None:
        self._end("reset" if error else "closed")

    def abort(self, outcome: str) -> None:
        """End it at once, by RST."""
        if self.connection is not None:
            self.connection.abort(self._clock())
            self._end(outcome)

    def expire(self, limits: Limits, now: float) -> None:
        """End it, orderly, if it has been idle for too long."""
        if self.connection is not None and now - self.record.last >= limits.dns_idle:
            connection = self.connection
            self._end("idle")
            connection.close(now)

    def _end(self, outcome: str) -> None:
        if self.connection is not None:
            self.connection = None
            self.record.outcome = outcome
            self._on_end(self)
