"""What has to change on a machine so that its traffic goes through a TUN, and our own does not.

Catching and letting go are two questions. Caught is by a table of our own to which rules lead (strategies `mark`
and `interface`), by a default route before the machine's (`replace`), or by two halves that are narrower than any
default route (`cover`). Let go are our sockets by their mark (`mark`), by the interface they are bound to
(`interface`, and `replace` and `cover` with a direct upstream), or by routes to the proxy (`replace`, `cover`).
docs/adr/0013 tells why.

A plan is a value. It is made of steps, each with its reason, in the order in which they are to be made; taken back
they are in reverse. At every point between two changes the machine reaches what it reached before, or goes through
the TUN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tunsmith.errors import UsageError
from tunsmith.route import cover, gateway, interface, mark, replace, tun
from tunsmith.route.change import Change
from tunsmith.route.draft import Draft, Step
from tunsmith.route.facts import OURS, Snapshot
from tunsmith.route.numbers import Numbers, choose
from tunsmith.route.site import Site, within
from tunsmith.route.uplink import is_wide
from tunsmith.route.wish import AUTO, Wish


@dataclass(frozen=True, slots=True)
class Plan:
    """`mark` is for our own sockets, 0 for none; `pin` is the interface they must be bound to, "" for none. Where
    `must_pin` is set, a socket that is not bound would come back through the TUN: without a `pin` nothing may be
    dialed. `hosts` are the interfaces with other hosts whose traffic is taken, too. `notes` are lines for people about
    what could not be done. `blocks` is what stays, and keeps traffic from leaving past the TUN, where we die and the
    wish was to fail closed. `served` is the ports that were served at start."""

    wish: Wish
    numbers: Numbers
    strategy: str
    steps: tuple[Step, ...]
    mark: int = 0
    pin: str = ""
    must_pin: bool = False
    hosts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    blocks: tuple[Change, ...] = ()
    served: frozenset[int] = frozenset()

    @property
    def tun(self) -> str:
        """The name of the TUN interface, to be opened before the changes are made."""
        return self.numbers.tun

    @property
    def table(self) -> int:
        return self.numbers.table

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(change for step in self.steps for change in step.changes)


def settings(links: Iterable[str]) -> list[str]:
    """The sysctls that a snapshot for `plan` must tell, where the interfaces are `links`."""
    names = ["all", "default", *links]
    return [
        *(f"net/ipv4/conf/{name}/{key}" for name in names for key in _IPV4),
        *(f"net/ipv6/conf/{name}/{key}" for name in names for key in _IPV6),
    ]


_IPV4 = ("rp_filter", "src_valid_mark", "forwarding")
_IPV6 = ("disable_ipv6", "forwarding", "force_forwarding", "accept_ra")


def plan(wish: Wish, snapshot: Snapshot) -> Plan:
    """Raises UsageError where it cannot be done on this machine."""
    if wish.interface and snapshot.link(wish.interface) is None:
        names = ", ".join(link.name for link in snapshot.links if not link.loopback)
        raise UsageError(f"there is no interface {wish.interface}; there are {names or 'none'}")
    _check_network(wish, snapshot)
    return plan_with(choose(wish.tun, snapshot), wish, snapshot)


def plan_with(numbers: Numbers, wish: Wish, snapshot: Snapshot, strategy: str = "") -> Plan:
    """The same with numbers that are ours already. Raises UsageError."""
    site = Site(wish, snapshot, numbers)
    if not strategy:
        strategy = wish.strategy if wish.strategy != AUTO else _fitting(site)
    made = Draft()
    tun.set_up(site, made)
    if wish.gateway:
        gateway.forward(site, made)
    _STRATEGIES[strategy](site, made)
    return Plan(
        wish,
        numbers,
        strategy,
        tuple(made.steps),
        made.mark,
        made.pin,
        made.must_pin,
        tuple(made.hosts),
        tuple(made.notes),
        tuple(made.blocks) if wish.fail_closed else (),
        snapshot.served,
    )


def _check_network(wish: Wish, snapshot: Snapshot) -> None:
    """The networks of the TUN are nobody else's; instances for different networks may share them."""
    for address in wish.addresses:
        for route in snapshot.routes:
            if route.device == wish.tun or route.protocol == OURS or is_wide(route):
                continue
            if within(route.prefix, address.network) or within(address.network, route.prefix):
                raise UsageError(
                    f"the TUN's network {address.network} is in use: there is a route to {route.prefix} "
                    f"({route.device or route.kind}){_whose(route.device, snapshot)}"
                )


def _whose(device: str, snapshot: Snapshot) -> str:
    """Where our own routes lead into `device`: that an instance runs on it, and what to do."""
    if not any(route.device == device and route.protocol == OURS for route in snapshot.routes):
        return ""
    return ": tunsmith runs there already; stop that one, or narrow both by --include"


def _fitting(site: Site) -> str:
    """The strategy for one who leaves it to us."""
    if not site.snapshot.rules:
        return "cover"
    return "mark" if site.numbers.mark else "interface"


_STRATEGIES: Mapping[str, Callable[[Site, Draft], None]] = MappingProxyType(
    {"mark": mark.draft, "interface": interface.draft, "replace": replace.draft, "cover": cover.draft}
)
