"""Which way packets leave a host with several interfaces: to itself, or where the best route leads.

Ways that were found are remembered until a route or an address changes. What is the same on every link, groups and
link-local addresses, has a way of its own with each source.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from tunsmith.stack.output import Parts
from tunsmith.stack.routes import LAST_METRIC, Route, RouteTable
from tunsmith.wire.ip import IpFamily

if TYPE_CHECKING:
    from tunsmith.stack.nic import Nic

MOST = 4096
"""Destinations whose way is remembered."""


class Way(Protocol):
    """Where a packet can be sent."""

    mtu: int

    def send(self, next_hop: bytes, parts: Parts, *, forwarded: bool = False) -> None:
        """One IP frame, its IP header in the first part."""


class Ways:
    """Addresses and routes of a host; `loopback` leads to itself."""

    __slots__ = ("_loopback", "known", "routes", "usable")

    def __init__(self, loopback: Way) -> None:
        self._loopback = loopback
        self.routes = RouteTable()
        self.usable: dict[bytes, Nic] = {}
        """Our addresses that are in use, each with its NIC."""
        self.known: dict[bytes, tuple[Way, bytes]] = {}
        """What `find` has found, for who is in a hurry."""

    def use(self, address: bytes, nic: Nic) -> None:
        """`address` is ours from now on."""
        self.usable[address] = nic
        self.known.clear()

    def add(self, route: Route) -> None:
        """Know one more route."""
        self.routes.add(route)
        self.known.clear()

    def remove(self, route: Route) -> None:
        """Forget one. Raises KeyError for a route that is not known."""
        self.routes.remove(route)
        self.known.clear()

    def nic_of(self, gateway: bytes, nic: Nic | None) -> Nic | None:
        """Which NIC reaches `gateway` without another gateway; where `nic` is given, that one if it does."""
        address = ip_address(gateway)
        for route in self.routes:
            wanted = route.nic is nic if nic is not None else route.metric < LAST_METRIC
            if wanted and route.gateway is None and address in route.network:
                return route.nic
        return None

    def any_address(self, family: IpFamily) -> bytes | None:
        """Some address of ours, of a wide scope where there is one."""
        ours = [address for address in self.usable if len(address) == family.address_length]
        return next((address for address in ours if address[:1] != b"\xfe"), ours[0] if ours else None)

    def find(self, destination: bytes) -> tuple[Way, bytes] | None:
        """The NIC that leads to `destination` and the next hop there; None where no route does."""
        way = self.known.get(destination)
        if way is None:
            way = self._find(destination)
            if way is not None and not _is_of_link(destination):
                if len(self.known) >= MOST:
                    self.known.clear()
                self.known[destination] = way
        return way

    def _find(self, destination: bytes) -> tuple[Way, bytes] | None:
        if destination in self.usable:
            return self._loopback, destination
        route = self.routes.find(destination)
        return None if route is None else (route.nic, route.gateway or destination)

    def find_from(self, source: bytes, destination: bytes) -> tuple[Way, bytes] | None:
        """As `find`, where the source says which link is meant."""
        if _is_of_link(destination) and destination not in self.usable:
            nic = self.usable.get(source)
            if nic is not None:
                return nic, destination
        return self.find(destination)


def _is_of_link(address: bytes) -> bool:
    """Whether `address` means something else on every link: groups, broadcast, link-local IPv6."""
    return address[0] >= (224 if len(address) == 4 else 0xFE)
