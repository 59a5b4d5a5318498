"""host/machine.py: every change is made as it says, seen again, and taken back to the very state before."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tests.host.private_network import Network
from tunsmith.errors import HostError
from tunsmith.host.machine import Machine
from tunsmith.route.change import (
    AddAddress,
    AddFirewall,
    AddLink,
    AddRoute,
    AddRule,
    Change,
    DeleteRoute,
    DeleteRule,
    ReplaceRoute,
    SetLink,
    SetSysctl,
)
from tunsmith.route.facts import MAIN, Route, Rule

pytestmark = pytest.mark.netns

ANY4, ANY6 = ip_network("0.0.0.0/0"), ip_network("::/0")
GATEWAY4, GATEWAY6 = ip_address("10.9.0.1"), ip_address("fd09::1")
FIREWALL = """table inet tunsmith {
    chain output {
        type filter hook output priority mangle; policy accept;
        meta mark & 0xff00 == 0x7d00 ct mark set meta mark
    }
}
"""
BOOT = 3

CHANGES: dict[str, Change] = {
    "a TUN for a user with many queues": AddLink("tuna", user=1000, many_queues=True),
    "a TAP": AddLink("tapa", tap=True),
    "an MTU": SetLink("router", True, 1400, was_up=True, was_mtu=1500),
    "an address": AddAddress("router", ip_interface("198.18.0.1/30")),
    "an IPv6 address": AddAddress("router", ip_interface("fd77::1/64")),
    "an address with a peer": AddAddress("router", ip_interface("198.18.0.1/32"), ip_address("198.18.0.2")),
    "an IPv6 address with a peer": AddAddress("router", ip_interface("fd77::1/128"), ip_address("fd77::2")),
    "a default route in a table": AddRoute(Route(ANY4, "uplink", table=125)),
    "an IPv6 default route in a table": AddRoute(Route(ANY6, "uplink", table=125)),
    "a route with a gateway": AddRoute(Route(ip_network("192.0.2.0/24"), "uplink", GATEWAY4)),
    "an IPv6 route with a gateway": AddRoute(Route(ip_network("2001:db8::/32"), "uplink", GATEWAY6)),
    "a gateway that is on the link because we say so": AddRoute(
        Route(ip_network("192.0.2.9/32"), "uplink", ip_address("203.0.113.1"), onlink=True)
    ),
    "an IPv6 gateway for IPv4": AddRoute(Route(ip_network("192.0.2.0/24"), "uplink", GATEWAY6)),
    "a source and a metric": AddRoute(
        Route(ip_network("192.0.2.0/24"), "uplink", GATEWAY4, metric=77, source=ip_address("10.9.0.2"))
    ),
    "an IPv6 source and a metric": AddRoute(
        Route(ip_network("2001:db8::/32"), "uplink", GATEWAY6, metric=77, source=ip_address("fd09::2"))
    ),
    "a congestion control": AddRoute(Route(ANY4, "uplink", table=125, congctl="reno")),
    "an IPv6 congestion control": AddRoute(Route(ANY6, "uplink", table=125, congctl="reno")),
    "a table above 255": AddRoute(Route(ANY4, "uplink", table=70_000)),
    "an IPv6 table above 255": AddRoute(Route(ANY6, "uplink", table=70_000)),
    **{
        f"{kind}, IPv{any_.version}": AddRoute(Route(any_, table=125, kind=kind, metric=4294967295))
        for kind in ("unreachable", "blackhole", "prohibit", "throw")
        for any_ in (ANY4, ANY6)
    },
    "the default route replaced": ReplaceRoute(
        Route(ANY4, "uplink", GATEWAY4, protocol=BOOT), Route(ANY4, "router", scope=253)
    ),
    "the IPv6 default route replaced": ReplaceRoute(
        Route(ANY6, "uplink", GATEWAY6, protocol=BOOT, metric=1024), Route(ANY6, "router", metric=1024)
    ),
    "the default route deleted": DeleteRoute(Route(ANY4, "uplink", GATEWAY4, protocol=BOOT)),
    "not fwmark, of port 53": AddRule(
        Rule(
            4, 500, 125, inverted=True, fwmark=0x7D00, fwmask=0xFF00, iif="lo", ip_protocol=17, ports=(53, 53)
        )
    ),
    "an IPv6 range of ports": AddRule(Rule(6, 500, 70_000, oif="uplink", ip_protocol=6, ports=(53, 853))),
    "a source port": AddRule(Rule(4, 500, MAIN, iif="lo", ip_protocol=6, source_ports=(22, 22))),
    "an IPv6 range of source ports": AddRule(Rule(6, 500, MAIN, ip_protocol=17, source_ports=(53, 853))),
    "no mark of a mask": AddRule(Rule(4, 500, 125, fwmask=0x10000000, iif="lo", ports=(53, 53))),
    "suppress_prefixlength": AddRule(Rule(4, 500, MAIN, suppress_prefixlength=0)),
    "IPv6 suppress_prefixlength": AddRule(Rule(6, 500, MAIN, suppress_prefixlength=0)),
    "goto": AddRule(
        Rule(
            4,
            500,
            action="goto",
            goto=32766,
            source=ip_network("10.0.0.0/8"),
            destination=ip_network("192.0.2.0/24"),
        )
    ),
    "prohibit": AddRule(Rule(6, 500, action="prohibit", destination=ip_network("fd00::/8"))),
    "the rule of a table deleted": DeleteRule(Rule(4, 32767, 253, protocol=2)),
    "a sysctl": SetSysctl("net/ipv4/conf/uplink/src_valid_mark", "1", "0"),
    "a firewall": AddFirewall("tunsmith", FIREWALL),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_seen_again_and_taken_back_exactly_and_once(network: Network, change: Change) -> None:
    before = network.everything()
    with Machine() as machine:
        assert not machine.holds(change)
        assert not machine.take_back(change)
        assert network.everything() == before
        machine.make(change)
        assert machine.holds(change)
        assert network.everything() != before
        assert machine.take_back(change)
        assert network.everything() == before
        assert not machine.take_back(change)
        assert network.everything() == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_commands_do_the_same(network: Network, change: Change) -> None:
    with Machine() as machine:
        for line in change.commands():
            subprocess.run(["sh", "-c", line], check=True, capture_output=True)
        assert machine.holds(change)


def test_errors_name_the_change_and_the_cause(network: Network) -> None:
    with (
        Machine() as machine,
        pytest.raises(HostError, match=r"cannot ip route add .*: there is no interface tun99"),
    ):
        machine.make(AddRoute(Route(ANY4, "tun99", table=125)))
