"""Machines to plan for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_interface

from tests.route.entries import connected, route
from tests.route.guests import Guest
from tunsmith.route.facts import DEFAULT, KERNEL, LOCAL, MAIN, Link, LinkAddress, Route, Rule, Snapshot
from tunsmith.route.plan import settings

STOCK_RULES = (
    Rule(4, 0, LOCAL, protocol=KERNEL),
    Rule(4, 32766, MAIN, protocol=KERNEL),
    Rule(4, 32767, DEFAULT, protocol=KERNEL),
    Rule(6, 0, LOCAL, protocol=KERNEL),
    Rule(6, 32766, MAIN, protocol=KERNEL),
)


def machine(
    *,
    rules: Sequence[Rule] = (),
    routes: Sequence[Route] = (),
    links: Sequence[Link] = (),
    changed: dict[str, str] | None = None,
    has_default: bool = True,
    served: Sequence[int] = (22,),
) -> Snapshot:
    """A host with one Ethernet link, and what is given besides; `rules` are sorted in."""
    all_links = (Link("lo", 1, mtu=65536, loopback=True), Link("eth0", 2), *links)
    defaults = [route("0.0.0.0/0", "eth0", "192.168.7.1"), route("::/0", "eth0", "fd07::1", metric=1024)]
    values = {path: _stock(path) for path in settings(link.name for link in all_links)}
    return Snapshot(
        all_links,
        (
            LinkAddress("lo", ip_interface("127.0.0.1/8"), scope=254),
            LinkAddress("eth0", ip_interface("192.168.7.5/24")),
            LinkAddress("eth0", ip_interface("fd07::5/64")),
            LinkAddress("eth0", ip_interface("fe80::5/64"), scope=253),
        ),
        (
            route("127.0.0.0/8", "lo", table=LOCAL, kind="local", protocol=KERNEL, scope=254),
            route("192.168.7.5/32", "eth0", table=LOCAL, kind="local", protocol=KERNEL, scope=254),
            route("::1/128", "lo", table=LOCAL, kind="local", protocol=KERNEL),
            route("fd07::5/128", "eth0", table=LOCAL, kind="local", protocol=KERNEL),
            route("ff00::/8", "eth0", table=LOCAL, kind="multicast", protocol=KERNEL, metric=256),
            connected("192.168.7.0/24", "eth0"),
            connected("fd07::/64", "eth0"),
            connected("fe80::/64", "eth0"),
            *(defaults if has_default else []),
            *routes,
        ),
        tuple(sorted((*STOCK_RULES, *rules), key=lambda rule: (rule.version, rule.priority))),
        {**values, **(changed or {})},
        served=frozenset(served),
    )


def with_guests(host: Snapshot, guests: Iterable[Guest]) -> Snapshot:
    """`host` after each of `guests` has set itself up."""
    for guest in guests:
        names = [link.name for link in guest.links]
        host = replace(
            host,
            links=(*host.links, *guest.links),
            addresses=(*host.addresses, *guest.addresses),
            routes=(*host.routes, *guest.routes),
            rules=tuple(sorted((*host.rules, *guest.rules), key=lambda rule: (rule.version, rule.priority))),
            marks=host.marks | guest.marks,
            settings={**{path: _stock(path) for path in settings(names)}, **host.settings},
        )
    return host


def _stock(path: str) -> str:
    return "1" if path.endswith("accept_ra") else "0"
