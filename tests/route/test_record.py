"""route/record.py: what is read back from a journal is what was written."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tunsmith.route import record
from tunsmith.route.change import (
    AddAddress,
    AddFirewall,
    AddLink,
    AddRoute,
    AddRule,
    Change,
    ReplaceRoute,
    SetLink,
    SetSysctl,
)
from tunsmith.route.facts import Route, Rule

ROUTE = Route(ip_network("0.0.0.0/0"), "tun0", ip_address("10.0.0.1"), table=125, metric=7, source=None)
CHANGES: list[Change] = [
    AddLink("tun0", user=1000, many_queues=True),
    SetLink("tun0", True, 1500, was_mtu=9000),
    AddAddress("tun0", ip_interface("198.18.0.1/32"), ip_address("198.18.0.2")),
    AddAddress("tun0", ip_interface("2001:2::1/64")),
    AddRoute(ROUTE),
    AddRoute(Route(ip_network("::/0"), kind="unreachable")),
    ReplaceRoute(ROUTE, Route(ip_network("0.0.0.0/0"), "eth0", onlink=True)),
    AddRule(Rule(4, 32763, 125, inverted=True, fwmark=0x7D00, fwmask=0xFF00, iif="lo", ports=(53, 53))),
    AddRule(Rule(6, 1, 254, source=ip_network("fd00::/8"), suppress_prefixlength=0)),
    SetSysctl("net/ipv4/conf/eth0/rp_filter", "2", "1"),
    AddFirewall("tunsmith", "table inet tunsmith {\n}\n"),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_a_change_and_its_undo_survive_the_journal(change: Change) -> None:
    undo = change.undo()
    for each in (change, undo):
        assert each is not None
        assert record.read(json.loads(json.dumps(record.write(each)))) == each


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_the_undo_of_an_undo_is_the_change(change: Change) -> None:
    undo = change.undo()
    assert undo is not None
    assert undo.undo() == change


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"change": "Format"},
        {"change": "AddRule"},
        {"change": "AddLink", "name": 5},
        {"change": "AddLink", "name": "tun0", "sudo": True},
        {"change": "AddRoute", "route": {"prefix": "10.0.0.0/99"}},
        {"change": "AddRoute", "route": "default"},
        {"change": "SetSysctl", "path": "a", "value": None, "was": "1"},
    ],
    ids=str,
)
def test_what_is_not_a_change_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no change of ours"):
        record.read(broken)


def test_commands_are_what_one_would_type() -> None:
    assert AddRoute(ROUTE).commands() == [
        "ip route add default via 10.0.0.1 dev tun0 table 125 metric 7 proto 125"
    ]
    rule = Rule(6, 32763, 125, inverted=True, fwmark=0x7D00, fwmask=0xFF00, iif="lo")
    assert AddRule(rule).commands() == [
        "ip -6 rule add not from all fwmark 0x7d00/0xff00 iif lo lookup 125 priority 32763 protocol 125"
    ]
    assert AddAddress("tun0", ip_interface("198.18.0.1/32"), ip_address("198.18.0.2")).commands() == [
        "ip address add 198.18.0.1 peer 198.18.0.2 dev tun0"
    ]
