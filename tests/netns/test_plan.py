"""The kernel agrees with what a plan says of itself: made with the plain programs `ip`, `nft` and `sysctl`."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.host.private_network import Network, private_network
from tests.route.kernel import Packet, lookup
from tunsmith.host.snapshot import take_snapshot
from tunsmith.route.amend import amend
from tunsmith.route.change import Change
from tunsmith.route.facts import LOCAL, Route, Snapshot
from tunsmith.route.plan import Plan, plan, settings
from tunsmith.route.wish import Wish

pytestmark = pytest.mark.netns

GUESTS = {
    "a stock machine": "",
    "a full tunnel of WireGuard": """\
ip tuntap add wg0 mode tun
ip link set wg0 up
for v in -4 -6; do
  ip $v route add default dev wg0 table 51820
  ip $v rule add not fwmark 51820 table 51820
  ip $v rule add table main suppress_prefixlength 0
done
""",
    "Tailscale": """\
ip tuntap add ts0 mode tun
ip link set ts0 up
ip route add 100.64.0.0/10 dev ts0 table 52
for v in -4 -6; do
  ip $v rule add pref 5210 fwmark 0x80000/0xff0000 table main
  ip $v rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
  ip $v rule add pref 5270 table 52
done
""",
    "OpenVPN, a bridge, and a hostile DHCP server": """\
ip tuntap add tun7 mode tun
ip link set tun7 up
ip route add 0.0.0.0/1 dev tun7
ip route add 128.0.0.0/1 dev tun7
ip -6 route add 2000::/3 dev tun7
ip link add docker0 type bridge
ip link set docker0 up
ip address add 172.17.0.1/16 dev docker0
ip route add 9.9.9.0/25 via 10.9.0.66
""",
}
WISHES = {
    "mark": Wish(strategy="mark"),
    "mark, strict, closed": Wish(strategy="mark", strict=True, fail_closed=True, nft=False),
    "mark, gateway": Wish(strategy="mark", gateway=True),
    "mark, narrow": Wish(
        include=tuple(map(ip_network, ("9.0.0.0/8", "9.9.9.9/32", "2606:4700::/32"))),
        exclude=tuple(map(ip_network, ("9.9.0.0/16", "2606:4700:1::/48"))),
    ),
    "interface": Wish(strategy="interface", fail_closed=True),
    "cover": Wish(
        strategy="cover", servers=(ip_address("192.0.2.1"), ip_address("2001:db8::1")), fail_closed=True
    ),
    "replace": Wish(strategy="replace", exclude=(ip_network("9.9.0.0/16"),)),
}
ADDRESSES = (
    "1.1.1.1", "9.9.9.9", "9.9.9.10", "9.9.8.8", "9.1.1.1", "10.9.0.8", "100.100.0.1", "172.17.0.2", "169.254.9.9",
    "198.18.3.3", "192.0.2.1", "2606:4700::1", "2606:4700:1::1", "2001:2::9", "2001:db8::1", "fd09::8",
)  # fmt: skip


@pytest.fixture
def network() -> Iterator[Network]:
    with private_network() as found:
        yield found


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
@pytest.mark.parametrize("guest", GUESTS.values(), ids=GUESTS)
def test_the_kernel_leads_packets_where_the_plan_says(network: Network, guest: str, wish: Wish) -> None:
    shell(guest)
    before = network.everything()
    if wish.strategy in ("cover", "replace") and "rule add not fwmark" in guest:
        pytest.skip("refused: a rule leads everything past table main")
    made = plan(wish, look())
    shell(f"ip tuntap add {made.tun} mode tun")
    do(made.changes)
    now = look()
    differing = [
        (one, kernel, ours)
        for one in packets(made)
        if (kernel := way_of_the_kernel(one)) != (ours := way_of(lookup(now, one), one))
    ]
    assert differing == []
    upstream = wish.servers[0] if wish.servers else ip_address("9.9.9.9")
    assert way_of_the_kernel(Packet(upstream, made.mark, oif=made.pin))[0] != made.tun
    assert amend(made, now).changes == ()
    do(undo for change in reversed(made.changes) if (undo := change.undo()) is not None)
    shell(f"ip link delete {made.tun}")
    assert network.everything() == before


def test_another_uplink_is_followed(network: Network) -> None:
    made = plan(Wish(strategy="interface", strict=True), look())
    shell(f"ip tuntap add {made.tun} mode tun")
    do(made.changes)
    shell(
        "ip address flush dev uplink; ip link add wifi type veth peer name ap; ip link set wifi up; ip link set ap up;"
        "ip address add 10.20.0.9/24 dev wifi; ip route add default via 10.20.0.1 dev wifi"
    )
    amended = amend(made, look())
    do(amended.changes)
    assert amended.plan.pin == "wifi"
    assert way_of_the_kernel(Packet(ip_address("1.1.1.1"), oif="wifi")) == ("wifi", "10.20.0.1")
    assert way_of_the_kernel(Packet(ip_address("1.1.1.1"))) == (made.tun, "")
    assert way_of_the_kernel(Packet(ip_address("10.20.0.7"))) == ("wifi", "")
    assert way_of_the_kernel(Packet(ip_address("10.9.0.7"))) == (made.tun, "")


def test_a_source_address_lets_nothing_out(network: Network) -> None:
    """ "Bind before connect", where the address of the uplink is meant."""
    made = plan(Wish(), look())
    shell(f"ip tuntap add {made.tun} mode tun")
    do(made.changes)
    bound = Packet(ip_address("1.1.1.1"), source=ip_address("10.9.0.2"))
    assert way_of_the_kernel(bound) == (made.tun, "")


def look() -> Snapshot:
    names = [name for _, name in socket.if_nameindex()]
    found = take_snapshot(settings(names))
    shown = json.loads(
        shell("ip -json route show table local; echo; ip -json -6 route show table local").split("\n")[0]
    )
    local = [Route(ip_network(each["dst"]), each["dev"], table=LOCAL, kind=each["type"]) for each in shown]
    return replace(found, routes=(*found.routes, *local))


def packets(made: Plan) -> Iterable[Packet]:
    for address in map(ip_address, ADDRESSES):
        yield Packet(address)
        yield Packet(address, port=53, protocol=17)
        yield Packet(address, oif="uplink")
        if made.mark:
            yield Packet(address, mark=made.mark)


def way_of(route: Route | None, one: Packet) -> tuple[str, str]:
    """Interface and gateway."""
    if route is not None:
        return route.device, str(route.gateway or "")
    # Where there is no way, the kernel takes a destination for a neighbour on the interface it is told (IPv4 only).
    return (one.oif, "") if one.to.version == 4 else ("", "")


def way_of_the_kernel(one: Packet) -> tuple[str, str]:
    words = ["ip", "-json", "route", "get", str(one.to)]
    words += ["mark", hex(one.mark)] if one.mark else []
    words += ["oif", one.oif] if one.oif else []
    words += ["from", str(one.source)] if one.source is not None else []
    words += [
        "ipproto",
        "udp" if one.protocol == 17 else "tcp",
        "sport",
        str(one.source_port),
        "dport",
        str(one.port),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return "", ""
    (found,) = json.loads(done.stdout)
    return ("", "") if found.get("type") == "unreachable" else (found["dev"], found.get("gateway", ""))


def do(changes: Iterable[Change]) -> None:
    for change in changes:
        for command in change.commands():
            shell(command)


def shell(script: str) -> str:
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return done.stdout
