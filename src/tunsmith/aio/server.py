"""A listening port of the stack, as asyncio.Server is one of the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tunsmith.aio.address import os_errors
from tunsmith.aio.sockets import ListeningSocket
from tunsmith.aio.transport import Transport

if TYPE_CHECKING:
    from tunsmith.aio.demux import Demultiplexer, Place
    from tunsmith.stack.listener import Listener


class Server(asyncio.AbstractServer):
    """Makes a protocol for each connection to `places` (address and port, 0 for a free one). The stack answers SYNs
    (stack/listener.py): at most `backlog` handshakes are under way at each place; further SYNs are ignored and
    counted in the stack's drops, and a real client tries again."""

    def __init__(
        self,
        demux: Demultiplexer,
        places: Sequence[Place],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        backlog: int,
    ) -> None:
        self._demux = demux
        self._places = places
        self._factory = protocol_factory
        self._backlog = backlog
        self._listeners: list[Listener] = []
        self._transports: set[Transport] = set()
        self._closed = False
        self._forever: asyncio.Future[None] | None = None
        self._idle: list[asyncio.Future[None]] = []

    def on_connection(self, listener: Listener) -> None:
        """A handshake is complete: ListenerHandler."""
        demux = self._demux
        transport = demux.new_transport(self._factory, self._on_open, self._on_gone)
        self._transports.add(transport)
        listener.accept(transport, demux.clock())

    def _on_open(self, transport: Transport, error: Exception | None) -> None:
        if error is not None:
            self._demux.loop.call_exception_handler(
                {"message": "no protocol for a connection", "exception": error, "transport": transport}
            )

    def _on_gone(self, transport: Transport) -> None:
        self._transports.discard(transport)
        if self._closed and not self._transports:
            self._wake()

    # --- asyncio.AbstractServer ---

    @property
    def sockets(self) -> tuple[ListeningSocket, ...]:
        """Where it listens; empty once closed."""
        return tuple(ListeningSocket(each.address or b"", each.port or 0) for each in self._listeners)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._demux.loop

    def is_serving(self) -> bool:
        return bool(self._listeners)

    async def start_serving(self) -> None:
        self.listen()

    def listen(self) -> None:
        """Begin, if not begun. All places get the same port where they leave it open. Raises OSError EADDRINUSE
        where another server is."""
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")
        if self._listeners:
            return
        demux, free = self._demux, 0
        try:
            for address, port in self._places:
                with os_errors():
                    listener = demux.stack.listen(address, port or free, backlog=self._backlog, handler=self)
                self._listeners.append(listener)
                free = free or listener.port or 0
        except BaseException:
            self._stop_listening()
            raise
        demux.servers.add(self)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close(self._demux.clock())
        self._listeners.clear()

    async def serve_forever(self) -> None:
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self.listen()
        self._forever = self._demux.loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Listen no longer. Connections live on, but for handshakes that are not complete."""
        if self._closed:
            return
        self._closed = True
        self._stop_listening()
        self._demux.servers.discard(self)
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        if not self._transports:
            self._wake()

    def close_clients(self) -> None:
        """Close all connections, as `Transport.close` does."""
        for transport in list(self._transports):
            transport.close()

    def abort_clients(self) -> None:
        """End all connections by RST."""
        for transport in list(self._transports):
            transport.abort()

    async def wait_closed(self) -> None:
        """Until the server is closed and its connections are gone, as Python 3.12 has it."""
        if self._closed and not self._transports:
            return
        waiter = self._demux.loop.create_future()
        self._idle.append(waiter)
        await waiter

    def _wake(self) -> None:
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()

    def __repr__(self) -> str:
        names = ", ".join(str(each.getsockname()) for each in self.sockets)
        return f"<Server {names or ('closed' if self._closed else 'not listening yet')}>"
