"""One change of this machine, and how it is taken back.

A change is a value: it can be shown (`commands` says it as a person would type it), written to a journal before it
is made (route/record.py), made and taken back (host/machine.py). `undo` is a change too, or None where nothing is
left to take back, because the thing goes with another that is removed. Taking back is for what we added, unchanged
since: host/machine.py looks before it removes.
"""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

from tunsmith.route.facts import MAIN, Address, Interface, Route, Rule


@dataclass(frozen=True, slots=True)
class AddLink:
    """Make a TUN interface (`tap`: TAP) that stays until it is deleted, for `user` (a uid), `group` (a gid) or root,
    with several queues where asked."""

    name: str
    tap: bool = False
    user: int | None = None
    many_queues: bool = False
    group: int | None = None

    def undo(self) -> Change | None:
        return DeleteLink(self.name, self.tap, self.user, self.many_queues, self.group)

    def commands(self) -> list[str]:
        owner = "" if self.user is None else f" user {self.user}"
        owner += "" if self.group is None else f" group {self.group}"
        queues = " multi_queue" if self.many_queues else ""
        return [f"ip tuntap add dev {self.name} mode {'tap' if self.tap else 'tun'}{owner}{queues}"]


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Remove an interface that AddLink made."""

    name: str
    tap: bool = False
    user: int | None = None
    many_queues: bool = False
    group: int | None = None

    def undo(self) -> Change | None:
        return AddLink(self.name, self.tap, self.user, self.many_queues, self.group)

    def commands(self) -> list[str]:
        return [f"ip link delete dev {self.name}"]


@dataclass(frozen=True, slots=True)
class SetLink:
    """Set an interface up or down, with an MTU where given. `was_*` is what the undo restores; `transient` says that
    the interface is ours and goes with us, so that there is nothing to undo."""

    name: str
    up: bool
    mtu: int = 0
    was_up: bool = False
    was_mtu: int = 0
    transient: bool = False

    def undo(self) -> Change | None:
        if self.transient:
            return None
        return SetLink(self.name, self.was_up, self.was_mtu, self.up, self.mtu)

    def commands(self) -> list[str]:
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        return [f"ip link set dev {self.name} {'up' if self.up else 'down'}{mtu}"]


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give an interface an address, usable at once (no duplicate address detection)."""

    device: str
    address: Interface
    peer: Address | None = None
    transient: bool = False

    def undo(self) -> Change | None:
        return None if self.transient else DeleteAddress(self.device, self.address, self.peer)

    def commands(self) -> list[str]:
        return [f"ip address add {_address(self.address, self.peer)} dev {self.device}{_nodad(self.address)}"]


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    """Take an address from an interface."""

    device: str
    address: Interface
    peer: Address | None = None

    def undo(self) -> Change | None:
        return AddAddress(self.device, self.address, self.peer)

    def commands(self) -> list[str]:
        return [f"ip address delete {_address(self.address, self.peer)} dev {self.device}"]


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a route; EEXIST where the table has one of the same prefix, metric and kind already."""

    route: Route
    transient: bool = False
    """It leads to an interface that goes with us, and goes with it."""

    def undo(self) -> Change | None:
        return None if self.transient else DeleteRoute(self.route)

    def commands(self) -> list[str]:
        return [f"{_ip(self.route.prefix.version)} route add {_route(self.route)}"]


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Delete the route that is equal to `route` in everything."""

    route: Route

    def undo(self) -> Change | None:
        return AddRoute(self.route)

    def commands(self) -> list[str]:
        return [f"{_ip(self.route.prefix.version)} route delete {_route(self.route)}"]


@dataclass(frozen=True, slots=True)
class ReplaceRoute:
    """Put `new` in the place of `old` (same table, prefix and metric) in one step: there is no moment without."""

    old: Route
    new: Route
    transient: bool = False
    """Both lead to an interface that goes with us."""

    def undo(self) -> Change | None:
        return None if self.transient else ReplaceRoute(self.new, self.old)

    def commands(self) -> list[str]:
        return [f"{_ip(self.new.prefix.version)} route replace {_route(self.new)}"]


@dataclass(frozen=True, slots=True)
class AddRule:
    """Add a policy rule."""

    rule: Rule

    def undo(self) -> Change | None:
        return DeleteRule(self.rule)

    def commands(self) -> list[str]:
        return [f"{_ip(self.rule.version)} rule add {_rule(self.rule)}"]


