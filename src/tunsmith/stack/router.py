"""One stack on several network interfaces, or on Ethernet: which way packets take, and which are for us.

    nic ──▶ receiver ─┬─ ours, or the NIC takes any ──▶ stack.receive_frame
      ▲               ├─ a group ──▶ UDP only ──▶ stack
      │               └─ somebody else's ──▶ forwarding.py, on request
      │                                         │
    nic.send(next hop) ◀── way(destination) ◀───┴── emit ◀── stack
                                │
                                └─ one of ours ──▶ loopback

Hosts are of the weak kind (RFC 1122 §3.3.4.2): an address of ours is ours on every NIC. Ways that were found are
remembered until a route or an address changes.

A single NIC without Ethernet needs none of this: its device and its stack are then joined directly, and nothing
here stands between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Protocol

from tunsmith.stack.addresses import Standing
from tunsmith.stack.config import StackConfig
from tunsmith.stack.ethernet import Deliver, Station
from tunsmith.stack.events import StackHandler
from tunsmith.stack.forwarding import Forwarder
from tunsmith.stack.nic import Nic
from tunsmith.stack.output import Parts
from tunsmith.stack.routes import LAST_METRIC, Route, RouteTable, parse_route
from tunsmith.stack.stack import ROOM, UDP_PROTOCOL, Stack
from tunsmith.stack.tcp.timers import NEVER
from tunsmith.wire.icmp import IcmpError, build_error
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, is_unicast, parse_ip
from tunsmith.wire.vnet import PLAIN, TSO, VNET_HDR_LEN

WAYS = 4096
"""Destinations whose way is remembered."""
LOOPBACK_FRAMES = 1024
LOOPBACK_DELAY = 1e-6
"""Seconds that a packet to ourselves takes: not none, so that two that answer each other do not stop the world."""

_EVERYWHERE = ("0.0.0.0/0", "::/0")


class Way(Protocol):
    """Where a packet can be sent."""

    mtu: int

    def send(self, next_hop: bytes, parts: Parts, *, forwarded: bool = False) -> None:
        """One IP frame, its IP header in the first part."""


class Router:
    """A stack (`stack`) and its NICs. `config` as for Stack; what it says of MTU, offload and addresses is known
    better here. `clock` gives the times that are also passed as `now`. With `forwarding`, packets between NICs
    are routed.

    The networks of the NICs' addresses are reached directly. A NIC without Ethernet is also the last resort for
    every destination. Call `start` once before packets flow."""

    def __init__(
        self,
        nics: Iterable[Nic],
        config: StackConfig | None = None,
        *,
        clock: Callable[[], float],
        handler: StackHandler | None = None,
        forwarding: bool = False,
    ) -> None:
        self.nics = list(nics)
        self.forwarding = forwarding
        self.routes = RouteTable()
        self._clock = clock
        self._usable: dict[bytes, Nic] = {}
        self._ways: dict[bytes, tuple[Way, bytes]] = {}
        only = self.nics[0] if len(self.nics) == 1 and not forwarding else None
        self._direct = only if only is not None and only.mac is None else None
        config = replace(
            config or StackConfig(),
            mtu=max(nic.mtu for nic in self.nics),
            offload=self._direct is None or self._direct.device.offload & TSO == TSO,
            any_destination=self._direct is None or self._direct.any_destination,
            addresses=(),
        )
        self.stack = Stack(
            config, emit=self.emit if self._direct is None else self._direct.device.write, handler=handler
        )
        self._loopback = _Loopback(self.stack, clock)
        self._forwarder = Forwarder(self)
        if self._direct is None:
            self.stack.route_mtu = self._route_mtu
        for nic in self.nics:
            self._attach(nic)

    # --- set-up ---

    def _attach(self, nic: Nic) -> None:
        for interface in nic.interfaces:
            self.routes.add(Route(interface.network, nic))
        if nic.mac is None:
            for network in _EVERYWHERE:
                self.routes.add(parse_route(network, nic, metric=LAST_METRIC))
            return
        station = nic.station = Station(
            nic.mac,
            nic.device.write,
            deliver=partial(self._receive, nic),
            unreachable=self._on_unreachable,
            source_for=nic.source_for,
            clock=self._clock,
            deadlines=self.stack.deadlines,
            drops=self.stack.drops,
            vlan=nic.vlan,
            router=self.forwarding,
            on_conflict=nic.on_conflict,
        )
        station.broadcasts = nic.broadcasts
        nic.usable = station.addresses.usable
        station.addresses.on_usable = partial(self._on_usable, nic)

    def start(self) -> None:
        """Begin to use the addresses of all NICs; on Ethernet they are probed for, which takes a second."""
        now = self._clock()
        for nic in self.nics:
            for interface in nic.interfaces:
                if nic.station is None:
                    nic.usable.add(interface.packed)
                    self._on_usable(nic, interface.packed)
                else:
                    nic.station.addresses.add(interface.packed, now, probe=nic.probe)

    def _on_usable(self, nic: Nic, address: bytes) -> None:
        self._usable[address] = nic
        self._ways.clear()
        if self._direct is not None and not nic.any_destination:
            self.stack.addresses = frozenset(self._usable)

    def take_any(self, wanted: bool) -> None:
        """From now on take packets to every address on all NICs, or only to ours."""
        for nic in self.nics:
            nic.any_destination = wanted
        if self._direct is not None:
            self.stack.addresses = None if wanted else frozenset(self._usable)

    @property
    def duplicates(self) -> list[bytes]:
        """Addresses of ours that somebody else has, so that they cannot be used."""
        return [
            address
            for nic in self.nics
            if nic.station is not None
            for address, entry in nic.station.addresses.entries.items()
            if entry.standing is Standing.DUPLICATE
        ]

    @property
    def is_settled(self) -> bool:
        """Whether no address is being probed for any longer."""
        return not any(nic.station is not None and nic.station.addresses.tentative for nic in self.nics)

    def add_route(self, network: str, nic: Nic, *, gateway: str | None = None, metric: int = 0) -> Route:
        """Send packets to `network` ("0.0.0.0/0", say) out of `nic`, to `gateway` or straight to their destination.
        Raises UsageError for what is no route."""
        route = parse_route(network, nic, gateway, metric)
        self.routes.add(route)
        self._ways.clear()
        return route

    def remove_route(self, route: Route) -> None:
        """Forget a way. Raises KeyError for one that is not known."""
        self.routes.remove(route)
        self._ways.clear()

    # --- what is known ---

    def source_for(self, destination: bytes) -> bytes | None:
        """Which of our addresses to speak to `destination` from; None where there is none, or no way: on a
        device that is joined directly there is none to ourselves."""
        way = self.way(destination)
        if way is None:
            return None
        nic, next_hop = way
        if not isinstance(nic, Nic):
            return None if self._direct else destination  # to ourselves
        return nic.source_for(next_hop) or self.any_address(IPV4 if len(destination) == 4 else IPV6)

    def any_address(self, family: IpFamily) -> bytes | None:
        """Some address of ours, of a wide scope where there is one."""
        ours = [address for address in self._usable if len(address) == family.address_length]
        return next((address for address in ours if address[:1] != b"\xfe"), ours[0] if ours else None)

    def is_broadcast(self, destination: bytes) -> bool:
        """Whether `destination` is everybody on one of our networks."""
        return any(destination in nic.broadcasts for nic in self.nics)

    def way(self, destination: bytes) -> tuple[Way, bytes] | None:
        """The NIC that leads to `destination` and the next hop there; None where no route does."""
        way = self._ways.get(destination)
        if way is None:
            way = self._find_way(destination)
            if way is not None and not _is_of_link(destination):
                if len(self._ways) >= WAYS:
                    self._ways.clear()
                self._ways[destination] = way
        return way

    def _find_way(self, destination: bytes) -> tuple[Way, bytes] | None:
        if destination in self._usable:
            return self._loopback, destination
        route = self.routes.find(destination)
        return None if route is None else (route.nic, route.gateway or destination)

    def _route_mtu(self, destination: bytes) -> int:
        way = self.way(destination)
        return self.stack.config.mtu if way is None else way[0].mtu

    # --- packets in ---

    def receiver(self, nic: Nic) -> Deliver:
        """What to call with each frame of `nic`: as Stack.receive_frame, with a buffer that may be written to."""
        if nic is self._direct:
            return self.stack.receive_frame
        return partial(self._receive, nic) if nic.station is None else nic.station.receive

    def _receive(self, nic: Nic, frame: memoryview, length: int, now: float) -> None:
        """An IP frame. Never raises for anything a peer can send."""
        stack, usable = self.stack, self._usable
        if frame[VNET_HDR_LEN] >> 4 == 4:
            source, destination = bytes(frame[22:26]), bytes(frame[26:30])
            protocol = frame[VNET_HDR_LEN + 9]
        else:
            source, destination = bytes(frame[18:34]), bytes(frame[34:50])
            protocol = frame[VNET_HDR_LEN + 6]
        if source in usable:  # RFC 1122 §3.2.1.3
            stack.drops["martian"] += 1
        elif destination in usable or nic.any_destination:
            stack.receive_frame(frame, length, now)
        elif not is_unicast(destination) or destination in nic.broadcasts:
            if protocol == UDP_PROTOCOL:
                stack.receive_frame(frame, length, now)
            else:
                stack.drops["group"] += 1
        elif self.forwarding:
            self._forwarder.forward(frame[:length], now)
        else:
            stack.drops["not_our_address"] += 1

    # --- packets out ---

    def emit(self, parts: Parts) -> None:
        """One frame of the stack."""
        first = parts[0]
        if len(first) == VNET_HDR_LEN:
            first = b"".join(parts[:2])
            parts = (first, *parts[2:])
        four = first[VNET_HDR_LEN] >> 4 == 4
        destination = bytes(first[26:30] if four else first[34:50])
        way = self._ways.get(destination)
        if way is None:
            way = self._way_of_link(first, four, destination) or self.way(destination)
            if way is None:
                self.stack.drops["no_route"] += 1
                self._fail(b"".join(parts), IcmpError.NETWORK)
                return
        way[0].send(way[1], parts)

    def _way_of_link(
        self, first: bytes | memoryview, four: bool, destination: bytes
    ) -> tuple[Way, bytes] | None:
        """Groups and link-local addresses are the same on every link: the source says which one is meant."""
        if not _is_of_link(destination) or destination in self._usable:
            return None
        nic = self._usable.get(bytes(first[22:26] if four else first[18:34]))
        return None if nic is None else (nic, destination)

    def _on_unreachable(self, frame: bytes, forwarded: bool) -> None:
        """A neighbour does not answer."""
        self.stack.drops["neighbour_unreachable"] += 1
        if forwarded:
            packet = memoryview(frame)[VNET_HDR_LEN:]
            header = parse_ip(packet)
            self._forwarder.complain(header, packet, IcmpError.HOST, self._clock())
        else:
            self._fail(frame, IcmpError.HOST)

    def _fail(self, frame: bytes, error: IcmpError) -> None:
        """Tell our own stack that `frame` did not get far, as a router would."""
        packet = frame[VNET_HDR_LEN:]
        header = parse_ip(packet)
        answer = build_error(header.family, header.destination, header.source, error, packet)
        self._loopback.send(header.source, (PLAIN + answer,))


def _is_of_link(address: bytes) -> bool:
    """Whether `address` means something else on every link: groups, broadcast, link-local IPv6."""
    return address[0] >= (224 if len(address) == 4 else 0xFE)


class _Loopback:
    """The way to ourselves. A Timed."""

    __slots__ = ("__weakref__", "_clock", "_frames", "_stack", "mtu", "scheduled", "timers")

    def __init__(self, stack: Stack, clock: Callable[[], float]) -> None:
        self._stack = stack
        self._clock = clock
        self._frames: deque[bytes] = deque()
        self.mtu = stack.config.mtu
        self.timers = [NEVER]
        self.scheduled = NEVER

    def send(self, next_hop: bytes, parts: Parts, *, forwarded: bool = False) -> None:
        """Have the frame received, soon."""
        if len(self._frames) >= LOOPBACK_FRAMES:
            self._stack.drops["loopback_queue"] += 1
            return
        self._frames.append(b"".join(parts))
        if self.timers[0] == NEVER:
            self.timers[0] = self._clock() + LOOPBACK_DELAY
            self._stack.deadlines.schedule(self, self.timers[0])

    def on_timeout(self, now: float) -> None:
        """What was sent arrives; what that provokes takes its time again."""
        self.timers[0] = NEVER
        for _ in range(len(self._frames)):
            frame = self._frames.popleft()
            self._stack.receive_frame(memoryview(frame + bytes(ROOM)), len(frame), now)
