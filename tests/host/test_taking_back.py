"""host/machine.py takes back what we added, unchanged since, and nothing that only looks like it."""

from __future__ import annotations

import select
import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tests.host.private_network import Network
from tunsmith.errors import HostError
from tunsmith.host.machine import Machine
from tunsmith.host.snapshot import take_snapshot
from tunsmith.route.change import (
    AddAddress,
    AddFirewall,
    AddLink,
    AddRoute,
    AddRule,
    Change,
    DeleteLink,
    DeleteRoute,
    ReplaceRoute,
    SetLink,
    SetSysctl,
)
from tunsmith.route.facts import MAIN, Route, Rule

pytestmark = pytest.mark.netns

NETWORK4, NETWORK6 = ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")
ROUTE4 = AddRoute(Route(NETWORK4, "uplink", ip_address("10.9.0.1"), table=125))
ROUTE6 = AddRoute(Route(NETWORK6, "uplink", ip_address("fd09::1"), table=125))
RULE4 = AddRule(Rule(4, 500, 125, inverted=True, fwmark=0x7D00, fwmask=0xFF00))
RULE6 = AddRule(Rule(6, 500, 125, inverted=True, fwmark=0x7D00, fwmask=0xFF00))
FIREWALL = AddFirewall("tunsmith", "table inet tunsmith {\n\tset a {\n\t\ttype inet_service\n\t}\n}\n")
SYSCTL = SetSysctl("net/ipv4/conf/uplink/src_valid_mark", "1", "0")

LOOKALIKES: list[tuple[Change, str]] = [
    (ROUTE4, "ip route add 192.0.2.0/24 via 10.9.0.1 dev uplink table 125"),
    (ROUTE4, "ip route add 192.0.2.0/24 via 10.9.0.1 dev uplink proto 125"),
    (ROUTE4, "ip route add 192.0.2.0/24 via 10.9.0.1 dev uplink table 125 proto 125 metric 1"),
    (ROUTE4, "ip route add 192.0.2.0/24 via 10.9.0.1 dev uplink table 125 proto 125 mtu 1300"),
    (ROUTE4, "ip route add 192.0.2.0/24 via 10.9.0.1 dev uplink table 125 proto 125 src 10.9.0.2"),
    (ROUTE4, "ip route add 192.0.2.0/24 via 10.9.0.1 dev uplink table 125 proto 125 onlink"),
    (ROUTE4, "ip route add 192.0.2.0/24 via 10.9.0.3 dev uplink table 125 proto 125"),
    (ROUTE4, "ip route add 192.0.2.0/24 tos 0x10 via 10.9.0.1 dev uplink table 125 proto 125"),
    (ROUTE4, "ip route add 192.0.2.0/25 via 10.9.0.1 dev uplink table 125 proto 125"),
    (ROUTE4, "ip route add unreachable 192.0.2.0/24 table 125 proto 125"),
    (
        ROUTE4,
        "ip route add 192.0.2.0/24 table 125 proto 125 nexthop via 10.9.0.1 dev uplink nexthop via 10.9.0.3 dev uplink",
    ),
    (ROUTE6, "ip route add 2001:db8::/32 via fd09::1 dev uplink table 125"),
    (ROUTE6, "ip route add 2001:db8::/32 via fd09::1 dev uplink table 125 proto 125 metric 1"),
    (ROUTE6, "ip route add 2001:db8::/32 via fd09::1 dev uplink table 125 proto 125 mtu 1300"),
    (ROUTE6, "ip route add 2001:db8::/32 via fd09::1 dev uplink table 125 proto 125 pref high"),
    (ROUTE6, "ip route add 2001:db8::/32 dev uplink table 125 proto 125"),
    (RULE4, "ip rule add not fwmark 0x7d00/0xff00 lookup 125 pref 500"),
    (RULE4, "ip rule add not fwmark 0x7d00/0xff00 lookup 125 pref 499 protocol 125"),
    (RULE4, "ip rule add fwmark 0x7d00/0xff00 lookup 125 pref 500 protocol 125"),
    (RULE4, "ip rule add not fwmark 0x7d00/0xffff lookup 125 pref 500 protocol 125"),
    (RULE4, "ip rule add not fwmark 0x7d00/0xff00 iif lo lookup 125 pref 500 protocol 125"),
    (RULE4, "ip rule add not fwmark 0x7d00/0xff00 uidrange 1-9 lookup 125 pref 500 protocol 125"),
    (RULE4, "ip rule add not fwmark 0x7d00/0xff00 lookup 126 pref 500 protocol 125"),
    (RULE4, "ip rule add not fwmark 0x7d00/0xff00 lookup 125 suppress_prefixlength 0 pref 500 protocol 125"),
    (RULE4, "ip -6 rule add not fwmark 0x7d00/0xff00 lookup 125 pref 500 protocol 125"),
    (RULE6, "ip -6 rule add not fwmark 0x7d00/0xff00 lookup 125 pref 500"),
    (RULE6, "ip -6 rule add from fd00::/8 not fwmark 0x7d00/0xff00 lookup 125 pref 500 protocol 125"),
    (AddAddress("uplink", ip_interface("198.18.0.1/30")), "ip address add 198.18.0.1/24 dev uplink"),
    (AddAddress("uplink", ip_interface("198.18.0.1/30")), "ip address add 198.18.0.1/30 dev router"),
    (
        AddAddress("uplink", ip_interface("198.18.0.1/32"), ip_address("198.18.0.2")),
        "ip address add 198.18.0.1/32 dev uplink",
    ),
    (AddLink("tuna"), "ip link add tuna type bridge"),
    (AddLink("tuna"), "ip tuntap add tuna mode tap"),
    (AddLink("tuna"), "ip tuntap add tuna mode tun user 1000"),
    (AddLink("tuna", many_queues=True), "ip tuntap add tuna mode tun"),
    (SetLink("uplink", True, 1400, was_up=True, was_mtu=1500), "ip link set uplink mtu 1300"),
    (SYSCTL, "sysctl -qw net.ipv4.conf.uplink.src_valid_mark=0"),
    (FIREWALL, "nft 'table inet tunsmith { set a { type inet_service ; } ; set b { type mark ; } ; }'"),
    (FIREWALL, "nft 'table ip tunsmith { set a { type inet_service ; } ; }'"),
]