@dataclass(frozen=True, slots=True)
class DeleteRule:
    """Delete the policy rule that is equal to `rule` in everything."""

    rule: Rule

    def undo(self) -> Change | None:
        return AddRule(self.rule)

    def commands(self) -> list[str]:
        return [f"{_ip(self.rule.version)} rule delete {_rule(self.rule)}"]


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """Set a kernel switch, `path` like "net/ipv4/conf/tun0/rp_filter". The undo writes `was`, and only while the
    switch is still at `value`. `transient`: it belongs to an interface that goes with us."""

    path: str
    value: str
    was: str
    transient: bool = False

    def undo(self) -> Change | None:
        return None if self.transient else SetSysctl(self.path, self.was, self.value)

    def commands(self) -> list[str]:
        return [f"sysctl -w {quote(f'{self.path}={self.value}')}"]


@dataclass(frozen=True, slots=True)
class AddFirewall:
    """Add a table of nftables, of a name that nobody uses. `text` is the whole `table inet NAME { … }`."""

    name: str
    text: str

    def undo(self) -> Change | None:
        return DeleteFirewall(self.name, self.text)

    def commands(self) -> list[str]:
        return [f"nft -f - <<'END'\n{self.text.rstrip()}\nEND"]


@dataclass(frozen=True, slots=True)
class DeleteFirewall:
    """Delete the table that AddFirewall added, with all that is in it."""

    name: str
    text: str

    def undo(self) -> Change | None:
        return AddFirewall(self.name, self.text)

    def commands(self) -> list[str]:
        return [f"nft delete table inet {self.name}"]


Change = (
    AddLink
    | DeleteLink
    | SetLink
    | AddAddress
    | DeleteAddress
    | AddRoute
    | DeleteRoute
    | ReplaceRoute
    | AddRule
    | DeleteRule
    | SetSysctl
    | AddFirewall
    | DeleteFirewall
)


def _ip(version: int) -> str:
    return "ip" if version == 4 else "ip -6"


def _nodad(address: Interface) -> str:
    return "" if address.version == 4 else " nodad"


def _address(address: Interface, peer: Address | None) -> str:
    if peer is None:
        return str(address)
    length = address.network.prefixlen
    return f"{address.ip} peer {peer}" + (f"/{length}" if length < address.max_prefixlen else "")


def _route(route: Route) -> str:
    words = [] if route.kind == "unicast" else [route.kind]
    words.append("default" if route.is_default else str(route.prefix))
    if route.gateway is not None:
        family = "" if route.gateway.version == route.prefix.version else f"inet{route.gateway.version} "
        words.append(f"via {family}{route.gateway}")
    if route.device:
        words.append(f"dev {route.device}")
    if route.onlink:
        words.append("onlink")
    if route.tos:
        words.append(f"tos {route.tos:#x}")
    if route.table != MAIN:
        words.append(f"table {route.table}")
    if route.metric:
        words.append(f"metric {route.metric}")
    if route.source is not None:
        words.append(f"src {route.source}")
    if route.congctl:
        words.append(f"congctl {route.congctl}")
    words.append(f"proto {route.protocol}")
    return " ".join(words)


def _table(number: int) -> str:
    return "main" if number == MAIN else str(number or "")


def _rule(rule: Rule) -> str:
    words = ["not"] if rule.inverted else []
    words += [f"from {rule.source}" if rule.source is not None else "from all"]
    if rule.destination is not None:
        words.append(f"to {rule.destination}")
    if rule.fwmask:
        words.append(f"fwmark {rule.fwmark:#x}/{rule.fwmask:#x}")
    words += [f"{word} {name}" for word, name in (("iif", rule.iif), ("oif", rule.oif)) if name]
    if rule.ip_protocol:
        words.append(f"ipproto {rule.ip_protocol}")
    for word, (first, last) in (("sport", rule.source_ports), ("dport", rule.ports)):
        if last:
            words.append(f"{word} {first}" if first == last else f"{word} {first}-{last}")
    words.append(
        f"goto {rule.goto}" if rule.action == "goto" else f"{rule.action} {_table(rule.table)}".strip()
    )
    if rule.suppress_prefixlength >= 0:
        words.append(f"suppress_prefixlength {rule.suppress_prefixlength}")
    words += [f"priority {rule.priority}", f"protocol {rule.protocol}"]
    return " ".join(words)
