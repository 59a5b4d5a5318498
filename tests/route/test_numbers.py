"""What is taken is not taken again; where nothing is left, it is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.route.entries import route
from tests.route.machines import machine
from tunsmith.errors import UsageError
from tunsmith.route.facts import Link, Rule
from tunsmith.route.numbers import free_firewall, free_mark, free_name, free_tables, place
from tunsmith.route.plan import plan
from tunsmith.route.wish import Wish

EVERY_BIT = frozenset({(1, 0xFFFFFFF)} | {(bit, bit) for bit in (1 << 28, 1 << 29, 1 << 30)})


def test_a_name_that_is_taken_is_passed_over_or_refused() -> None:
    host = machine(links=[Link("tunsmith0", 9, "tun"), Link("vpn", 10, "wireguard")])
    assert free_name("", host) == "tunsmith1"
    assert free_name("tunsmith0", host) == "tunsmith0"
    with pytest.raises(UsageError, match="the name vpn is taken"):
        free_name("vpn", host)


def test_a_table_with_routes_or_rules_is_passed_over() -> None:
    host = machine(routes=[route("10.0.0.0/8", "eth0", table=125)], rules=[Rule(6, 9, 126)])
    assert free_tables(host) == (127, 128)


def test_no_free_table_is_refused() -> None:
    taken = [Rule(4, 9, table) for table in (*range(125, 253), *range(1000, 2000))]
    with pytest.raises(UsageError, match="no routing table is free"):
        plan(Wish(), machine(rules=taken))


def test_a_bit_that_somebody_sets_or_looks_at_is_passed_over() -> None:
    first = free_mark(machine())
    host = machine(rules=[Rule(4, 9, 99, fwmark=first, fwmask=first)])
    assert free_mark(host) not in (0, first)
    everybody = replace(machine(), marks=frozenset({(first, 0xFFFFFFFF)}))
    assert free_mark(everybody) not in (0, first)


def test_where_no_bit_is_free_sockets_are_bound() -> None:
    host = replace(machine(), marks=EVERY_BIT)
    assert free_mark(host) == 0
    made = plan(Wish(), host)
    assert (made.strategy, made.mark, made.pin) == ("interface", 0, "eth0")
    with pytest.raises(UsageError, match="every bit of the firewall mark is in use"):
        plan(Wish(strategy="mark"), host)


def test_a_kernel_without_policy_routing_is_covered() -> None:
    assert plan(Wish(), replace(machine(), rules=())).strategy == "cover"


def test_a_table_of_nftables_gets_a_name_of_its_own() -> None:
    host = replace(machine(), firewalls=frozenset({"tunsmith_tun_7"}))
    assert free_firewall("tun-7", host) == "tunsmith_tun_7_1"


def test_rules_stand_behind_narrow_ones_and_before_the_one_for_all() -> None:
    host = machine(rules=[Rule(4, 32764, 9, iif="eth0")])
    assert (place(1, 4, host).first, place(1, 4, host).step) == (32765, 1)
    crowded = place(3, 4, host)
    assert (crowded.priorities(3), crowded.beyond) == ([32764] * 3, 32766)


def test_a_rule_for_all_before_every_other_is_refused() -> None:
    host = machine()
    first = replace(host, rules=(Rule(4, 0, 254), *host.rules[1:]))
    with pytest.raises(UsageError, match="takes all IPv4 traffic"):
        place(3, 4, first)