@pytest.mark.parametrize(("change", "command"), LOOKALIKES, ids=[command for _, command in LOOKALIKES])
def test_what_only_looks_like_ours_stays(network: Network, change: Change, command: str) -> None:
    subprocess.run(["sh", "-c", command], check=True)
    before = network.everything()
    with Machine() as machine:
        assert not machine.take_back(change)
    assert network.everything() == before


@pytest.mark.parametrize(
    ("change", "command"),
    [
        (ROUTE4, "ip route change 192.0.2.0/24 via 10.9.0.3 dev uplink table 125 proto 125"),
        (ROUTE4, "ip route delete 192.0.2.0/24 table 125; ip route add 192.0.2.0/24 via 10.9.0.1 table 125"),
        (ROUTE6, "ip route change 2001:db8::/32 via fd09::1 dev uplink table 125 proto 125 mtu 1300"),
        (SYSCTL, "sysctl -qw net.ipv4.conf.uplink.src_valid_mark=2"),
        (FIREWALL, "nft add element inet tunsmith a '{ 22 }'"),
        (FIREWALL, "nft add chain inet tunsmith b"),
    ],
    ids=str,
)
def test_what_was_changed_since_stays(network: Network, change: Change, command: str) -> None:
    with Machine() as machine:
        machine.make(change)
        subprocess.run(["sh", "-c", command], check=True)
        before = network.everything()
        assert not machine.take_back(change)
    assert network.everything() == before


