"""host/netlink: what is read from the kernel is what ip(8) shows."""

from __future__ import annotations

from contextlib import closing
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from tests.host.private_network import Network
from tunsmith.host.netlink.channel import Netlink
from tunsmith.host.netlink.links import Tun, read_links, read_tun
from tunsmith.host.netlink.routes import MOST_OTHERS, add_route, read_routes, read_way
from tunsmith.host.snapshot import take_snapshot
from tunsmith.host.tun import open_tun
from tunsmith.route.facts import KERNEL, MAIN, OURS, Route, Rule

pytestmark = pytest.mark.netns

BOOT = 3
ROUTES = """\
route add 192.0.2.0/24 via 10.9.0.1 dev uplink metric 7 src 10.9.0.2 proto static
route add 192.0.2.0/24 dev uplink metric 9 scope link proto 125 table 125
route add 192.0.2.1/32 via 203.0.113.1 dev uplink onlink mtu 1300 initcwnd 20
route add 192.0.3.0/24 via inet6 fe80::1 dev uplink tos 0x10
route add 192.0.4.0/24 nexthop via 10.9.0.1 weight 5 nexthop dev router
route add unreachable default metric 4294967295 table 70000
route add blackhole 10.1.0.0/16
route add prohibit 10.2.0.0/16
route add throw 10.3.0.0/16 table 300
route add 2001:db8::/32 via fd09::1 dev uplink metric 7 src fd09::2 proto static
route add 2001:db9::/32 via fd09::9 dev uplink onlink table 70000 mtu 1400
route add unreachable ::/0 metric 4294967295 table 125
route add blackhole fd01::/16
route add prohibit fd02::/16
route add throw fd03::/16 table 300
route add 2001:dba::/32 nexthop via fd09::1 nexthop via fd09::3
"""
RULES = """\
rule add not fwmark 0x100/0xff00 iif lo ipproto udp dport 53 from 10.0.0.0/8 to 192.0.2.0/24 lookup 125 pref 500
rule add oif uplink dport 100-200 goto 32766 pref 501 protocol 125
rule add lookup main suppress_prefixlength 0 pref 502
rule add prohibit from 192.0.2.1 sport 22-23 pref 503
"""


def _shown(words: dict[str, Any], version: int) -> tuple[Any, ...]:
    """What is comparable in a route as ip(8) shows it."""
    hop = words["nexthops"][0] if "nexthops" in words else words
    via, kind = hop.get("via"), words.get("type", "unicast")
    gateway = via["host"] if via else hop.get("gateway")
    refuses = kind not in ("unicast", "local")
    return (
        ip_network({"default": "0.0.0.0/0" if version == 4 else "::/0"}.get(words["dst"], words["dst"])),
        "" if refuses else hop.get("dev", ""),
        None if gateway is None else ip_address(gateway),
        {"main": MAIN}.get(words.get("table", "main"), words.get("table", MAIN)),
        words.get("metric", 0),
        kind,
        {"kernel": KERNEL, "static": 4, "boot": BOOT, "125": OURS}[words["protocol"]],
        words.get("prefsrc") and ip_address(words["prefsrc"]),
        "onlink" in hop["flags"] or "onlink" in words["flags"],
    )


def _told(route: Route) -> tuple[Any, ...]:
    return (
        route.prefix,
        route.device,
        route.gateway,
        route.table,
        route.metric,
        route.kind,
        route.protocol,
        route.source,
        route.onlink,
    )


@pytest.mark.parametrize("version", [4, 6])
def test_routes_of_all_tables_are_as_ip_shows_them(network: Network, version: int) -> None:
    network.ip(ROUTES)
    shown = network.json(f"-{version}", "-details", "route", "show", "table", "all")
    wanted = {
        _shown(
            {**words, "table": int(words["table"]) if words.get("table", "main").isdigit() else "main"},
            version,
        )
        for words in shown
        if words.get("table") != "local"
    }
    found = [route for route in take_snapshot().routes if route.prefix.version == version]
    assert {_told(route) for route in found} == wanted
    assert len(found) == len(wanted)


def test_what_has_no_name_in_a_route_is_kept_and_several_next_hops_are_told(network: Network) -> None:
    network.ip(ROUTES)
    routes = {(str(route.prefix), route.table): route for route in take_snapshot().routes}
    assert routes["192.0.2.1/32", MAIN].rest != ""
    assert routes["192.0.3.0/24", MAIN].tos == 0x10
    assert routes["192.0.4.0/24", MAIN].multipath
    assert routes["192.0.4.0/24", MAIN].gateway == ip_address("10.9.0.1")
    assert routes["2001:dba::/32", MAIN].multipath
    assert routes["192.0.2.0/24", MAIN].rest == ""
    assert routes["2001:db8::/32", MAIN].rest == ""


