"""Ports of this machine that lead to servers inside: `--publish [ADDR:]PORT:PORT[/tcp|/udp]`.

    client ──> listener in the caller's network ──> stack ──> TUN ──> server inside
                  publish_tcp.py, publish_udp.py

The server sees the client's own address and port where its answers would come our way, that is, for all
but loopback, link-local and the TUN's own addresses; those clients, and those whose address and port the
application itself is talking to, are seen as the gateway address with a port of our choosing. A server
that listens for one IP version only is reached by clients of the other one, too, as the gateway.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from tunsmith.config import Limits, Network, Publish
from tunsmith.errors import UsageError
from tunsmith.flow import Target
from tunsmith.relay.poller import Poller
from tunsmith.relay.publish_tcp import TcpPort
from tunsmith.relay.publish_udp import UdpPort
from tunsmith.relay.report import FlowRecord
from tunsmith.relay.tcp import TcpRelay
from tunsmith.stack.stack import Stack
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

if TYPE_CHECKING:
    from tunsmith.stack.events import DatagramError

EPHEMERAL = range(32768, 61000)
"""Ports of the gateway address, as the kernel would choose them."""
PORT_TRIES = 64
BACKLOG = 1024
SOCKET_FAMILY = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
WILDCARDS = ("0.0.0.0", "::")


@dataclass(slots=True)
class Surroundings:
    """What published ports need of the engine."""

    loop: asyncio.AbstractEventLoop
    poller: Poller
    stack: Stack
    network: Network
    limits: Limits
    drops: Counter[str]
    clock: Callable[[], float]
    admit: Callable[[TcpRelay], None]
    """A relay begins."""
    on_relay_end: Callable[[TcpRelay], None]
    on_end: Callable[[FlowRecord], None]
    """A flow that is no relay has ended."""
    is_taken: Callable[[bytes], bool]
    """Whether the application has a UDP flow of this key."""


class Doorway:
    """How clients of all ports are seen from inside."""

    def __init__(self, network: Network) -> None:
        self._servers = {IPV4: network.inside.packed, IPV6: network.inside6.packed}
        self._gateways = {IPV4: network.gateway.packed, IPV6: network.gateway6.packed}
        self._own = {*self._servers.values(), *self._gateways.values()}
        self._ports = cycle(EPHEMERAL)

    def server(self, family: IpFamily) -> bytes:
        """The address that servers inside have."""
        return self._servers[family]

    def faces(self, family: IpFamily, client: bytes, port: int) -> Iterator[tuple[bytes, int]]:
        """Addresses and ports to show a client of `family` by, the best first, none of them checked."""
        if self._is_routable(client):
            yield client, port
        yield from self.masks(family)

    def masks(self, family: IpFamily) -> Iterator[tuple[bytes, int]]:
        """The same for a client that has no address of `family`."""
        for _ in range(PORT_TRIES):
            yield self._gateways[family], next(self._ports)

    def _is_routable(self, client: bytes) -> bool:
        """Whether a packet from inside to `client` would leave by the TUN, and mean the same there."""
        if client in self._own:
            return False
        if len(client) == 4:
            return client[0] not in (0, 127)
        return client[0] != 0 and not (client[0] == 0xFE and client[1] & 0xC0 == 0x80)


class Publisher:
    """All published ports of one engine. Raises UsageError, having opened nothing, if one of them cannot be."""

    def __init__(self, published: tuple[Publish, ...], around: Surroundings) -> None:
        self._answers: dict[bytes, UdpPort] = {}
        self._ports: list[TcpPort | UdpPort] = []
        doorway = Doorway(around.network)
        try:
            for entry in published:
                for protocol in entry.protocols:
                    for family, sock in _listen(entry, protocol):
                        self._ports.append(
                            TcpPort(sock, family, entry.inner_port, doorway, around)
                            if protocol == "tcp"
                            else UdpPort(sock, family, entry.inner_port, doorway, around, self._answers)
                        )
        except UsageError:
            self.close()
            raise

    def on_datagram(self, key: bytes, data: memoryview, segment_size: int) -> bool:
        """Whether this datagram of the application answers a client; then it is on its way."""
        port = self._answers.get(key)
        if port is None:
            return False
        port.answer(key, data, segment_size)
        return True

    def on_datagram_error(self, key: bytes, error: DatagramError) -> bool:
        """Whether `error` is about a datagram of a client; `key` is that of its answers."""
        port = self._answers.get(key)
        if port is None:
            return False
        port.on_error(key, error)
        return True

    def expire(self, now: float) -> None:
        """Forget UDP clients that have been idle for long."""
        for port in self._ports:
            port.expire(now)

    def close(self) -> None:
        """Stop listening; idempotent."""
        for port in self._ports:
            port.close()
        self._ports.clear()


def _listen(entry: Publish, protocol: str) -> Iterator[tuple[IpFamily, socket.socket]]:
    """The sockets of one entry: without an address one for each IP version that this machine has."""
    if entry.address:
        family = IPV6 if ":" in entry.address else IPV4
        yield family, _bind(family, entry.address, entry.outer_port, protocol)
        return
    for family, address in zip((IPV4, IPV6), WILDCARDS, strict=True):
        try:
            yield family, _bind(family, address, entry.outer_port, protocol)
        except _NoSuchFamily:
            continue


class _NoSuchFamily(UsageError):
    """This machine has no such address."""


def _bind(family: IpFamily, address: str, port: int, protocol: str) -> socket.socket:
    is_tcp = protocol == "tcp"
    where = f"--publish: {protocol} {Target(address, port)}"
    sock: socket.socket | None = None
    try:
        sock = socket.socket(SOCKET_FAMILY[family], socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM)
        sock.setblocking(False)
        if family is IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_tcp:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if is_tcp:
            sock.listen(BACKLOG)
        return sock
    except OSError as error:
        if sock is not None:
            sock.close()
        raise _explained(error, where, port) from None


def _explained(error: OSError, where: str, port: int) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"{where}: the port is in use by another program")
    if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
        return _NoSuchFamily(f"{where}: this machine has no such address")
    if error.errno == errno.EACCES:
        return UsageError(f"{where}: {_why_forbidden(port)}")
    return UsageError(f"{where}: {error.strerror}")


def _why_forbidden(port: int) -> str:
    first = 1024
    with suppress(OSError, ValueError), open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as knob:
        first = int(knob.read())
    if port < first:
        return f"only root may listen on ports below {first}; take a higher one"
    return "permission denied"
