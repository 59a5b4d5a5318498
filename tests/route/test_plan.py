from __future__ import annotations

import pytest

from tests.route.machines import machine
from tunsmith.errors import UsageError
from tunsmith.route.change import AddRule
from tunsmith.route.facts import MAIN, Rule
from tunsmith.route.plan import plan
from tunsmith.route.wish import Wish


def rules_of(wish: Wish, *theirs: Rule, version: int = 4) -> list[Rule]:
    made = plan(wish, machine(rules=theirs))
    return [
        change.rule
        for change in made.changes
        if isinstance(change, AddRule) and change.rule.version == version
    ]


def test_a_stock_machine_has_three_rules_more_of_each_version() -> None:
    for version in (4, 6):
        assert len(rules_of(Wish(), version=version)) == 3


def test_nothing_of_a_stock_machine_is_caught_twice_or_before_its_networks() -> None:
    dns, local, rest = rules_of(Wish())
    assert dns.ports == (53, 53)
    assert (local.table, local.suppress_prefixlength) == (MAIN, 1)
    assert dns.priority < local.priority < rest.priority == 32765
    assert {rule.fwmark for rule in (dns, local, rest)} == {0}


def test_an_interface_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match="there is no interface wlan7; there are eth0"):
        plan(Wish(interface="wlan7"), machine())
