"""The machine changes under a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest
from hypothesis import given

from tests.route.entries import connected, route
from tests.route.guests import GUESTS, wg_quick
from tests.route.kernel import lookup, packet
from tests.route.machines import machine, with_guests
from tests.route.test_properties import Host, as_set, carried_out, hosts, planned, some, wishes, without_tun
from tunsmith.errors import UsageError
from tunsmith.route.amend import Amendment, amend
from tunsmith.route.change import AddRule, DeleteRule, ReplaceRoute, SetSysctl
from tunsmith.route.effect import apply, holds
from tunsmith.route.facts import OURS, Link, LinkAddress, Route, Snapshot
from tunsmith.route.plan import Plan, plan, settings
from tunsmith.route.wish import STRATEGIES, Wish

SERVER = ip_address("203.0.113.77")


def running(wish: Wish, host: Snapshot) -> tuple[Plan, Snapshot]:
    made = plan(wish, host)
    return made, carried_out(host, made.changes, made.tun)


def amended(old: Plan, now: Snapshot) -> tuple[Amendment, Snapshot]:
    found = amend(old, now)
    for change in found.changes:
        now = apply(change, now)
    return found, now


def without_uplink(host: Snapshot) -> Snapshot:
    """eth0 has lost its addresses, and with them its routes."""
    return replace(
        host,
        addresses=tuple(each for each in host.addresses if each.device != "eth0"),
        routes=tuple(each for each in host.routes if each.device != "eth0"),
    )


def with_wifi(host: Snapshot) -> Snapshot:
    """Another uplink, with another LAN."""
    return replace(
        host,
        links=(*host.links, Link("wlan0", 21)),
        addresses=(*host.addresses, LinkAddress("wlan0", ip_interface("10.20.0.9/24"))),
        routes=(*host.routes, connected("10.20.0.0/24", "wlan0"), route("0.0.0.0/0", "wlan0", "10.20.0.1")),
        settings={
            **{path: "0" for path in settings(["wlan0"])},
            **host.settings,
            **{"net/ipv4/conf/wlan0/rp_filter": "1"},
        },
    )


@some
@given(wishes(), hosts)
def test_nothing_changes_where_nothing_has_changed(wish: Wish, picture: Host) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    found, _ = amended(made, carried_out(host, made.changes, made.tun))
    assert found.changes == ()
    assert found.plan == made


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_uplink_takes_over(strategy: str) -> None:
    wish = Wish(strategy=strategy, servers=(SERVER,))
    old, now = running(wish, machine())
    now = with_wifi(without_uplink(now))
    found, now = amended(old, now)
    if strategy == "interface":
        assert found.plan.pin == "wlan0"
    own = packet(str(SERVER), mark=found.plan.mark, oif=found.plan.pin)
    way = lookup(now, own)
    assert way is not None
    assert (way.device, way.gateway) == ("wlan0", ip_address("10.20.0.1"))
    caught = lookup(now, packet("1.1.1.1"))
    assert caught is not None
    assert caught.device == old.tun


def test_traffic_bears_the_address_of_the_new_uplink_without_a_gap() -> None:
    old, now = running(Wish(), machine())
    found, now = amended(old, with_wifi(without_uplink(now)))
    replaced = [change for change in found.changes if isinstance(change, ReplaceRoute)]
    assert {change.new.source for change in replaced if change.new.prefix.version == 4} == {
        ip_address("10.20.0.9")
    }
    assert all(change.transient for change in replaced)


def test_the_filter_of_the_new_uplink_is_set_and_that_of_the_old_is_as_it_was() -> None:
    old, now = running(Wish(), machine(changed={"net/ipv4/conf/eth0/rp_filter": "1"}))
    _, now = amended(old, with_wifi(without_uplink(now)))
    assert now.settings["net/ipv4/conf/wlan0/src_valid_mark"] == "1"
    assert now.settings["net/ipv4/conf/eth0/src_valid_mark"] == "0"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_uplink_that_goes_and_comes_is_as_before(strategy: str) -> None:
    host = machine()
    old, now = running(Wish(strategy=strategy, servers=(SERVER,)), host)
    away, now = amended(old, without_uplink(now))
    lost = [each for each in host.routes if each.device == "eth0"]
    now = replace(now, addresses=host.addresses, routes=(*now.routes, *lost))
    back, now = amended(away.plan, now)
    way = lookup(now, packet(str(SERVER), mark=back.plan.mark, oif=back.plan.pin))
    assert way is not None
    assert way.device == "eth0"


def test_rules_that_somebody_wiped_out_are_made_again() -> None:
    old, now = running(Wish(), machine())
    wiped = replace(now, rules=tuple(rule for rule in now.rules if rule.protocol != OURS))
    found, after = amended(old, wiped)
    assert after.rules == now.rules
    assert all(isinstance(change, AddRule) for change in found.changes)


def test_a_vpn_that_comes_before_us_is_overtaken_and_keeps_its_own_packets() -> None:
    old, now = running(Wish(), machine())
    first = min(rule.priority for rule in now.rules if rule.protocol == OURS)
    guest = wg_quick(first - 1)
    now = with_guests(now, [guest])
    assert went(now, "1.1.1.1") == "wg0"
    found, now = amended(old, now)
    assert went(now, "1.1.1.1") == old.tun
    assert went(now, "203.0.113.9", mark=0xCA6C) == "eth0"
    assert went(now, "1.1.1.1", mark=old.mark) == "wg0"
    kinds = [type(change) for change in found.changes]
    assert kinds.index(DeleteRule) > kinds.index(AddRule)
    # It goes again.
    rules = tuple(rule for rule in now.rules if rule not in guest.rules)
    links = tuple(link for link in now.links if link.name != "wg0")
    now = replace(
        now, rules=rules, links=links, routes=tuple(each for each in now.routes if each.device != "wg0")
    )
    _, now = amended(found.plan, now)
    assert went(now, "1.1.1.1") == old.tun
    assert went(now, "1.1.1.1", mark=old.mark) == "eth0"


def test_a_network_that_comes_later_is_copied__strict() -> None:
    old, now = running(Wish(strict=True), machine())
    assert went(with_wifi(now), "10.20.0.7") == old.tun
    _, now = amended(old, with_wifi(now))
    assert went(now, "10.20.0.7") == "wlan0"


def test_ipv6_that_is_switched_on_later_is_caught() -> None:
    off = {f"net/ipv6/conf/{name}/disable_ipv6": "1" for name in ("all", "default", "eth0", "lo")}
    old, now = running(Wish(), machine(changed=off))
    assert went(now, "2606:4700::1") == "eth0"
    _, now = amended(old, replace(now, settings={**now.settings, "net/ipv6/conf/eth0/disable_ipv6": "0"}))
    assert went(now, "2606:4700::1") == old.tun


def test_a_default_route_that_a_dhcp_client_puts_back_is_deleted_again__replace() -> None:
    host = machine()
    old, now = running(Wish(strategy="replace"), host)
    theirs = [each for each in host.default_routes(4)]
    now = replace(now, routes=(*now.routes, *theirs))
    assert went(now, "1.1.1.1") == "eth0"
    _, now = amended(old, now)
    assert went(now, "1.1.1.1") == old.tun


def a_vpn(now: Snapshot) -> Snapshot:
    return with_guests(now, [GUESTS[0]])


@pytest.mark.parametrize(
    "event", [without_uplink, with_wifi, a_vpn, lambda now: with_wifi(without_uplink(now))]
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_that_was_ever_changed_is_taken_back(
    strategy: str, event: Callable[[Snapshot], Snapshot]
) -> None:
    """As the journal does it: each change in reverse, if it holds."""
    host = machine(changed={"net/ipv4/conf/eth0/rp_filter": "1"})
    old, now = running(Wish(strategy=strategy), host)
    if event is a_vpn and strategy in ("replace", "cover"):
        with pytest.raises(UsageError, match="catches nothing here"):
            amend(old, event(now))
        return
    found, now = amended(old, event(now))
    for change in reversed((*old.changes, *found.changes)):
        undo = change.undo()
        if undo is not None and holds(change, now):
            now = apply(undo, now)
    left = without_tun(now, old.tun)
    assert OURS not in {route.protocol for route in left.routes} | {rule.protocol for rule in left.rules}
    wanted = event(host)
    assert as_set(left)[3:] == as_set(wanted)[3:]
    if strategy != "replace":
        assert as_set(left) == as_set(wanted)


def went(now: Snapshot, to: str, **more: object) -> str:
    way: Route | None = lookup(now, packet(to, **more))
    return way.device if way is not None else ""


def test_switches_nobody_looked_at_are_left_alone() -> None:
    old, now = running(Wish(gateway=True), machine())
    unseen = {path: value for path, value in now.settings.items() if f"/{old.tun}/" not in path}
    found, _ = amended(old, replace(now, settings=unseen))
    assert not [change for change in found.changes if isinstance(change, SetSysctl)]
