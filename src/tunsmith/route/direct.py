"""Catching traffic in table main: what strategies `replace` and `cover` have in common.

Routes into the TUN stand in main beside the machine's own, and the narrowest wins: the LAN stays local, and what is
excluded, or belongs to a link, gets a route of its own that is a copy of the one it had. Our sockets to a proxy
find a route to it alone; to go anywhere else (a direct upstream) they are bound to the uplink.

This is for kernels without policy routing. Nothing tells here what this machine sends itself from what it forwards,
nor a reply to a connection from outside from a new one; and whoever adds a narrower route takes traffic away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tunsmith.errors import UsageError
from tunsmith.route import inbound
from tunsmith.route.change import AddRoute, Change
from tunsmith.route.draft import Draft
from tunsmith.route.facts import MAIN, Prefix, Snapshot
from tunsmith.route.site import KEPT_BY_KERNEL, LAST, NOT_FORWARDED, Site, into, route, within
from tunsmith.route.uplink import first_for_all, is_wide, way
from tunsmith.route.wish import host_interface

_HALVINGS = 6
"""Of a prefix, at most: 64 parts."""


def escape(site: Site, draft: Draft, strategy: str) -> None:
    """Our own ways out, before anything is caught. Raises UsageError for what cannot be had without policy
    routing."""
    wish = site.wish
    if wish.strict:
        raise UsageError(f"strategy {strategy} cannot be strict: any narrower route takes its traffic away")
    if wish.fail_closed and not wish.servers:
        raise UsageError(
            f"strategy {strategy} cannot fail closed with a direct upstream: what stops others stops us, too"
        )
    for version in site.versions:
        first = first_for_all(site.snapshot, version)
        if first is not None and first.table != MAIN:
            raise UsageError(
                f"strategy {strategy} catches nothing here: the rule of priority {first.priority} sends all "
                f"IPv{version} traffic past table main; try --strategy mark"
            )
    ours: list[Prefix] = [host_interface(server).network for server in wish.servers]
    draft.must_pin = not ours
    draft.pin = wish.interface or ("" if ours else site.pin())
    if not any(site.uplinks(version) for version in site.versions):
        draft.notes.append("there is no uplink yet: nothing can be reached until there is one")
    draft.add("the proxy is reached as before", _as_before(site, ours, wish.interface), blocks=True)
    spared = [
        each for version in site.versions for each in site.spared(version) if each not in KEPT_BY_KERNEL
    ]
    draft.add("what is excluded, or belongs to a link, goes as before", _as_before(site, spared), blocks=True)
    if not ours:
        inbound.loosen(site, draft)
    if wish.gateway and wish.nft:
        inbound.keep_sources(site, draft)
    draft.notes += [
        f"strategy {strategy}: replies to connections from beyond the LAN go into {site.tun}, and are lost",
        f"strategy {strategy}: queries to a resolver in the LAN are not caught",
    ]
    if not wish.gateway:
        draft.notes.append(f"strategy {strategy}: what this machine forwards is caught, too")


def catch(site: Site, draft: Draft, prefixes: Iterable[Prefix]) -> None:
    """Lead `prefixes` into the TUN, each by halves or smaller parts of it where that is what it takes to come before
    the machine's own routes."""
    for prefix in prefixes:
        inner = [each for each in site.spared(prefix.version) if within(each, prefix)]
        parts = [
            part for part in _parts(site.snapshot, prefix) if not any(within(part, each) for each in inner)
        ]
        changes: list[Change] = [
            AddRoute(into(site.tun, part, MAIN), transient=site.transient) for part in parts
        ]
        if site.wish.fail_closed:
            changes += [AddRoute(route(part, MAIN, kind="unreachable", metric=LAST)) for part in parts]
        draft.add(f"{prefix} goes into {site.tun}", changes, blocks=True)


def _parts(snapshot: Snapshot, prefix: Prefix) -> list[Prefix]:
    main = [each for each in snapshot.routes if each.table == MAIN]
    taken = {each.prefix for each in main}
    wide = [each.prefix.prefixlen for each in main if is_wide(each) and within(each.prefix, prefix)]
    first = max([prefix.prefixlen, *(length + 1 for length in wide)])
    for length in range(first, min(first + _HALVINGS, prefix.max_prefixlen) + 1):
        parts: list[Prefix] = list(prefix.subnets(new_prefix=length))
        if taken.isdisjoint(parts):
            return parts
    raise UsageError(
        f"table main has routes for {prefix} and for the smallest parts of it; try --strategy mark"
    )


def _as_before(site: Site, prefixes: Iterable[Prefix], device: str = "") -> list[Change]:
    """Routes for `prefixes` like those that hold for them now, and lead out by `device` where that is given. Where
    there is no way now, there is none then."""
    taken = {each.prefix for each in site.snapshot.routes if each.table == MAIN}
    own = {each.address.ip for each in site.snapshot.addresses}
    found: list[Change] = []
    for prefix in prefixes:
        if prefix in taken or prefix.is_loopback or prefix.network_address in own:
            continue
        now = way(site.snapshot, prefix, device, but=site.tun)
        if now is None:
            found.append(AddRoute(route(prefix, MAIN, kind="unreachable")))
            continue
        plain = replace(route(prefix, MAIN, now.device), source=now.source)
        if now.gateway is not None and prefix not in NOT_FORWARDED:
            plain = replace(plain, gateway=now.gateway, scope=0, onlink=now.onlink)
        found.append(AddRoute(plain))
    return found
