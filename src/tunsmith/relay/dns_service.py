"""Port 53 of the application: queries in datagrams and in streams, answered by one resolver.

The resolver is made at the first query: it costs start-up time that many programs never need.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from tunsmith.flow import Target, Verdict
from tunsmith.relay.dns_flow import DnsFlow
from tunsmith.wire.dns import SERVFAIL, question_of, rcode_of

if TYPE_CHECKING:
    from tunsmith.relay.dns import Resolver
    from tunsmith.relay.flows import FlowBook
    from tunsmith.relay.report import FlowRecord
    from tunsmith.stack.request import FlowRequest
    from tunsmith.stack.stack import Stack
    from tunsmith.wire.ip import IpFamily


class DnsService:
    """DNS of one engine. `gateways` are our own addresses; `make_resolver` is called once, when needed;
    `spawn` runs a coroutine that the engine owns."""

    def __init__(
        self,
        stack: Stack,
        book: FlowBook,
        gateways: frozenset[str],
        make_resolver: Callable[[], Resolver],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._stack = stack
        self._book = book
        self._gateways = gateways
        self._make_resolver = make_resolver
        self._spawn = spawn
        self._resolver: Resolver | None = None

    @property
    def resolver(self) -> Resolver:
        """The resolver; from now on flows are told with the names it has looked up."""
        if self._resolver is None:
            self._resolver = self._make_resolver()
            self._resolver.on_outage = self._book.notice
            self._book.name_of = self._resolver.name_of
        return self._resolver

    def on_datagram(
        self, family: IpFamily, key: bytes, data: bytes, segment_size: int, target: Target, verdict: Verdict
    ) -> None:
        """A query in a datagram, or several, each of `segment_size` bytes but the last."""
        step = segment_size or max(len(data), 1)
        for at in range(0, max(len(data), 1), step):
            self._spawn(self._answer(family, key, data[at : at + step], target, verdict))

    async def _answer(
        self, family: IpFamily, key: bytes, query: bytes, target: Target, verdict: Verdict
    ) -> None:
        record = self._book.enter("dns", family, key, target, verdict)
        record.up = len(query)
        record.name = question_of(query)
        record.outcome = "dropped"
        try:
            reply = await self.resolver.resolve(query, tcp=False, server=self._asked(target))
            if reply is not None:
                record.down = len(reply)
                record.outcome = "failed" if rcode_of(reply) == SERVFAIL else "answered"
                self._stack.send_datagram(family, family.swap(key), reply)
        finally:
            self._book.end(record)

    def open(
        self, request: FlowRequest, record: FlowRecord, on_end: Callable[[DnsFlow], None]
    ) -> DnsFlow | None:
        """Accept a stream of queries; None when it is no longer wanted."""
        flow = DnsFlow(
            self.resolver, self._asked(record.target), record, self._spawn, on_end, self._book.clock
        )
        connection = request.accept(flow, self._book.clock())
        if connection is None:
            record.outcome = "given up"
            self._book.end(record)
            return None
        flow.start(connection)
        return flow

    def _asked(self, target: Target) -> Target | None:
        """The server that the application chose; None for us."""
        return None if target.host in self._gateways or target.is_name else target
