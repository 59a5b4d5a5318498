"""What a machine's network is made of: links, addresses, routes, rules and settings, as the kernel tells them.

Values only. Numbers are the kernel's (rtnetlink(7)), interfaces are called by name, prefixes are never None:
a default route is one to 0.0.0.0/0 or ::/0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface

MAIN, LOCAL, DEFAULT = 254, 255, 253
"""Tables every machine has."""
KERNEL = 2
"""RTPROT_KERNEL: routes that came with an address."""
OURS = 0x7D
"""RTPROT of every route and rule that we add: `ip route show table all proto 0x7d` lists them."""
ANY4, ANY6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `kind` is the kernel's word ("tun", "veth", "bridge", "wireguard"), "" for hardware;
    `master` is the name of the bridge or bond it belongs to."""

    name: str
    index: int
    kind: str = ""
    up: bool = True
    mtu: int = 1500
    loopback: bool = False
    master: str = ""


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of an interface, with the prefix of its network; `peer` is the other end of a point-to-point
    link. `scope` is 0 (global), 200 (site), 253 (link) or 254 (host). `usable` is not set while the kernel still
    asks whether somebody else has it (IFA_F_TENTATIVE, IFA_F_DADFAILED)."""

    device: str
    address: Interface
    peer: Address | None = None
    scope: int = 0
    usable: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """A route. `kind` is "unicast", "local", "unreachable", "blackhole", "prohibit", "throw" and so on; `device`
    is "" where it has none. Several next hops are told by the first of them, and `multipath` is set. `rest` is what
    has no name here (metrics, all the next hops), as the kernel's attributes in hex: a route that is put back has
    it again. `congctl` is the congestion control of connections that leave by it, "" for the machine's."""

    prefix: Prefix
    device: str = ""
    gateway: Address | None = None
    table: int = MAIN
    metric: int = 0
    kind: str = "unicast"
    protocol: int = OURS
    scope: int = 0
    source: Address | None = None
    onlink: bool = False
    multipath: bool = False
    tos: int = 0
    rest: str = ""
    congctl: str = ""

    @property
    def is_default(self) -> bool:
        return self.prefix.prefixlen == 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule. `fwmask` 0 means that it does not look at the mark. `ports` is the destination ports it wants,
    first and last, (0, 0) for all, `source_ports` likewise. `other` is set where it selects by something that is
    not told here. `inverted` (not) is about all that it selects by, together."""

    version: int
    priority: int
    table: int = 0
    action: str = "lookup"
    inverted: bool = False
    fwmark: int = 0
    fwmask: int = 0
    iif: str = ""
    oif: str = ""
    source: Prefix | None = None
    destination: Prefix | None = None
    ip_protocol: int = 0
    ports: tuple[int, int] = (0, 0)
    suppress_prefixlength: int = -1
    goto: int = 0
    protocol: int = OURS
    other: bool = False
    source_ports: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of one network namespace.

    `settings` holds the sysctls a plan looks at or changes, by path ("net/ipv4/conf/all/rp_filter"); one that does
    not exist is absent. `marks` is every firewall mark somebody uses in the rule set of the firewall, as
    (mark, mask). `served` is the TCP ports on which somebody listens. `firewalls` is the names of the tables of
    nftables, of all families."""

    links: tuple[Link, ...] = ()
    addresses: tuple[LinkAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    marks: frozenset[tuple[int, int]] = frozenset()
    served: frozenset[int] = frozenset()
    firewalls: frozenset[str] = frozenset()

    def link(self, name: str) -> Link | None:
        """The interface called `name`."""
        return next((link for link in self.links if link.name == name), None)

    def default_routes(self, version: int) -> list[Route]:
        """The ways out of this machine in table main, best first."""
        found = [
            route
            for route in self.routes
            if route.is_default and route.table == MAIN and route.prefix.version == version
        ]
        return sorted(found, key=lambda route: route.metric)
