"""Who gets what arrives at a stack and no listener of its own takes: flows here, datagrams in udp.py, pings in
pings.py.

It is the handler of the pure stack, and the workshop of transports, so that the stack's end can find them all.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tunsmith.aio.address import Addresses, os_error, os_errors
from tunsmith.aio.pings import Pings
from tunsmith.aio.transport import Transport
from tunsmith.aio.udp import DatagramPorts

if TYPE_CHECKING:
    from tunsmith.aio.flows import Flows
    from tunsmith.aio.server import Server
    from tunsmith.stack.events import DatagramError, Echo
    from tunsmith.stack.request import FlowRequest
    from tunsmith.stack.router import Router
    from tunsmith.stack.tcp.connection import Connection
    from tunsmith.wire.ip import IpFamily

Place = tuple[bytes, int]
P = TypeVar("P", bound=asyncio.BaseProtocol)


class Demultiplexer:
    """Handler of one stack. `clock` gives the times of its turns."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop
        self.transports: set[Transport] = set()
        self.servers: set[Server] = set()
        self._flows: dict[int, Flows] = {}

    def serve(self, router: Router, addresses: Addresses) -> None:
        """Be the handler of the router's stack, which was made with this."""
        self.router = router
        self.stack = router.stack
        self.addresses = addresses
        self.datagrams = DatagramPorts(router.stack, addresses, self.clock, self._open_or_shut)
        self.pings = Pings(router.stack, addresses, self.clock, self._open_or_shut)

    # --- transports ---

    def new_transport(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        on_open: Callable[[Transport, Exception | None], None],
        on_gone: Callable[[Transport], None],
    ) -> Transport:
        """A transport that is known here until it is gone."""

        def gone(transport: Transport) -> None:
            self.transports.discard(transport)
            on_gone(transport)

        transport = Transport(self.loop, self.clock, protocol_factory, on_open, gone)
        self.transports.add(transport)
        return transport

    async def open(
        self, protocol_factory: Callable[[], P], begin: Callable[[Transport], Connection | None]
    ) -> tuple[Transport, P]:
        """Wait for the connection that `begin` starts with a new transport as its handler. Raises OSError where
        it does not come about; cancelling it gives it up, by RST where the peer knows of it."""
        waiter: asyncio.Future[None] = self.loop.create_future()

        def on_open(transport: Transport, error: Exception | None) -> None:
            if waiter.done():
                return
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

        transport = self.new_transport(protocol_factory, on_open, lambda _: None)
        try:
            connection = begin(transport)
            if connection is None:
                raise os_error(errno.ECONNABORTED)
            transport.attach(connection)
            await waiter
        except BaseException:
            waiter.cancel()  # nobody asks it any more
            transport.abort()
            raise
        return transport, transport.get_protocol()  # type: ignore[return-value]  # what the factory made

    def connect(self, transport: Transport, source: Place, destination: Place) -> Connection:
        """Begin an active open; port 0 is any that is free. Raises OSError EADDRINUSE, EADDRNOTAVAIL."""
        with os_errors():
            return self.stack.connect(*source, *destination, self.clock(), transport)

    # --- who listens ---

    def add_flows(self, flows: Flows, port: int) -> None:
        """Give `flows` what comes to any address and `port`, 0 for any port, and no server wants. Raises OSError
        EADDRINUSE."""
        if port in self._flows:
            raise os_error(errno.EADDRINUSE, f"any address, port {port or 'any'}")
        self._flows[port] = flows
        self._open_or_shut()

    def remove_flows(self, port: int) -> None:
        """No more of it."""
        self._flows.pop(port, None)
        self._open_or_shut()

    def _open_or_shut(self) -> None:
        """Hear what goes to others only while somebody wants it."""
        self.router.take_any(bool(self._flows) or self.datagrams.hears_all or self.pings.hears_all)

    def close(self, error: OSError | None = None) -> None:
        """No more listeners; `error` is why, if it is a fault."""
        for flows in list(self._flows.values()):
            flows.close(error)
        for server in list(self.servers):
            server.close()
        self.datagrams.close(error)
        self.pings.close(error)

    # --- what arrives: StackHandler ---

    def on_flow(self, request: FlowRequest) -> None:
        address, port = request.destination
        flows = self._flows.get(port) or self._flows.get(0)
        if flows is not None:
            flows.on_flow(request)
        elif address in self.addresses.packed:
            request.refuse(self.clock())
        else:
            request.drop()

    def on_datagram(self, family: IpFamily, key: bytes, data: memoryview, segment_size: int) -> None:
        self.datagrams.on_datagram(family, key, data, segment_size)

    def on_datagram_error(self, error: DatagramError) -> None:
        self.datagrams.on_datagram_error(error)

    def on_echo(self, echo: Echo) -> None:
        self.pings.on_echo(echo)