@pytest.mark.parametrize(
    ("change", "command"),
    [
        (ROUTE4, "ip route flush table 125"),
        (ROUTE6, "ip link delete uplink"),
        (RULE4, "ip rule delete pref 500"),
        (SYSCTL, "ip link delete uplink"),
        (FIREWALL, "nft flush ruleset"),
        (AddAddress("uplink", ip_interface("198.18.0.1/30")), "ip link delete uplink"),
        (AddLink("tuna"), "ip link delete tuna"),
        (SetLink("uplink", True, 1400, was_up=True, was_mtu=1500), "ip link delete uplink"),
    ],
    ids=str,
)
def test_what_is_gone_already_is_no_error(network: Network, change: Change, command: str) -> None:
    with Machine() as machine:
        machine.make(change)
        subprocess.run(["sh", "-c", command], check=True)
        before = network.everything()
        assert not machine.take_back(change)
    assert network.everything() == before


@pytest.mark.parametrize(
    "users",
    [
        "default via 10.9.0.1 dev uplink metric 5 mtu 1300 initcwnd 20",
        "default metric 5 nexthop via 10.9.0.1 dev uplink weight 3 nexthop dev router weight 1",
        "default dev uplink metric 5 src 10.9.0.2 proto dhcp",
        "::/0 via fd09::1 dev uplink metric 5 mtu 1300 pref low",
        "::/0 metric 5 nexthop via fd09::1 dev uplink nexthop via fd09::3 dev uplink",
    ],
)
def test_a_replaced_route_comes_back_as_it_was(network: Network, users: str) -> None:
    """With the attributes that we have no name for."""
    network.ip(f"route add {users}")
    before = network.everything()
    version = 6 if ":" in users else 4
    (old,) = [route for route in take_snapshot().default_routes(version) if route.metric == 5]
    change = ReplaceRoute(old, Route(old.prefix, "router", metric=5))
    with Machine() as machine:
        machine.make(change)
        assert machine.holds(change)
        assert network.everything() != before
        assert machine.take_back(change)
    assert network.everything() == before


@pytest.mark.parametrize(
    ("change", "users"),
    [
        (RULE4, "rule add iif uplink not fwmark 0x7d00/0xff00 lookup 125 pref 500 protocol 125"),
        (ROUTE4, "route add 192.0.2.0/24 via 10.9.0.1 dev uplink src 10.9.0.2 table 125 proto 125"),
    ],
    ids=["a rule", "a route"],
)
def test_what_the_kernel_would_delete_instead_of_ours_stays(
    network: Network, change: Change, users: str
) -> None:
    """It deletes the first that has what it is told, and does not compare what it is not told."""
    network.ip(users)
    commands = [line.replace("add", "append") if "route" in line else line for line in change.commands()]
    subprocess.run(["sh", "-c", commands[0]], check=True)
    before = network.everything()
    with Machine() as machine:
        assert machine.holds(change)
        with pytest.raises(HostError, match="stands before it"):
            machine.take_back(change)
    assert network.everything() == before


def test_of_two_rules_of_a_priority_each_can_be_deleted(network: Network) -> None:
    other = AddRule(Rule(4, 500, 125, iif="uplink"))
    before = network.everything()
    with Machine() as machine:
        for change in (RULE4, other):
            machine.make(change)
        for change in (RULE4, other):
            assert machine.take_back(change)
    assert network.everything() == before


def test_an_interface_that_was_down_keeps_its_addresses(network: Network) -> None:
    """The kernel takes those of IPv6 away when it goes down."""
    network.ip(
        "tuntap add tuna mode tun\naddress add 10.7.0.1/24 dev tuna\naddress add fd07::1/64 dev tuna nodad\n"
    )
    before = network.json("address", "show", "tuna")[0]["addr_info"]
    with Machine() as machine:
        change = SetLink("tuna", True)
        machine.make(change)
        assert machine.take_back(change)
    assert network.json("address", "show", "tuna")[0]["addr_info"] == before
    assert "UP" not in network.json("link", "show", "tuna")[0]["flags"]


