"""Where a packet goes: the kernel's lookup on paper (fib_rules.c, fib_trie.c), to hold plans against."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from tunsmith.route.facts import Address, Route, Rule, Snapshot

_ERRORS = ("unreachable", "blackhole", "prohibit")


@dataclass(frozen=True)
class Packet:
    """One that this machine sends, or, with an `iif`, forwards; `oif` is the interface its socket is bound to."""

    to: Address
    mark: int = 0
    iif: str = "lo"
    oif: str = ""
    port: int = 443
    source_port: int = 40000
    protocol: int = 6
    source: Address | None = None


def packet(to: str, **more: object) -> Packet:
    return Packet(ip_address(to), **more)  # type: ignore[arg-type]


def lookup(machine: Snapshot, one: Packet) -> Route | None:
    """The route it takes; None where there is none, or one that refuses it."""
    found = decide(machine, one)
    return found[1] if found is not None and found[1].kind not in _ERRORS else None


def decide(machine: Snapshot, one: Packet) -> tuple[Rule, Route] | None:
    """The rule and the route that hold for it."""
    rules = [rule for rule in machine.rules if rule.version == one.to.version]
    at = 0
    while at < len(rules):
        rule = rules[at]
        at += 1
        if not _matches(rule, one):
            continue
        if rule.action == "goto":
            at = next((index for index, each in enumerate(rules) if each.priority >= rule.goto), at)
        elif rule.action in _ERRORS:
            return None
        elif rule.action == "lookup":
            route = _longest(machine, rule.table, one)
            if route is None or route.kind == "throw":
                continue
            if route.prefix.prefixlen <= rule.suppress_prefixlength:
                continue
            return rule, route
    return None


def _matches(rule: Rule, one: Packet) -> bool:
    wanted = (
        not rule.fwmask or (one.mark ^ rule.fwmark) & rule.fwmask == 0,
        not rule.iif or rule.iif == one.iif,
        not rule.oif or rule.oif == one.oif,
        rule.source is None or (one.source is not None and one.source in rule.source),
        rule.destination is None or one.to in rule.destination,
        not rule.ip_protocol or rule.ip_protocol == one.protocol,
        rule.ports == (0, 0) or rule.ports[0] <= one.port <= rule.ports[1],
        rule.source_ports == (0, 0) or rule.source_ports[0] <= one.source_port <= rule.source_ports[1],
    )
    return all(wanted) != rule.inverted


def _longest(machine: Snapshot, table: int, one: Packet) -> Route | None:
    """A route that refuses stops a bound socket of IPv4 only: for IPv6 it is one to lo."""
    down = {link.name for link in machine.links if not link.up}
    fitting = [
        route
        for route in machine.routes
        if route.table == table
        and route.prefix.version == one.to.version
        and one.to in route.prefix
        and route.device not in down
        and (not one.oif or route.device == one.oif or (not route.device and one.to.version == 4))
    ]
    return min(fitting, key=lambda route: (-route.prefix.prefixlen, route.metric), default=None)
