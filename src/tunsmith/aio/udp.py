"""The UDP ports of a stack: who gets which datagram, and how one leaves."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tunsmith.aio.address import (
    Addresses,
    HostPort,
    SocketAddress,
    check_port,
    os_error,
    pack,
    socket_address,
    unpack,
)
from tunsmith.stack.input import FATAL_WHILE_OPENING
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import family_of

if TYPE_CHECKING:
    from tunsmith.stack.events import DatagramError
    from tunsmith.stack.stack import Stack
    from tunsmith.wire.ip import IpFamily

Place = tuple[bytes | None, int]
"""An address, None for any, and a port, 0 for any."""
OnDatagram = Callable[[bytes, SocketAddress, SocketAddress], None]
_ERRNO = FATAL_WHILE_OPENING | {IcmpError.TOO_BIG: errno.EMSGSIZE}


class DatagramPorts:
    """The ports of `stack`, and the half of its handler that is about datagrams."""

    def __init__(
        self, stack: Stack, addresses: Addresses, clock: Callable[[], float], on_change: Callable[[], None]
    ) -> None:
        self.stack = stack
        self.addresses = addresses
        self._clock = clock
        self._on_change = on_change
        self._by_place: dict[Place, DatagramPort] = {}

    @property
    def hears_all(self) -> bool:
        """Whether somebody wants what goes to addresses that are not ours."""
        return any(address is None for address, _ in self._by_place)

    def bind(
        self, addresses: Sequence[bytes | None], port: int, remote: tuple[bytes, int] | None
    ) -> DatagramPort:
        """A port at `addresses` (None: any); `port` 0 is a free one, or with any address all ports. Nothing arrives
        before it is opened. Raises OSError EADDRINUSE, EADDRNOTAVAIL."""
        if not port and addresses[0] is not None:
            port = self._free_port(addresses)
        places = [(address, port) for address in addresses]
        for address, _ in places:
            if (address, port) in self._by_place:
                raise os_error(
                    errno.EADDRINUSE, f"{unpack(address) if address else 'any address'} port {port}"
                )
        return DatagramPort(self, places, remote)

    def _free_port(self, addresses: Sequence[bytes | None]) -> int:
        port = self.stack.ports.choose(
            b"", b"", 0, lambda port: any((address, port) in self._by_place for address in addresses)
        )
        if port is None:
            raise os_error(errno.EADDRINUSE, "no port is free")
        return port

    def add(self, port: DatagramPort) -> None:
        """Give `port` what comes to its places."""
        self._by_place.update(dict.fromkeys(port.places, port))
        self._on_change()

    def remove(self, port: DatagramPort) -> None:
        """No more of it."""
        for place in port.places:
            self._by_place.pop(place, None)
        self._on_change()

    def close(self, error: OSError | None = None) -> None:
        """End all ports."""
        for port in set(self._by_place.values()):
            port.close(error)

    # --- of the stack's handler ---

    def on_datagram(self, family: IpFamily, key: bytes, data: memoryview, segment_size: int) -> None:
        """UDP payload: StackHandler."""
        source, source_port, destination, port = family.split(key)
        places = self._by_place
        taker = places.get((destination, port)) or places.get((None, port)) or places.get((None, 0))
        if taker is None or taker.remote not in (None, (source, source_port)):
            if destination in self.addresses.packed:
                self.stack.drops["udp_no_port"] += 1
                self.stack.send_datagram_error(family, key, IcmpError.PORT, self._clock(), length=len(data))
            return
        ends = socket_address(source, source_port), socket_address(destination, port)
        for at in range(0, len(data) or 1, segment_size or len(data) or 1):
            taker.on_datagram(bytes(data[at : at + segment_size] if segment_size else data), *ends)

    def on_datagram_error(self, error: DatagramError) -> None:
        """A datagram of ours did not arrive: StackHandler. Believed only about ends that we do use."""
        places = self._by_place
        own = error.source, error.source_port
        taker = places.get(own) or places.get((None, error.source_port)) or places.get((None, 0))
        to = error.destination, error.destination_port
        if taker is not None and error.error is not None and taker.remote in (None, to):
            taker.on_error(
                os_error(_ERRNO.get(error.error, errno.EHOSTUNREACH), f"{unpack(to[0])} port {to[1]}")
            )


class DatagramPort:
    """One port, bound to `places`, perhaps connected to `remote`. Between `open` and `close` it calls its owner."""

    def __init__(self, ports: DatagramPorts, places: list[Place], remote: tuple[bytes, int] | None) -> None:
        self._ports = ports
        self.places = places
        self.remote = remote
        self._closed = False

    def open(
        self,
        on_datagram: OnDatagram,
        on_error: Callable[[OSError], None],
        on_end: Callable[[OSError | None], None],
    ) -> None:
        """Let it begin. `on_datagram(data, source, destination)`, `on_error` for what did not arrive, `on_end`
        once."""
        self.on_datagram = on_datagram
        self.on_error = on_error
        self._on_end = on_end
        self._ports.add(self)

    def close(self, error: OSError | None = None) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            self._ports.remove(self)
            self._on_end(error)

    @property
    def sockname(self) -> SocketAddress:
        address, port = self.places[0]
        return socket_address(bytes(4) if address is None or len(self.places) > 1 else address, port)

    @property
    def peername(self) -> SocketAddress | None:
        return None if self.remote is None else socket_address(*self.remote)

    def __str__(self) -> str:
        peer = "" if self.remote is None else f" to {self.peername}"
        return f"{self.sockname}{peer}{', closed' if self._closed else ''}"

    def send(
        self,
        data: bytes | bytearray | memoryview,
        to: HostPort | SocketAddress | None,
        source: HostPort | SocketAddress | None,
    ) -> None:
        """See DatagramEndpoint.send."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__!r}")
        if self._closed:
            raise os_error(errno.EBADF, "the endpoint is closed")
        peer = self.remote if to is None else (pack(to[0]), check_port(to[1]))
        if peer is None:
            raise os_error(errno.EDESTADDRREQ)
        self._ports.addresses.check_destination(peer[0])
        own = self._source_for(peer[0]) if source is None else (pack(source[0]), check_port(source[1]))
        if len(own[0]) != len(peer[0]):
            raise os_error(errno.EAFNOSUPPORT, f"from {unpack(own[0])} to {unpack(peer[0])}")
        family = family_of(peer[0])
        if 8 + len(data) > family.longest:
            raise os_error(errno.EMSGSIZE, f"{len(data)} bytes")
        self._ports.stack.send_datagram(family, family.key(*own, *peer), bytes(data))

    def _source_for(self, destination: bytes) -> tuple[bytes, int]:
        """Where we are bound, or which of the addresses that we are bound to speaks to `destination`."""
        address, port = self.places[0]
        if address is None or len(self.places) > 1:
            address = self._ports.addresses.source_for(destination)
        return address, port
