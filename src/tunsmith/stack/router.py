"""One stack on several network interfaces, or on Ethernet: which way packets take, and which are for us.

    nic ──▶ receiver ─┬─ ours, or the NIC takes any ──▶ stack.receive_frame
      ▲               ├─ a group ──▶ UDP only ──▶ stack
      │               └─ somebody else's ──▶ forwarding.py, on request
      │                                         │
    nic.send(next hop) ◀── way(destination) ◀───┴── emit ◀── stack
                                │
                                └─ one of ours ──▶ loopback

Hosts are of the weak kind (RFC 1122 §3.3.4.2): an address of ours is ours on every NIC. Ways are found in ways.py.

A single NIC without Ethernet needs none of this: its device and its stack are then joined directly, and nothing
here stands between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from errno import ENETUNREACH, ENODEV
from functools import partial

from tunsmith.errors import LocalError
from tunsmith.stack.addresses import Standing
from tunsmith.stack.config import StackConfig
from tunsmith.stack.ethernet import Deliver, Station
from tunsmith.stack.events import StackHandler
from tunsmith.stack.forwarding import Forwarder
from tunsmith.stack.loopback import Loopback
from tunsmith.stack.nic import Nic
from tunsmith.stack.output import Parts
from tunsmith.stack.routes import LAST_METRIC, Route, RouteTable, parse_route
from tunsmith.stack.stack import UDP_PROTOCOL, Stack
from tunsmith.stack.ways import Way, Ways
from tunsmith.wire.icmp import IcmpError, build_error
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, is_unicast, parse_ip
from tunsmith.wire.vnet import PLAIN, TSO, VNET_HDR_LEN

_EVERYWHERE = ("0.0.0.0/0", "::/0")


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
        self._clock = clock
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
        self._loopback = Loopback(self.stack, clock)
        self._ways = Ways(self._loopback)
        self._usable, self._known_ways = self._ways.usable, self._ways.known
        self._reaches_ourselves = False
        self._forwarder = Forwarder(self)
        if self._direct is None:
            self.stack.route_mtu = self._route_mtu
        for nic in self.nics:
            self._attach(nic)

    # --- set-up ---

    def _attach(self, nic: Nic) -> None:
        for interface in nic.interfaces:
            self._ways.add(Route(interface.network, nic))
        if nic.mac is None:
            for network in _EVERYWHERE:
                self._ways.add(parse_route(network, nic, metric=LAST_METRIC))
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
        self._ways.use(address, nic)
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

    def add_route(
        self, network: str, nic: Nic | None = None, *, gateway: str | None = None, metric: int = 0
    ) -> Route:
        """Send packets to `network` ("0.0.0.0/0", say) out of `nic`, to `gateway` or straight to their destination.
        Without `nic` it is the one that `gateway` is on, or the first. Raises UsageError for what is no route,
        LocalError ENETUNREACH for a gateway that is not on the network of a NIC, ENODEV for a NIC of another stack."""
        route = parse_route(network, nic or self.nics[0], gateway, metric)
        if route.nic not in self.nics:
            raise LocalError(ENODEV, f"no route by {route.nic}: it is none of this stack's")
        if route.gateway is not None:
            on = self._ways.nic_of(route.gateway, nic)
            if on is None:
                where = "no NIC is" if nic is None else f"{nic} is not"
                raise LocalError(
                    ENETUNREACH,
                    f"no route to {network} via {gateway}: {where} on a network with that address; "
                    f"give the NIC an address there, or first add the route to {gateway} itself",
                )
            route = replace(route, nic=on)
        self._ways.add(route)
        return route

    def remove_route(self, route: Route) -> None:
        """Forget a way. Raises KeyError for one that is not known."""
        self._ways.remove(route)

    # --- what is known ---

    @property
    def routes(self) -> RouteTable:
        """All of them; changed by `add_route` and `remove_route`."""
        return self._ways.routes

    def source_for(self, destination: bytes) -> bytes | None:
        """Which of our addresses to speak to `destination` from; None where there is none, or no way. To one of ours
        on a device that is joined directly there is one after `reach_ourselves`."""
        way = self.way(destination)
        if way is None:
            return None
        nic, next_hop = way
        if not isinstance(nic, Nic):
            return destination  # to ourselves
        return nic.source_for(next_hop) or self.any_address(IPV4 if len(destination) == 4 else IPV6)

    def any_address(self, family: IpFamily) -> bytes | None:
        """Some address of ours, of a wide scope where there is one."""
        return self._ways.any_address(family)

    def is_broadcast(self, destination: bytes) -> bool:
        """Whether `destination` is everybody on one of our networks."""
        return any(destination in nic.broadcasts for nic in self.nics)

    def way(self, destination: bytes) -> tuple[Way, bytes] | None:
        """The NIC that leads to `destination` and the next hop there; None where no route does."""
        return self._ways.find(destination)

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

    def reach_ourselves(self) -> None:
        """From now on what is sent to an address of ours comes back. It always does where ways are looked up; a
        device that is joined directly pays for the look only once somebody wants that. Idempotent."""
        stack = self.stack
        if self._direct is None or self._reaches_ourselves:
            return
        self._reaches_ourselves = True
        to_device, usable, loopback = stack.wire, self._usable, self._loopback

        def emit(parts: Parts) -> None:
            parts, destination = _addressed(parts)
            if destination in usable:
                loopback.send(destination, parts)
            else:
                to_device(parts)

        stack.set_wire(emit)

    def emit(self, parts: Parts) -> None:
        """One frame of the stack."""
        parts, destination = _addressed(parts)
        way = self._known_ways.get(destination)
        if way is None:
            first = parts[0]
            source = bytes(first[22:26] if len(destination) == 4 else first[18:34])
            way = self._ways.find_from(source, destination)
            if way is None:
                self.stack.drops["no_route"] += 1
                self._fail(b"".join(parts), IcmpError.NETWORK)
                return
        way[0].send(way[1], parts)

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


def _addressed(parts: Parts) -> tuple[Parts, bytes]:
    """A frame of the stack with its IP header in the first part, and where it is to go."""
    first = parts[0]
    if len(first) == VNET_HDR_LEN:
        first = b"".join(parts[:2])
        parts = (first, *parts[2:])
    return parts, bytes(first[26:30] if first[VNET_HDR_LEN] >> 4 == 4 else first[34:50])
