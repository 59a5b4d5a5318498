"""A host of its own inside an asyncio program: addresses on a device, and the calls that sockets are made by.

    async with Stack(device, ["10.7.0.2/24", "fd07::2/64"]) as stack:
        server = await stack.start_server(client_connected, "10.7.0.2", 80)
        reader, writer = await stack.open_connection("10.7.0.1", 8080)

Nothing here opens a socket. The device's descriptor is watched by the running loop (pump.py), the pure stack
(tunsmith/stack/) decides, and what it decides reaches servers, transports and endpoints (demux.py) in the
middle of packet processing. One stack belongs to one loop and one thread, and holds no global: any number of
them live in a process.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from tunsmith.aio.address import HostPort, Port, check_port, named_timeout, os_error, pack, unpack
from tunsmith.aio.datagrams import QUEUE, DatagramEndpoint, DatagramTransport
from tunsmith.aio.demux import P
from tunsmith.aio.flows import Flows
from tunsmith.aio.host import Host
from tunsmith.aio.pings import QUEUE as PING_QUEUE
from tunsmith.aio.pings import PingEndpoint
from tunsmith.aio.server import Server
from tunsmith.aio.streams import LIMIT, Client, Streams, open_streams, serving
from tunsmith.aio.tls import Context, client_context, secured
from tunsmith.wire.ip import is_unicast

if TYPE_CHECKING:
    from ssl import SSLContext

    from tunsmith.aio.udp import DatagramPort

BACKLOG = 128

Hosts = str | Sequence[str] | None
D = TypeVar("D", bound=asyncio.DatagramProtocol)


class Stack(Host):
    """An IP host on `device`, which it owns, with `addresses` ("10.7.0.2/24"; the prefix says who is a neighbour).

    On a device that carries Ethernet, a TAP, it is the station `mac`, by default one of its own making, and probes
    for its addresses before it uses them. Several interfaces are given as a list of Nic in place of device and
    addresses (stack/nic.py); with `forwarding` packets between them are routed. `config` is for the curious:
    buffers, congestion control, timers. `clock` gives monotonic seconds.

    Use it as an async context manager, or `start` and `await close()`. Errors are those of sockets: OSError and
    its subclasses, with an errno; UsageError for what cannot be an address or a MAC. Hosts are IP literals; names
    are the caller's business (gaierror)."""

    # --- connections ---

    async def open_connection(
        self,
        host: str,
        port: Port,
        *,
        local: HostPort | str | None = None,
        timeout: float | None = None,
        ssl: Context = None,
        server_hostname: str | None = None,
        limit: int = LIMIT,
    ) -> Streams:
        """A connection to `host`, as `asyncio.open_connection` makes one: returns a StreamReader, whose buffer has
        `limit`, and a StreamWriter. For the rest see `create_connection`."""

        async def opening(
            factory: Callable[[], asyncio.StreamReaderProtocol],
        ) -> tuple[asyncio.Transport, asyncio.StreamReaderProtocol]:
            return await self.create_connection(
                factory,
                host,
                port,
                local=local,
                timeout=timeout,
                ssl=ssl,
                server_hostname=server_hostname,
            )

        return await open_streams(opening, limit)

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str,
        port: Port,
        *,
        local: HostPort | str | None = None,
        timeout: float | None = None,
        ssl: Context = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """A connection to `host` with a protocol of the caller's; a BufferedProtocol gets its text with one copy.

        `local` is where it comes from: an address of ours (any, while somebody listens to any address) and perhaps a
        port; by default, and for "0.0.0.0" and "::", what suits. `host` may be one of ours as well. `timeout` bounds
        the handshakes, in seconds. With `ssl`, a context or True, the connection is TLS to `server_hostname`, by
        default `host`. Raises ConnectionRefusedError, TimeoutError (nobody answered), OSError EHOSTUNREACH,
        EADDRINUSE and their kin, ssl.SSLError."""
        demux = self._running()
        destination = pack(host), check_port(port)
        source = self._source(destination[0], local)
        if not is_unicast(destination[0]) or self.router.is_broadcast(destination[0]):
            raise os_error(errno.ENETUNREACH, f"{host}: a connection is with one host, not with many")
        if not destination[1]:
            raise os_error(errno.EINVAL, f"{host} port 0: nobody can listen there")
        with named_timeout(f"{host} port {port} did not answer within {timeout} s"):
            async with asyncio.timeout(timeout):
                if ssl is None or ssl is False:
                    return await demux.open(
                        protocol_factory, lambda transport: demux.connect(transport, source, destination)
                    )
                return await self._connect_tls(
                    protocol_factory, source, destination, client_context(ssl), server_hostname or host
                )

    async def _connect_tls(
        self,
        protocol_factory: Callable[[], P],
        source: tuple[bytes, int],
        destination: tuple[bytes, int],
        context: SSLContext,
        server_hostname: str,
    ) -> tuple[asyncio.Transport, P]:
        demux = self._demux
        secure: asyncio.Future[None] = demux.loop.create_future()
        factory = secured(
            protocol_factory,
            demux.loop,
            context,
            server_side=False,
            server_hostname=server_hostname,
            waiter=secure,
        )
        transport, tls = await demux.open(
            factory, lambda transport: demux.connect(transport, source, destination)
        )
        try:
            await secure
        except BaseException:
            transport.abort()
            raise
        return tls._app_transport, tls._app_protocol  # type: ignore[return-value]  # as the event loop does it

    def _source(self, destination: bytes, local: HostPort | str | None) -> tuple[bytes, int]:
        self._own.check_destination(destination)
        host, port = (local, 0) if local is None or isinstance(local, str) else local
        source = pack(host) if host else bytes(len(destination))
        if len(source) != len(destination):
            raise os_error(errno.EAFNOSUPPORT, f"from {host} to {unpack(destination)}")
        return source if any(source) else self._own.source_for(destination), check_port(port)

    # --- servers ---

    async def start_server(
        self,
        client_connected: Client,
        host: Hosts = None,
        port: Port = 0,
        *,
        limit: int = LIMIT,
        backlog: int = BACKLOG,
        ssl: SSLContext | None = None,
        start_serving: bool = True,
    ) -> Server:
        """A server that calls `client_connected(reader, writer)` for each connection, as `asyncio.start_server`
        does. For the rest see `create_server`."""
        factory = serving(client_connected, limit, asyncio.get_running_loop())
        return await self.create_server(
            factory, host, port, backlog=backlog, ssl=ssl, start_serving=start_serving
        )

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Hosts = None,
        port: Port = 0,
        *,
        backlog: int = BACKLOG,
        ssl: SSLContext | None = None,
        start_serving: bool = True,
    ) -> Server:
        """A server that makes a protocol for each connection to `host`, one or more of our addresses; None is all
        of them, "0.0.0.0" and "::" all of a kind. Port 0 is any free one: `server.sockets[0].getsockname()` says
        which. `backlog` bounds the handshakes under way. With `ssl` connections are TLS. Raises OSError EADDRINUSE,
        EADDRNOTAVAIL."""
        demux = self._running()
        if ssl is not None:
            protocol_factory = secured(protocol_factory, demux.loop, ssl, server_side=True)
        places = [(address, check_port(port)) for address in self._own.listening(host)]
        server = Server(demux, places, protocol_factory, max(backlog, 1))  # 0 means as much to listen(2)
        if start_serving:
            server.listen()
        return server

    def listen_any(self, port: Port = 0, *, backlog: int = BACKLOG) -> Flows:
        """Connections to any address, ours or not, on `port` (0: on any), that no server of this stack takes: an
        async iterator of `Flow`, each to be accepted, refused or dropped. `backlog` bounds those unanswered.
        Raises OSError EADDRINUSE where somebody already does this."""
        demux = self._running()
        number = check_port(port)
        flows = Flows(demux, number, backlog)
        demux.add_flows(flows, number)
        return flows

    # --- datagrams ---

    def open_datagram_endpoint(
        self, host: Hosts = None, port: Port = 0, *, remote: HostPort | None = None, queue: int = QUEUE
    ) -> DatagramEndpoint:
        """A UDP port at `host`, as for `create_server`; 0 is any free one. With `remote` it hears and speaks to that
        end only. `queue` bounds what waits to be received. Raises OSError EADDRINUSE, EADDRNOTAVAIL."""
        return DatagramEndpoint(self._bind(host, port, remote), queue)

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], D],
        local_addr: HostPort | None = None,
        remote_addr: HostPort | None = None,
    ) -> tuple[DatagramTransport, D]:
        """A UDP port for an asyncio.DatagramProtocol, as `loop.create_datagram_endpoint` makes one."""
        host, port = local_addr or (None, 0)
        bound = self._bind(host, port, remote_addr)
        protocol = protocol_factory()
        return DatagramTransport(bound, protocol, asyncio.get_running_loop()), protocol

    def datagrams_any(self, port: Port = 0, *, queue: int = QUEUE) -> DatagramEndpoint:
        """Datagrams to any address, ours or not, and `port` (0: any), that no other endpoint takes. Answer with
        `endpoint.reply`, which speaks as the address that was spoken to. Raises OSError EADDRINUSE."""
        return DatagramEndpoint(self._running().datagrams.bind([None], check_port(port), None), queue)

    def _bind(self, host: Hosts, port: Port, remote: HostPort | None) -> DatagramPort:
        demux = self._running()
        if remote is None:
            return demux.datagrams.bind(self._own.listening(host), check_port(port), None)
        peer = pack(remote[0]), check_port(remote[1])
        own = self._source(peer[0], (host, port) if isinstance(host, str) else ("", port))
        return demux.datagrams.bind([own[0]], own[1], peer)

    # --- pings ---

    async def ping(
        self,
        host: str,
        *,
        timeout: float | None = 1.0,
        size: int = 56,
        ttl: int = 64,
        source: str | None = None,
    ) -> float:
        """Send one ping with `size` bytes and wait for the answer; returns the round-trip time, in seconds. Raises
        TimeoutError, or OSError EHOSTUNREACH and its kin where the network says why there is none; EMSGSIZE and
        EINVAL for sizes and TTLs that no packet can have."""
        destination = pack(host)
        own = self._source(destination, None if source is None else (source, 0))[0]
        with named_timeout(f"no answer from {host} within {timeout} s"):
            async with asyncio.timeout(timeout):
                return await self._running().pings.ping(own, destination, size, ttl)

    def open_ping_endpoint(self, *, any_destination: bool = False, queue: int = PING_QUEUE) -> PingEndpoint:
        """Answer pings oneself, those to our addresses or to any; by default the stack does it. Raises OSError
        EADDRINUSE where another endpoint does it already."""
        return self._running().pings.open(any_destination, queue)
