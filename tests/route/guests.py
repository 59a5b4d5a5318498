"""What others do to a machine's network."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network

from tests.route.entries import connected, route
from tunsmith.route.facts import MAIN, Link, LinkAddress, Route, Rule

MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Guest:
    links: tuple[Link, ...] = ()
    addresses: tuple[LinkAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    marks: frozenset[tuple[int, int]] = field(default_factory=frozenset)


def wg_quick(priority: int = 32765) -> Guest:
    """A full tunnel as wg-quick(8) makes it, with the priorities the kernel hands out."""
    return Guest(
        (Link("wg0", 11, "wireguard"),),
        (LinkAddress("wg0", ip_interface("10.66.0.2/32")),),
        tuple(route(prefix, "wg0", table=51820) for prefix in ("0.0.0.0/0", "::/0")),
        tuple(
            rule
            for version in (4, 6)
            for rule in (
                Rule(version, priority - 1, MAIN, suppress_prefixlength=0, protocol=3),
                Rule(version, priority, 51820, inverted=True, fwmark=0xCA6C, fwmask=MASK, protocol=3),
            )
        ),
    )


def wireguard_with_a_rule() -> Guest:
    """A net behind a link, by a rule of its own."""
    return Guest(
        (Link("wg1", 12, "wireguard"),),
        (),
        (route("10.67.0.0/16", "wg1", table=67),),
        (Rule(4, 32765, 67, destination=ip_network("10.67.0.0/16"), protocol=3),),
    )


TAILSCALE = Guest(
    (Link("tailscale0", 13, "tun"),),
    (LinkAddress("tailscale0", ip_interface("100.100.1.1/32")),),
    (route("100.64.0.0/10", "tailscale0", table=52), route("fd7a:115c:a1e0::/48", "tailscale0", table=52)),
    tuple(
        rule
        for version in (4, 6)
        for rule in (
            Rule(version, 5210, MAIN, fwmark=0x80000, fwmask=0xFF0000, protocol=3),
            Rule(version, 5230, 253, fwmark=0x80000, fwmask=0xFF0000, protocol=3),
            Rule(version, 5250, 0, "unreachable", fwmark=0x80000, fwmask=0xFF0000, protocol=3),
            Rule(version, 5270, 52, protocol=3),
        )
    ),
    frozenset({(0x40000, 0xFF0000), (0x80000, 0xFF0000)}),
)
DOCKER = Guest(
    (Link("docker0", 14, "bridge"),),
    (LinkAddress("docker0", ip_interface("172.17.0.1/16")),),
    (connected("172.17.0.0/16", "docker0"),),
)
OPENVPN = Guest(
    (Link("tun0", 15, "tun"),),
    (LinkAddress("tun0", ip_interface("10.8.0.2/24")),),
    (
        connected("10.8.0.0/24", "tun0"),
        route("0.0.0.0/1", "tun0", "10.8.0.1"),
        route("128.0.0.0/1", "tun0", "10.8.0.1"),
        route("203.0.113.9/32", "eth0", "192.168.7.1"),
        *(route(prefix, "tun0", metric=1024) for prefix in ("::/3", "2000::/4", "3000::/4", "fc00::/7")),
    ),
)
SECOND_UPLINK = Guest(
    (Link("ppp0", 16, "ppp"),),
    (LinkAddress("ppp0", ip_interface("100.70.0.9/32")),),
    (route("0.0.0.0/0", "ppp0", metric=700), route("0.0.0.0/0", "ppp0", table=77)),
    (Rule(4, 1000, 77, source=ip_network("100.70.0.9/32"), protocol=3),),
)
HOSTILE = Guest(
    routes=(
        route("198.51.100.0/25", "eth0", "192.168.7.66", protocol=16),
        route("9.9.9.0/25", "eth0", "192.168.7.66"),
    )
)
"""Routes that somebody in the LAN handed out by DHCP option 121."""
KUBERNETES = Guest(marks=frozenset({(0x4000, 0x4000), (0x8000, 0x8000)}))
GUESTS = (
    wg_quick(), wireguard_with_a_rule(), TAILSCALE, DOCKER, OPENVPN, SECOND_UPLINK, HOSTILE, KUBERNETES,
)  # fmt: skip
