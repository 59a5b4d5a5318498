"""Catching traffic with a routing table of our own: what strategies `mark` and `interface` have in common.

Table T leads into the TUN. Three rules of each version send traffic there (0/M: what does not bear our mark;
iif lo: what this machine sends itself; left out for a gateway):

    fwmark 0/M iif lo dport 53 lookup T                          queries, even to a resolver in the LAN
    fwmark 0/M iif lo lookup main suppress_prefixlength 1        what the machine has a narrower route for
    fwmark 0/M iif lo lookup T                                   the rest

Routes as wide as uplink.WIDE count as default routes, so that a cover in main (another VPN's, or an attacker's)
does not pull everything past us. `strict` trusts no route in main: the second rule looks into a table L of ours
instead, with copies of the networks this machine stands in.

T sends on (throw) what is excluded, and what a default route is not meant for: link-local and group addresses.

Of what is included, and main, the longest prefix is to win: for each length of included prefixes, the longest
first, there is a pair of rules, main but for prefixes up to this length, then T but for prefixes shorter than this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from tunsmith.route import inbound
from tunsmith.route.change import AddRoute, AddRule, Change
from tunsmith.route.draft import Draft
from tunsmith.route.facts import MAIN, OURS, Prefix, Rule, Snapshot
from tunsmith.route.numbers import marks_in, place
from tunsmith.route.site import LAST, OF_A_LINK, Site, into, is_private, route, within
from tunsmith.route.uplink import WIDE, catches_all, connected, first_for_all

_DNS = (53, 53)
_TCP = 6
_MOST_RANGES = 16
"""Of served ports that get a rule."""


def catch(site: Site, draft: Draft, *, mark: int, escape: str = "") -> None:
    """Everything, in an order in which nothing is lost. `mark` 0: there is none to look at. `escape` is the interface
    past which nothing may be caught that is bound to it.

    What a gateway forwards past the TUN before the rules are there must not be remembered for it, so its firewall
    comes last."""
    _tables(site, draft)
    inbound.admit(site, draft)
    if not site.wish.gateway:
        inbound.remember(site, draft)
    _lead(site, draft, mark, escape)
    if site.wish.gateway:
        inbound.remember(site, draft)


def _tables(site: Site, draft: Draft) -> None:
    """T and, if strict, L; nothing leads there yet."""
    table = site.numbers.table
    for version in site.versions:
        source = site.source(version)
        draft.add(
            f"table {table} leads IPv{version} into {site.tun}",
            (
                AddRoute(replace(into(site.tun, prefix, table), source=source), transient=site.transient)
                for prefix in site.captured(version)
            ),
        )
        draft.add(
            f"table {table} leaves out what is excluded, and what belongs to a link",
            (AddRoute(route(prefix, table, kind="throw")) for prefix in site.spared(version)),
            blocks=True,
        )
        if site.wish.strict:
            draft.add(
                f"table {site.numbers.local_table} has the private networks this machine stands in",
                _copies(site, version, draft),
                blocks=True,
            )
        if site.wish.fail_closed:
            draft.add(
                f"table {table} leads nowhere once {site.tun} is gone",
                (
                    AddRoute(route(prefix, table, kind="unreachable", metric=LAST))
                    for prefix in site.wish.included(version)
                ),
                blocks=True,
            )


def _copies(site: Site, version: int, draft: Draft) -> list[Change]:
    found: dict[tuple[Prefix, int], Change] = {}
    for each in connected(site.snapshot, version, but=site.tun):
        if any(within(each.prefix, other) for other in OF_A_LINK):
            continue
        if is_private(each.prefix):
            copy = AddRoute(replace(each, table=site.numbers.local_table, protocol=OURS))
            found.setdefault((each.prefix, each.metric), copy)
        else:
            draft.notes.append(
                f"{each.prefix} on {each.device} is no private network, and is not believed to be local "
                f"(--strict); --exclude {each.prefix} keeps it out of the TUN"
            )
    return list(found.values())


def _lead(site: Site, draft: Draft, mark: int, escape: str) -> None:
    """The rules, by which traffic begins to enter the TUN."""
    for version in site.versions:
        kind = "all traffic" if site.wish.gateway else "traffic of this machine"
        what = kind if site.wish.takes_all else "what is included of the " + kind
        draft.add(
            f"IPv{version}: {what} goes to table {site.numbers.table}",
            _rules(site, version, mark, escape),
            blocks=True,
        )


def _rules(site: Site, version: int, mark: int, escape: str) -> list[Change]:
    wish, numbers = site.wish, site.numbers
    ours = Rule(version, 0, numbers.table, fwmask=mark, iif="" if wish.gateway else "lo")
    local = replace(ours, table=numbers.local_table if wish.strict else MAIN)
    wanted = [
        replace(ours, action="goto", table=0, goto=1, fwmark=value, fwmask=mask, iif="")
        for value, mask in marks_of_others(site.snapshot, version)
    ]
    if not site.has_firewall:
        served = _ranges(site.snapshot.served)[:_MOST_RANGES]
        wanted += [
            Rule(version, 0, action="goto", goto=1, iif="lo", ip_protocol=_TCP, source_ports=ports)
            for ports in served
        ]
    if escape:
        wanted.append(Rule(version, 0, action="goto", goto=1, oif=escape))
    lengths = sorted({prefix.prefixlen for prefix in site.captured(version)}, reverse=True)
    if wish.included(version):
        lengths = sorted({prefix.prefixlen for prefix in wish.included(version)}, reverse=True)
    if wish.dns and 0 in lengths:
        wanted.append(replace(ours, ports=_DNS))
    for length, shorter in pairwise([*lengths, -1]):
        wanted.append(replace(local, suppress_prefixlength=max(length, WIDE[version])))
        wanted.append(replace(ours, suppress_prefixlength=length - 1 if shorter >= 0 else -1))
    block = place(len(wanted), version, site.snapshot)
    return [
        AddRule(replace(rule, priority=priority, goto=block.beyond if rule.goto else 0))
        for rule, priority in zip(wanted, block.priorities(len(wanted)), strict=True)
    ]


def marks_of_others(snapshot: Snapshot, version: int) -> list[tuple[int, int]]:
    """Marks by which others tell their own packets from the rest. Where no rule of theirs has led these away before
    ours, ours must let them pass, or the packets of a VPN would come back through the TUN."""
    theirs = [rule for rule in snapshot.rules if rule.version == version]
    last = first_for_all(snapshot, version)
    limit = last.priority if last is not None else 0
    led_away = {
        (rule.fwmark, rule.fwmask)
        for rule in theirs
        if rule.priority < limit
        and not rule.inverted
        and catches_all(replace(rule, fwmark=0, fwmask=0), snapshot)
    }
    return sorted(marks_in(theirs) - led_away)


def _ranges(ports: Iterable[int]) -> list[tuple[int, int]]:
    """`ports` as ranges, first and last."""
    found: list[tuple[int, int]] = []
    for port in sorted(ports):
        if found and found[-1][1] == port - 1:
            found[-1] = found[-1][0], port
        else:
            found.append((port, port))
    return found
