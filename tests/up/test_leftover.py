"""What a dead instance has left is planned for as though it were not there."""

from __future__ import annotations

from ipaddress import ip_network

from tunsmith.route.change import AddRoute, AddRule, SetSysctl
from tunsmith.route.facts import Route, Rule, Snapshot
from tunsmith.up.leftover import without

PATH = "net/ipv4/conf/eth0/rp_filter"
OURS = Route(ip_network("0.0.0.0/0"), table=125, kind="unreachable", metric=9)
THEIRS = Route(ip_network("0.0.0.0/0"), "eth0")
RULE = Rule(4, 32000, table=125, fwmask=0x40)
OTHER = Rule(4, 32766, table=254)
SNAPSHOT = Snapshot(
    routes=(OURS, THEIRS),
    rules=(RULE, OTHER),
    settings={PATH: "2", "other": "1"},
    marks=frozenset({(0x40, 0x40), (0x40, 0xFFFFFFFF), (0x80, 0x80)}),
)


def test_routes_rules_marks_and_settings_are_as_they_were_before_it() -> None:
    seen = without(SNAPSHOT, [AddRoute(OURS), AddRule(RULE), SetSysctl(PATH, "2", "1")])
    assert seen.routes == (THEIRS,)
    assert seen.rules == (OTHER,)
    assert seen.settings == {PATH: "1", "other": "1"}
    assert seen.marks == {(0x80, 0x80)}


def test_without_leftovers_it_is_what_it_is() -> None:
    assert without(SNAPSHOT, []) == SNAPSHOT