def test_rules_are_told_in_all_their_fields(network: Network) -> None:
    network.ip(RULES)
    added = [rule for rule in take_snapshot().rules if rule.version == 4 and 500 <= rule.priority < 600]
    assert added == [
        Rule(
            4, 500, 125, inverted=True, fwmark=0x100, fwmask=0xFF00, iif="lo", ip_protocol=17, ports=(53, 53),
            source=ip_network("10.0.0.0/8"), destination=ip_network("192.0.2.0/24"), protocol=0,
        ),
        Rule(4, 501, action="goto", oif="uplink", ports=(100, 200), goto=32766, protocol=125),
        Rule(4, 502, MAIN, suppress_prefixlength=0, protocol=0),
        Rule(4, 503, action="prohibit", source=ip_network("192.0.2.1/32"), source_ports=(22, 23), protocol=0),
    ]  # fmt: skip


@pytest.mark.parametrize("selector", ["uidrange 1-5", "tos 0x10", "suppress_ifgroup 3", "realms 5"])
def test_a_rule_that_selects_by_something_else_says_so(network: Network, selector: str) -> None:
    network.ip(f"rule add {selector} lookup 300 pref 500")
    (rule,) = [rule for rule in take_snapshot().rules if rule.priority == 500]
    assert rule.other


def test_rules_of_both_families_in_their_order(network: Network) -> None:
    told = [(rule.version, rule.priority) for rule in take_snapshot().rules]
    assert told == [(4, 0), (4, 32766), (4, 32767), (6, 0), (6, 32766)]


def test_links_and_addresses_are_as_ip_shows_them(network: Network) -> None:
    network.ip(
        "link add bridge0 type bridge\nlink set router master bridge0 mtu 1400\n"
        "address add 198.18.0.1 peer 198.18.0.2/31 dev router\naddress add fd77::1 peer fd77::2/127 dev router nodad\n"
    )
    snapshot = take_snapshot()
    shown = network.json("-details", "address", "show")
    for link, words in zip(snapshot.links, shown, strict=True):
        assert (link.name, link.index, link.mtu) == (words["ifname"], words["ifindex"], words["mtu"])
        assert link.up == ("UP" in words["flags"])
        assert link.loopback == ("LOOPBACK" in words["flags"])
        assert link.master == words.get("master", "")
        assert link.kind == words.get("linkinfo", {}).get("info_kind", "")
    found = {(each.device, each.address, each.peer) for each in snapshot.addresses}
    assert found == {
        (
            words["ifname"],
            ip_interface((info["local"], info["prefixlen"])),
            ip_address(info["address"]) if "address" in info else None,
        )
        for words in shown
        for info in words["addr_info"]
    }


def test_what_a_tun_is_made_for(network: Network) -> None:
    network.ip("tuntap add tuna mode tun user 1000 group 50 multi_queue\ntuntap add tapa mode tap vnet_hdr\n")
    with Netlink() as netlink:
        assert read_tun(netlink, "tuna") == Tun(False, 1000, 50, True, True, 0, 0, False, False)
        assert read_tun(netlink, "tapa") == Tun(True, None, None, True, False, 0, 0, True, False)
        assert read_tun(netlink, "uplink") is None
        with closing(open_tun("tuna", multi_queue=True)), closing(open_tun("tuna", multi_queue=True)):
            assert read_tun(netlink, "tuna") == Tun(False, 1000, 50, True, True, 2, 0, True, True)


def test_of_very_many_routes_those_that_matter_are_told(network: Network) -> None:
    count = MOST_OTHERS + 500
    commands = [f"route add 20.{index >> 8}.{index & 255}.0/24 via 10.9.0.1" for index in range(count)]
    network.ip("\n".join([*commands, "route add 203.0.113.0/24 via 10.9.0.1 proto 125"]))
    with Netlink() as netlink:
        names = {link.index: link.name for link in read_links(netlink)}
        routes = read_routes(netlink, lambda index: names.get(index, ""))
        last = read_way(
            netlink, ip_address(f"20.{count - 1 >> 8}.{count - 1 & 255}.7"), lambda index: names[index]
        )
    main = [route for route in routes if route.table == MAIN and route.prefix.version == 4]
    others = [route for route in main if route.protocol == BOOT and not route.is_default]
    assert len(others) == MOST_OTHERS
    assert {route.protocol for route in main} == {BOOT, KERNEL, OURS}
    assert last not in main
    assert last is not None
    assert last in take_snapshot(towards=[last.prefix[1]]).routes


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::9"])
def test_the_way_to_an_address_is_the_route_of_the_table(network: Network, address: str) -> None:
    network.ip(ROUTES)
    snapshot = take_snapshot(towards=[ip_address(address)])
    names = {link.index: link.name for link in snapshot.links}
    with Netlink() as netlink:
        way = read_way(netlink, ip_address(address), names.__getitem__)
    assert way in snapshot.routes
    assert len(set(snapshot.routes)) == len(snapshot.routes)


def test_no_way_is_none(network: Network) -> None:
    network.ip("route add unreachable 192.0.2.0/24")
    with Netlink() as netlink:
        assert read_way(netlink, ip_address("192.0.2.1"), str) is None


def test_errors_have_the_kernels_own_words(network: Network) -> None:
    route = Route(ip_network("192.0.2.0/24"), "uplink", ip_address("203.0.113.1"))
    with Netlink() as netlink, pytest.raises(OSError, match="Nexthop has invalid gateway"):
        add_route(
            netlink, route, lambda name: next(link.index for link in read_links(netlink) if link.name == name)
        )
