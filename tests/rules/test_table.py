"""The verdict on each kind of destination."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.config import Network
from tunsmith.flow import ICMP, ICMPV6, TCP, UDP, Action, Verdict
from tunsmith.rules.table import RuleTable

DIRECT = RuleTable(Network(), wants_names=False)
PROXY = RuleTable(Network(), wants_names=True)
BOTH = pytest.mark.parametrize("table", [DIRECT, PROXY], ids=["direct", "proxy"])


def match(
    table: RuleTable, host: str, port: int = 443, protocol: int = TCP, name: str | None = None
) -> Verdict:
    return table.match(protocol, ip_address(host).packed, port, name)


@BOTH
@pytest.mark.parametrize(
    "host", ["192.0.2.1", "10.1.2.3", "2001:db8::1", "fd00::1", "240.0.0.1", "64:ff9b::1"]
)
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_ordinary_destinations_go_to_the_upstream(table, host, protocol):
    assert match(table, host, protocol=protocol) == Verdict(Action.DIAL, "via")


@BOTH
@pytest.mark.parametrize("gateway", ["198.18.0.2", "2001:2::2"])
def test_the_gateway_answers_dns_and_nothing_else(table, gateway):
    assert match(table, gateway, 53, TCP) == match(table, gateway, 53, UDP) == Verdict(Action.RESOLVE, "dns")
    assert match(table, gateway, 80) == Verdict(Action.REFUSE, "gateway")
    assert match(table, gateway, 0, ICMP) == Verdict(Action.REFUSE, "gateway")


@pytest.mark.parametrize("host", ["1.1.1.1", "2606:4700::1", "10.0.0.1", "198.18.7.7"])
def test_behind_a_proxy_any_resolver_is_ours(host):
    for protocol in (TCP, UDP):
        assert match(PROXY, host, 53, protocol).action is Action.RESOLVE
        assert match(DIRECT, host, 53, protocol).action is Action.DIAL
    assert match(PROXY, "1.1.1.1", 53, ICMP).action is Action.DIAL
    assert match(PROXY, "1.1.1.1", 853).action is Action.DIAL


@BOTH
@pytest.mark.parametrize(
    ("host", "action", "rule"),
    [
        ("224.0.0.251", Action.DROP, "multicast"),
        ("239.255.255.250", Action.DROP, "multicast"),
        ("ff02::fb", Action.DROP, "multicast"),
        ("255.255.255.255", Action.DROP, "broadcast"),
        ("0.0.0.0", Action.DROP, "unspecified"),
        ("::", Action.DROP, "unspecified"),
        ("fe80::1", Action.DROP, "link-local"),
        ("::ffff:127.0.0.1", Action.DROP, "martian"),
        ("::ffff:192.0.2.1", Action.DROP, "martian"),
        ("::7f00:1", Action.DROP, "martian"),
        ("127.0.0.1", Action.REFUSE, "loopback"),
        ("127.255.255.254", Action.REFUSE, "loopback"),
        ("::1", Action.REFUSE, "loopback"),
        ("198.18.0.1", Action.REFUSE, "inside"),
        ("2001:2::1", Action.REFUSE, "inside"),
    ],
)
def test_special_addresses_never_reach_the_upstream(table, host, action, rule):
    assert match(table, host, 443) == Verdict(action, rule)
    assert match(table, host, 53, UDP) == Verdict(action, rule)


def test_link_local_v4_is_reached_directly_but_never_through_a_proxy():
    assert match(DIRECT, "169.254.169.254", 80).action is Action.DIAL
    assert match(PROXY, "169.254.169.254", 80) == Verdict(Action.DROP, "link-local")


@pytest.mark.parametrize("host", ["198.18.0.3", "198.19.255.254", "2001:2::3", "2001:2:0:ffff::"])
def test_a_fake_address_leads_somewhere_only_while_a_name_owns_it(host):
    assert match(PROXY, host, name="a.test").action is Action.DIAL
    assert match(PROXY, host).action is Action.REFUSE
    assert match(DIRECT, host).action is Action.DIAL


def test_the_broadcast_address_of_the_fake_network_is_dropped():
    assert match(PROXY, "198.19.255.255") == Verdict(Action.DROP, "broadcast")


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.sampled_from([TCP, UDP, ICMP, ICMPV6]), addresses, st.integers(0, 65535))
def test_no_destination_that_means_this_machine_is_ever_dialed(protocol, address, port):
    for table in (DIRECT, PROXY):
        verdict = table.match(protocol, address.packed, port)
        if address.is_loopback or address.is_multicast or address.is_unspecified:
            assert verdict.action in (Action.REFUSE, Action.DROP)
