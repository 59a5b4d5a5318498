"""A wish and a machine looked at together: what every strategy asks about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_network

from tunsmith.route.facts import Address, Prefix, Route, Snapshot
from tunsmith.route.numbers import Numbers
from tunsmith.route.uplink import address_of, has_ipv6, uplinks
from tunsmith.route.wish import Wish

LAST = 0xFFFFFFF0
"""A metric behind all others."""
IPV6_METRIC = 1024
"""That of an IPv6 route that was added without one (IP6_RT_PRIO_USER)."""
LINK = 253
"""RT_SCOPE_LINK: of an IPv4 route without a gateway."""
UNPACED = "reno"
"""Congestion control that every kernel has."""
NOT_FORWARDED: tuple[Prefix, ...] = (ip_network("224.0.0.0/4"), ip_network("255.255.255.255/32"))
"""Groups and broadcast: packets for them leave by an interface, never by a gateway."""
KEPT_BY_KERNEL: tuple[Prefix, ...] = (ip_network("fe80::/10"), ip_network("ff00::/8"))
"""The same of IPv6, for which every link has a route."""
OF_A_LINK: tuple[Prefix, ...] = (ip_network("169.254.0.0/16"), *NOT_FORWARDED, *KEPT_BY_KERNEL)
"""What belongs to a link is not for a TUN."""
_NEVER_PUBLIC: tuple[Prefix, ...] = tuple(
    ip_network(each)
    for each in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
        "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "fc00::/7", "fe80::/10", "2001:db8::/32",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    wish: Wish
    snapshot: Snapshot
    numbers: Numbers

    @property
    def tun(self) -> str:
        return self.numbers.tun

    @property
    def transient(self) -> bool:
        """What leads to the TUN goes with us."""
        return not self.numbers.lasting

    @property
    def has_firewall(self) -> bool:
        """Connections can be told apart by nftables."""
        return self.wish.nft and self.numbers.mark != 0

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of IP that go through the TUN: 6 first, so that nothing leaks by it while we set up."""
        usable = {4: True, 6: has_ipv6(self.snapshot, self.tun)}
        return tuple(
            version for version in (6, 4) if self.wish.address(version) is not None and usable[version]
        )

    def uplinks(self, version: int) -> list[str]:
        """The interfaces that our own traffic may leave by, the best first."""
        asked = self.wish.interface
        return [asked] if asked else uplinks(self.snapshot, version, self.tun)

    def pin(self) -> str:
        """The interface to which our sockets can be bound, "" while there is none."""
        return next((device for version in (4, 6) for device in self.uplinks(version)), "")

    def captured(self, version: int) -> list[Prefix]:
        """What is led into the TUN: what is included, and the network of the TUN itself."""
        address = self.wish.address(version)
        own: list[Prefix] = [] if address is None else [address.network]
        return list(dict.fromkeys([*self.wish.included(version), *own]))

    def spared(self, version: int) -> list[Prefix]:
        """What is not, though it lies within that."""
        links = (prefix for prefix in OF_A_LINK if prefix.version == version)
        taken = self.captured(version)
        return [
            prefix for prefix in dict.fromkeys([*self.wish.excluded(version), *links]) if prefix not in taken
        ]

    def source(self, version: int) -> Address | None:
        """What traffic into the TUN bears as its source: the address it bears without us, so that the reply of a
        UDP service that listens on all addresses comes from the one its client knows. A strict wish: the TUN's
        own, to which nobody in the LAN can speak."""
        if self.wish.strict:
            return None
        found = (address_of(self.snapshot, device, version) for device in self.uplinks(version))
        return next((address for address in found if address is not None), None)


def into(tun: str, prefix: Prefix, table: int, *, metric: int = 0) -> Route:
    """A route into the TUN. Connections that leave by it are paced by nobody: the wire ends in this machine, and the
    other end of the stack has the congestion control that counts (`host/inside.py` does the same for `run`)."""
    return replace(route(prefix, table, tun, metric=metric), congctl=UNPACED)


def route(prefix: Prefix, table: int, device: str = "", kind: str = "unicast", *, metric: int = 0) -> Route:
    """A route of ours without a gateway, with the metric and the scope that the kernel gives it."""
    is_four = prefix.version == 4
    scope = LINK if is_four and kind == "unicast" else 0
    return Route(prefix, device, None, table, metric or (0 if is_four else IPV6_METRIC), kind, scope=scope)


def is_private(prefix: Prefix) -> bool:
    """Whether no host of the Internet is in `prefix` (RFC 6890). Whoever hands out addresses could claim any other
    network to be the one we stand in."""
    return any(within(prefix, each) for each in _NEVER_PUBLIC)


def within(prefix: Prefix, other: Prefix) -> bool:
    """Whether `prefix` is a part of `other`, or all of it."""
    return prefix.version == other.version and prefix.subnet_of(other)  # type: ignore[arg-type]  # of one version
