"""Where a machine's traffic leaves today: its uplinks, and the way to one prefix.

Some programs leave the default route alone and add wider-than-life routes before it instead (0.0.0.0/1 and
128.0.0.0/1; OpenVPN for IPv6: ::/3, 2000::/4, 3000::/4). `WIDE` is the length up to which a route counts as a
default route in disguise: no network of this machine is so large.
"""

from __future__ import annotations

from tunsmith.route.facts import KERNEL, MAIN, Address, Prefix, Route, Rule, Snapshot

WIDE = {4: 1, 6: 4}


def is_wide(route: Route) -> bool:
    return route.prefix.prefixlen <= WIDE[route.prefix.version]


def tables_of_the_rest(snapshot: Snapshot, version: int) -> set[int]:
    """The tables in which a packet of no special kind finds its way to the Internet."""
    return {rule.table for rule in snapshot.rules if rule.version == version and catches_all(rule, snapshot)}


def first_for_all(snapshot: Snapshot, version: int) -> Rule | None:
    """The rule that decides for a packet of no special kind; None on a machine without policy routing."""
    found = (rule for rule in snapshot.rules if rule.version == version and catches_all(rule, snapshot))
    return min(found, key=lambda rule: rule.priority, default=None)


def catches_all(rule: Rule, snapshot: Snapshot) -> bool:
    """Whether an ordinary packet to the Internet goes no further than `rule`."""
    narrow = rule.source, rule.destination, rule.oif, rule.ip_protocol, rule.iif if rule.iif != "lo" else ""
    is_narrow = any(narrow) or rule.ports != (0, 0) or rule.source_ports != (0, 0) or rule.other
    wants_mark = rule.fwmask != 0 and rule.fwmark != 0
    if rule.inverted:
        if not is_narrow and not wants_mark:
            return False
    elif is_narrow or wants_mark:
        return False
    if rule.action in ("unreachable", "blackhole", "prohibit"):
        return True
    if rule.action != "lookup":
        return False
    if rule.table == MAIN:
        return rule.suppress_prefixlength < 0
    return rule.suppress_prefixlength < WIDE[rule.version] and any(
        route.table == rule.table and route.prefix.version == rule.version and is_wide(route)
        for route in snapshot.routes
    )


def uplinks(snapshot: Snapshot, version: int, but: str = "") -> list[str]:
    """The interfaces by which traffic leaves this machine, the best first; `but` is not one."""
    tables = {MAIN} | tables_of_the_rest(snapshot, version)
    ways = [
        route
        for route in snapshot.routes
        if route.table in tables and route.prefix.version == version and is_wide(route) and route.device
    ]
    ways.sort(key=lambda route: (route.table != MAIN, not route.is_default, route.metric))
    return list(dict.fromkeys(route.device for route in ways if route.device not in ("lo", but)))


def way(snapshot: Snapshot, target: Prefix, device: str = "", but: str = "") -> Route | None:
    """The route of table main that `target` as a whole takes today, by `device` where that is given, never by
    `but`; of several, the one with the least metric."""
    fitting = [
        route
        for route in snapshot.routes
        if route.table == MAIN
        and route.kind == "unicast"
        and route.prefix.version == target.version
        and route.device not in ("lo", but)
        and device in ("", route.device)
        and target.subnet_of(route.prefix)  # type: ignore[arg-type]  # of one version
    ]
    return min(fitting, key=lambda route: (-route.prefix.prefixlen, route.metric), default=None)


def connected(snapshot: Snapshot, version: int, but: str = "") -> list[Route]:
    """The networks this machine stands in, as the kernel made them of its addresses."""
    return [
        route
        for route in snapshot.routes
        if route.table == MAIN
        and route.protocol == KERNEL
        and route.kind == "unicast"
        and route.gateway is None
        and route.prefix.version == version
        and route.device != but
        and not route.is_default
    ]


def address_of(snapshot: Snapshot, device: str, version: int) -> Address | None:
    """The address that traffic out of `device` bears: its first that other machines know, and may be used."""
    return next(
        (
            each.address.ip
            for each in snapshot.addresses
            if each.device == device and each.address.version == version and each.scope == 0 and each.usable
        ),
        None,
    )


def has_ipv6(snapshot: Snapshot, but: str = "") -> bool:
    """Whether an interface speaks IPv6, or one that appears will: a machine can have it forbidden for all or each."""
    names = ["default", *(link.name for link in snapshot.links if not link.loopback and link.name != but)]
    return any(snapshot.settings.get(f"net/ipv6/conf/{name}/disable_ipv6") == "0" for name in names)
