"""UDP: datagrams in and out, at an address of ours or, where asked, at any address at all.

Two ways to use a port: `DatagramEndpoint`, from which a coroutine takes what has arrived, and `DatagramTransport`,
which calls an asyncio.DatagramProtocol as it arrives.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunsmith.aio.address import HostPort, SocketAddress, os_error
from tunsmith.aio.inbox import Inbox

if TYPE_CHECKING:
    from types import TracebackType

    from tunsmith.aio.udp import DatagramPort

QUEUE = 1024
"""Datagrams that wait to be received."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """What has arrived, from whom, and for which address: the one to answer from."""

    data: bytes
    source: SocketAddress
    destination: SocketAddress


class DatagramEndpoint:
    """A UDP port of the stack: `send`, `receive`, an async iterator of `Datagram`, an async context manager. Made
    by `Stack.open_datagram_endpoint` and `Stack.datagrams_any`.

    At most `queue` datagrams wait; those that find it full are lost and counted in `lost`. What the network says
    about datagrams of ours that did not arrive is counted in `errors`; an endpoint that is connected also raises
    it, once, from `receive` (ConnectionRefusedError where nobody listens)."""

    def __init__(self, port: DatagramPort, queue: int) -> None:
        self._port = port
        self._inbox: Inbox[Datagram | OSError] = Inbox(queue)
        self.errors = 0
        port.open(self._on_datagram, self._on_error, self._on_end)

    @property
    def sockname(self) -> SocketAddress:
        """Where it is bound; port 0 and an address of zeros mean any."""
        return self._port.sockname

    @property
    def peername(self) -> SocketAddress | None:
        """To whom it is connected, if it is."""
        return self._port.peername

    @property
    def lost(self) -> int:
        """Datagrams that found the queue full."""
        return self._inbox.lost

    def send(
        self,
        data: bytes | bytearray | memoryview,
        to: HostPort | SocketAddress | None = None,
        *,
        source: HostPort | SocketAddress | None = None,
    ) -> None:
        """Send `data` to `to`, or to whom the endpoint is connected; from where it is bound or, with `source`, from
        any address and port, whether they are ours or not. Nothing waits: what the device does not take is lost, as
        on any link.

        Raises OSError: EMSGSIZE for what no packet can carry, EDESTADDRREQ, EADDRNOTAVAIL where there is no address
        to send from, EBADF once closed."""
        self._port.send(data, to, source)

    def reply(self, datagram: Datagram, data: bytes) -> None:
        """Answer `datagram` from the address it was sent to."""
        self._port.send(data, datagram.source, datagram.destination)

    async def receive(self) -> Datagram:
        """The datagram that waits longest, or the next. Raises OSError for errors on a connected endpoint, and
        ConnectionAbortedError once it is closed."""
        try:
            item = await self._inbox.get()
        except StopAsyncIteration:
            raise os_error(errno.ECONNABORTED, "the endpoint is closed") from None
        if isinstance(item, OSError):
            raise item
        return item

    def close(self) -> None:
        """Give the port back; iteration ends. Idempotent."""
        self._port.close()

    def __repr__(self) -> str:
        return f"<DatagramEndpoint {self._port}>"

    def _on_datagram(self, data: bytes, source: SocketAddress, destination: SocketAddress) -> None:
        self._inbox.put(Datagram(data, source, destination))

    def _on_error(self, error: OSError) -> None:
        self.errors += 1
        if self.peername is not None:
            self._inbox.put(error)

    def _on_end(self, error: OSError | None) -> None:
        self._inbox.close(error)

    def __aiter__(self) -> DatagramEndpoint:
        return self

    async def __anext__(self) -> Datagram:
        item = await self._inbox.get()
        if isinstance(item, OSError):
            raise item
        return item

    async def __aenter__(self) -> DatagramEndpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


class DatagramTransport(asyncio.DatagramTransport):
    """A UDP port of the stack for an asyncio.DatagramProtocol, as the event loop makes one of a socket's. Writing
    never waits, so the protocol is never paused. `get_extra_info` knows "sockname" and "peername"."""

    def __init__(
        self, port: DatagramPort, protocol: asyncio.DatagramProtocol, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__({"sockname": port.sockname, "peername": port.peername})
        self._port = port
        self._protocol = protocol
        self._loop = loop
        self._closing = False
        port.open(self._on_datagram, protocol.error_received, self._on_end)
        protocol.connection_made(self)

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        if not self._closing:
            try:
                self._port.send(data, addr, None)
            except OSError as error:
                self._protocol.error_received(error)

    def _on_datagram(self, data: bytes, source: SocketAddress, destination: SocketAddress) -> None:
        self._protocol.datagram_received(data, source)

    def _on_end(self, error: OSError | None) -> None:
        self._closing = True
        self._loop.call_soon(self._protocol.connection_lost, error)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._port.close()

    abort = close

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def __repr__(self) -> str:
        return f"<DatagramTransport {self._port}>"
