"""Connections to anywhere, before they are accepted: what a transparent proxy or a test double listens to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tunsmith.aio.address import SocketAddress, socket_address
from tunsmith.aio.inbox import Inbox
from tunsmith.aio.streams import LIMIT, Streams, open_streams
from tunsmith.wire.icmp import IcmpError

if TYPE_CHECKING:
    from types import TracebackType

    from tunsmith.aio.demux import Demultiplexer
    from tunsmith.aio.transport import Transport
    from tunsmith.stack.request import FlowRequest

PATIENCE = 60.0
"""Seconds after which nobody waits for an answer any more: longer than a client waits between two SYNs."""

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Flow:
    """A client that wants a connection to `destination`, and has not been answered. One of `accept`,
    `accept_protocol`, `refuse`, `unreachable` and `drop` answers it; later ones raise or do nothing."""

    __slots__ = ("_flows", "_request")

    def __init__(self, flows: Flows, request: FlowRequest) -> None:
        self._flows = flows
        self._request = request

    @property
    def source(self) -> SocketAddress:
        """Who asks."""
        return socket_address(*self._request.source)

    @property
    def destination(self) -> SocketAddress:
        """Where it wants to go."""
        return socket_address(*self._request.destination)

    @property
    def cancelled(self) -> bool:
        """Whether the client has given up meanwhile, as far as it has said so."""
        return self._request.cancelled

    async def accept(self, *, limit: int = LIMIT) -> Streams:
        """Complete the handshake; returns reader and writer. Raises OSError: ECONNABORTED where the client has
        given up or was answered otherwise, ETIMEDOUT where it does not go on."""
        return await open_streams(self.accept_protocol, limit)

    async def accept_protocol(self, protocol_factory: Callable[[], P]) -> tuple[Transport, P]:
        """As `accept`, with a protocol of the caller's."""
        return await self._flows.accept(self._request, protocol_factory)

    def refuse(self) -> None:
        """RST: connection refused."""
        self._request.refuse(self._flows.settle(self._request))

    def unreachable(self, error: IcmpError = IcmpError.HOST) -> None:
        """An ICMP error; the client sees "no route to host", or what belongs to `error`."""
        self._request.unreachable(error, self._flows.settle(self._request))

    def drop(self) -> None:
        """Silence. When the client asks again, that is another flow."""
        self._flows.settle(self._request)
        self._request.drop()

    def __repr__(self) -> str:
        return f"<Flow {self.source} to {self.destination}>"


class Flows:
    """An async iterator of `Flow`, and an async context manager; made by `Stack.listen_any`.

    At most `backlog` flows wait for an answer, taken or not; SYNs beyond that are ignored and counted in the
    stack's drops as "listen_overflow". A flow without an answer is forgotten after a minute."""

    def __init__(self, demux: Demultiplexer, port: int, backlog: int) -> None:
        self._demux = demux
        self._port = port
        self._backlog = backlog
        self._inbox: Inbox[Flow] = Inbox(backlog)
        self._unanswered: dict[FlowRequest, float] = {}

    def on_flow(self, request: FlowRequest) -> None:
        """A SYN to where no server listens."""
        now = self._demux.clock()
        self._forget_old(now)
        if len(self._unanswered) >= self._backlog:
            self._demux.stack.drops["listen_overflow"] += 1
            request.drop()
            return
        self._unanswered[request] = now
        self._inbox.put(Flow(self, request))

    def _forget_old(self, now: float) -> None:
        for request, since in list(self._unanswered.items()):
            if now - since < PATIENCE and not request.cancelled:
                return
            del self._unanswered[request]
            request.drop()

    def settle(self, request: FlowRequest) -> float:
        """`request` is being answered; returns the time."""
        self._unanswered.pop(request, None)
        return self._demux.clock()

    async def accept(self, request: FlowRequest, protocol_factory: Callable[[], P]) -> tuple[Transport, P]:
        """See `Flow.accept_protocol`."""
        self.settle(request)
        return await self._demux.open(
            protocol_factory, lambda transport: request.accept(transport, self._demux.clock())
        )

    def close(self, error: OSError | None = None) -> None:
        """Take no more, and end iteration, by `error` where there is one. What was not answered is refused.
        Idempotent."""
        if self._inbox.closed:
            return
        self._demux.remove_flows(self._port)
        now = self._demux.clock()
        self._inbox.close(error)
        for request in self._unanswered:
            request.refuse(now)
        self._unanswered.clear()

    def __aiter__(self) -> Flows:
        return self

    async def __anext__(self) -> Flow:
        while (flow := await self._inbox.get()).cancelled:
            pass
        return flow

    def __repr__(self) -> str:
        state = "closed" if self._inbox.closed else f"unanswered: {len(self._unanswered)}"
        return f"<Flows to any address, port {self._port or 'any'}, {state}>"

    async def __aenter__(self) -> Flows:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()