def test_there_is_no_moment_without_a_default_route(network: Network) -> None:
    (old,) = take_snapshot().default_routes(4)
    change = ReplaceRoute(old, Route(old.prefix, "router"))
    with (
        subprocess.Popen(["ip", "monitor", "route"], stdout=subprocess.PIPE, text=True) as monitor,
        Machine() as machine,
    ):
        assert monitor.stdout is not None
        while not select.select([monitor.stdout], [], [], 0.01)[0]:  # until it listens
            network.ip("route replace 198.51.100.1 dev router")
        machine.make(change)
        machine.take_back(change)
        network.ip("route add 198.51.100.2 dev router")
        lines = list(iter(monitor.stdout.readline, "198.51.100.2 dev router scope link \n"))
        monitor.terminate()
    assert any(line.startswith("default dev router") for line in lines)
    assert not [line for line in lines if line.startswith("Deleted")]


def test_a_route_is_not_added_to_one_of_its_prefix_and_metric(network: Network) -> None:
    (old,) = take_snapshot().default_routes(4)
    before = network.everything()
    with Machine() as machine, pytest.raises(HostError, match="File exists"):
        machine.make(AddRoute(replace(old, device="router", gateway=None)))
    assert network.everything() == before


def test_replacing_what_is_not_there_fails_and_adds_nothing(network: Network) -> None:
    route = Route(NETWORK4, "uplink", ip_address("10.9.0.1"))
    before = network.everything()
    with Machine() as machine, pytest.raises(HostError, match=r"cannot ip route replace 192\.0\.2\.0/24"):
        machine.make(ReplaceRoute(route, replace(route, device="router", gateway=None)))
    assert network.everything() == before


def test_an_interface_is_not_made_over_another(network: Network) -> None:
    network.ip("tuntap add tuna mode tun user 1000")
    before = network.everything()
    with Machine() as machine, pytest.raises(HostError, match="there is an interface of that name already"):
        machine.make(AddLink("tuna"))
    assert network.everything() == before


def test_a_firewall_is_not_added_to_a_table_of_that_name(network: Network) -> None:
    subprocess.run(["nft", "add table inet tunsmith"], check=True)
    with (
        Machine() as machine,
        pytest.raises(HostError, match="there is a table inet tunsmith in nftables already"),
    ):
        machine.make(FIREWALL)


def test_a_broken_firewall_is_told_in_one_line_and_leaves_nothing(network: Network) -> None:
    with Machine() as machine, pytest.raises(HostError, match=r"nft says .*syntax error") as told:
        machine.make(AddFirewall("tunsmith", "table inet tunsmith { chain a { nonsense } }"))
    assert "\n" not in str(told.value)
    assert subprocess.run(["nft", "list", "tables"], capture_output=True, check=True).stdout == b""


def test_a_sysctl_that_is_not_there_is_told(network: Network) -> None:
    with Machine() as machine, pytest.raises(HostError, match=r"net/ipv4/conf/tun9/rp_filter"):
        machine.make(SetSysctl("net/ipv4/conf/tun9/rp_filter", "2", "0"))


def test_among_very_many_routes_ours_is_found(network: Network) -> None:
    """And the rest is not taken for it."""
    network.ip(
        "\n".join(f"route add 20.{index >> 8}.{index & 255}.0/24 via 10.9.0.1" for index in range(3000))
    )
    change = DeleteRoute(
        Route(ip_network("20.11.7.0/24"), "uplink", ip_address("10.9.0.1"), MAIN, protocol=3)
    )
    with Machine() as machine:
        assert not machine.holds(change)
        machine.make(change)
        assert machine.holds(change)
        assert machine.take_back(change)
        assert not machine.holds(change)


def test_deleting_an_interface_puts_it_back_for_the_same_user(network: Network) -> None:
    network.ip("tuntap add tuna mode tap user 1000 group 50 multi_queue")
    before = network.json("-details", "link", "show", "tuna")[0]["linkinfo"]
    change = DeleteLink("tuna", tap=True, user=1000, many_queues=True, group=50)
    with Machine() as machine:
        machine.make(change)
        assert machine.take_back(change)
    assert network.json("-details", "link", "show", "tuna")[0]["linkinfo"] == before
