"""host/news.py: which events make somebody look again."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tunsmith.host.netlink import addresses, links, routes, rules
from tunsmith.host.netlink.attributes import attribute, number, text
from tunsmith.host.news import News
from tunsmith.route.facts import LOCAL, OURS, Route, Rule

DEFAULT4, DEFAULT6 = ip_network("0.0.0.0/0"), ip_network("::/0")
NETWORK = ip_network("192.0.2.0/24")
STATIC, BIRD, DHCP = 4, 12, 16
UP, RUNNING = 0x1, 0x40


def _route(prefix: object, **fields: int) -> bytes:
    return routes.pack_route(Route(prefix, "uplink", **fields), lambda name: 3)  # type: ignore[arg-type]


def _link(flags: int = UP, mtu: int = 1500, family: int = 0, extra: bytes = b"") -> bytes:
    head = struct.pack("=BxHiII", family, 1, 3, flags, 0)
    return head + text(3, "uplink") + number(4, mtu) + extra


@pytest.mark.parametrize("prefix", [DEFAULT4, DEFAULT6], ids=str)
@pytest.mark.parametrize("kind", [routes.NEW, routes.DELETE])
@pytest.mark.parametrize("protocol", [STATIC, BIRD, DHCP])
def test_a_default_route_of_others_matters(prefix: object, kind: int, protocol: int) -> None:
    assert News().matters(kind, _route(prefix, protocol=protocol))


def test_a_route_of_ours_matters_when_it_is_taken_away() -> None:
    assert not News().matters(routes.NEW, _route(DEFAULT4, protocol=OURS))
    assert News().matters(routes.DELETE, _route(DEFAULT4, protocol=OURS))


def test_a_rule_of_ours_matters_when_it_is_taken_away() -> None:
    rule = rules.pack_rule(Rule(4, 500, 125))
    assert not News().matters(rules.NEW, rule)
    assert News().matters(rules.DELETE, rule)
    assert News().matters(rules.NEW, rules.pack_rule(Rule(4, 500, 125, protocol=STATIC)))


def test_networks_of_routing_daemons_and_table_local_do_not_matter() -> None:
    for kind in (routes.NEW, routes.DELETE):
        assert not News().matters(kind, _route(NETWORK, protocol=BIRD))
        assert not News().matters(kind, _route(NETWORK, protocol=2, table=LOCAL))
        assert News().matters(kind, _route(NETWORK, protocol=DHCP))


def test_addresses_matter() -> None:
    body = addresses.pack_address(3, ip_interface("10.9.0.2/24"), ip_address("10.9.0.3"))
    assert News().matters(addresses.NEW, body)
    assert News().matters(addresses.DELETE, body)


def test_a_link_matters_once() -> None:
    news = News()
    assert news.matters(links.NEW, _link())
    assert not news.matters(links.NEW, _link(extra=attribute(11, b"wireless news")))
    assert not news.matters(links.NEW, _link(UP | RUNNING))
    assert news.matters(links.NEW, _link(mtu=1400))
    assert news.matters(links.NEW, _link(0, 1400))
    assert news.matters(links.NEW, _link(0, 1400, extra=attribute(16, b"\6")))
    assert news.matters(links.DELETE, _link(0, 1400))
    assert news.matters(links.NEW, _link(0, 1400, extra=attribute(16, b"\6")))


def test_what_bridges_say_of_their_ports_does_not_matter() -> None:
    assert not News().matters(links.NEW, _link(family=7))
    assert not News().matters(links.DELETE, _link(family=7))


def test_what_is_of_other_kinds_does_not_matter() -> None:
    assert not News().matters(28, bytes(12))
