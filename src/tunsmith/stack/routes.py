"""Which way a packet goes: the longest prefix wins, among equals the smallest metric, among those the oldest.

One dictionary for each prefix length in use, the longest first. Whoever asks often remembers the answers
(ways.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from operator import attrgetter
from typing import TYPE_CHECKING

from tunsmith.errors import UsageError

if TYPE_CHECKING:
    from tunsmith.stack.nic import Nic

LAST_METRIC = 1 << 32
"""Of a way that is only taken where no other is known."""


@dataclass(frozen=True, slots=True)
class Route:
    """Packets to `network` leave by `nic`: to `gateway`, or straight to their destination."""

    network: IPv4Network | IPv6Network
    nic: Nic
    gateway: bytes | None = None
    metric: int = 0


def parse_route(network: str, nic: Nic, gateway: str | None = None, metric: int = 0) -> Route:
    """A route in words: "10.0.0.0/8", "::/0". Raises UsageError for what is no network, and for a gateway of the
    other family."""
    try:
        destination = ip_network(network)
        via = None if gateway is None else ip_address(gateway)
    except ValueError as error:
        raise UsageError(f"no route to {network} via {gateway}: {error}") from error
    if via is not None and via.version != destination.version:
        raise UsageError(f"no route to {network} via {gateway}: one is IPv4, the other IPv6")
    return Route(destination, nic, None if via is None else via.packed, metric)


class RouteTable:
    """Routes of both families."""

    def __init__(self) -> None:
        self._tables: dict[int, list[tuple[int, dict[int, list[Route]]]]] = {4: [], 6: []}
        """By version: how far to shift an address, smallest first, and the routes for what is left of it."""

    def __iter__(self) -> Iterator[Route]:
        """All routes, the most particular first."""
        for lengths in self._tables.values():
            for _, prefixes in lengths:
                for routes in prefixes.values():
                    yield from routes

    def add(self, route: Route) -> None:
        """Know one more way."""
        network = route.network
        shift = network.max_prefixlen - network.prefixlen
        lengths = self._tables[network.version]
        prefixes = next((known for known_shift, known in lengths if known_shift == shift), None)
        if prefixes is None:
            prefixes = {}
            lengths.append((shift, prefixes))
            lengths.sort(key=lambda entry: entry[0])
        routes = prefixes.setdefault(int(network.network_address) >> shift, [])
        routes.append(route)
        routes.sort(key=attrgetter("metric"))

    def remove(self, route: Route) -> None:
        """Forget one. Raises KeyError for a route that is not known."""
        network = route.network
        shift = network.max_prefixlen - network.prefixlen
        for known_shift, prefixes in self._tables[network.version]:
            routes = prefixes.get(int(network.network_address) >> shift, [])
            if known_shift == shift and route in routes:
                routes.remove(route)
                return
        raise KeyError(route)

    def find(self, destination: bytes) -> Route | None:
        """The best way to a packed address."""
        number = int.from_bytes(destination, "big")
        for shift, prefixes in self._tables[4 if len(destination) == 4 else 6]:
            routes = prefixes.get(number >> shift)
            if routes:
                return routes[0]
        return None
