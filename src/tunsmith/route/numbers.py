"""Numbers and names of ours that nobody else on the machine uses.

The mark is one bit: `fwmark 0/BIT` then selects what is not ours, positively. (A rule with `not` inverts all of
its selectors together: `not fwmark M iif lo` means "marked or forwarded", which is no use here.) The bit is one
that nobody sets and nobody looks at, so that our packets never look like theirs, nor theirs like ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tunsmith.errors import UsageError
from tunsmith.route.facts import MAIN, Rule, Snapshot
from tunsmith.route.uplink import first_for_all

_FULL = 0xFFFFFFFF
# From the top, where few look; 0x00ff0000 is Tailscale's, 0xc000 Kubernetes'. A signed int holds all of them.
_BITS = (*(1 << bit for bit in (28, 29, 30, 27, 26, 25, 24)), *(1 << bit for bit in range(13, -1, -1)))
_TABLES = (*range(125, 253), *range(1000, 2000))
_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Numbers:
    """`lasting`: the TUN interface was there before us, and stays. `mark` is 0 where no bit is free. `local_table`
    is that of what stays local (strict), `firewall` the name of our table of nftables."""

    tun: str
    lasting: bool
    mark: int
    table: int
    local_table: int
    firewall: str


def choose(tun: str, snapshot: Snapshot) -> Numbers:
    """Raises UsageError where something is used up, or where `tun` is taken."""
    name = free_name(tun, snapshot)
    table, local_table = free_tables(snapshot)
    return Numbers(
        name,
        snapshot.link(name) is not None,
        free_mark(snapshot),
        table,
        local_table,
        free_firewall(name, snapshot),
    )


def free_name(asked: str, snapshot: Snapshot) -> str:
    """`asked`, or the first free of tunsmith0, tunsmith1, … A TUN interface that stands by under the name asked for
    (made for this user, say) may be used."""
    taken = {link.name: link for link in snapshot.links}
    if asked:
        if asked in taken and taken[asked].kind not in ("tun", "tap"):
            raise UsageError(
                f"the name {asked} is taken by another interface; choose another with --tun, or leave it out"
            )
        return asked
    for number in range(_NAMES):
        if f"tunsmith{number}" not in taken:
            return f"tunsmith{number}"
    raise UsageError("the names tunsmith0 to tunsmith999 are taken; choose one with --tun")


def marks_in(rules: Iterable[Rule]) -> set[tuple[int, int]]:
    """The marks, with their masks, that `rules` tell apart from others."""
    return {(rule.fwmark or rule.fwmask, rule.fwmask) for rule in rules if rule.fwmask}


def free_mark(snapshot: Snapshot) -> int:
    """A bit that is free in every mark used here, 0 where there is none."""
    used = snapshot.marks | marks_in(snapshot.rules)
    for bit in _BITS:
        if all(not mark & bit and (mask == _FULL or not mask & bit) for mark, mask in used):
            return bit
    return 0


def free_tables(snapshot: Snapshot) -> tuple[int, int]:
    """Two routing tables that are empty and that no rule names."""
    taken = {route.table for route in snapshot.routes} | {rule.table for rule in snapshot.rules}
    free: Iterator[int] = (table for table in _TABLES if table not in taken)
    found = next(free, 0), next(free, 0)
    if not all(found):
        raise UsageError("no routing table is free between 125 and 252, nor between 1000 and 1999")
    return found


def free_firewall(tun: str, snapshot: Snapshot) -> str:
    """A name for our table of nftables."""
    name = "tunsmith_" + re.sub(r"[^A-Za-z0-9]", "_", tun)
    for number in range(_NAMES):
        candidate = f"{name}_{number}" if number else name
        if candidate not in snapshot.firewalls:
            return candidate
    raise UsageError(f"the names {name} to {name}_999 are taken among the tables of nftables")


@dataclass(frozen=True, slots=True)
class Block:
    """Where our rules of one version stand: the first has priority `first`, each next is `step` further (0: all have
    the same priority, where the kernel keeps the order in which they were added), and `beyond` is the priority of
    the first rule behind them that would take everything."""

    first: int
    step: int
    beyond: int

    def priorities(self, count: int) -> list[int]:
        return [self.first + index * self.step for index in range(count)]


def place(count: int, version: int, snapshot: Snapshot) -> Block:
    """Room for `count` rules: after the rules of others that select something special, so that those go on to hold,
    and before the first that would take everything. A look into main for what is narrow there may come on either
    side. Raises UsageError where the rule that takes everything is the very first one."""
    rules = [rule for rule in snapshot.rules if rule.version == version]
    last = first_for_all(snapshot, version)
    if last is None:
        raise UsageError(
            f"no rule leads IPv{version} traffic to a table with a way out; see: ip -{version} rule"
        )
    beyond = last.priority
    taken = {rule.priority for rule in rules}
    after = max(
        (rule.priority for rule in rules if rule.priority < beyond and not _is_neutral(rule)), default=-1
    )
    first = beyond - count
    while first > after:
        used = [priority for priority in range(first, first + count) if priority in taken]
        if not used:
            return Block(first, 1, beyond)
        first = min(used) - count
    if after < 0:
        raise UsageError(
            f"the rule of priority {beyond} takes all IPv{version} traffic and no place is free before it; "
            f"see: ip -{version} rule"
        )
    return Block(max(priority for priority in taken if priority < beyond), 0, beyond)


def _is_neutral(rule: Rule) -> bool:
    return rule.action == "lookup" and rule.table == MAIN and rule.suppress_prefixlength >= 0
