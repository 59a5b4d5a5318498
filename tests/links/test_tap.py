"""A stack on a TAP: what Linux and its programs see of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.links.conftest import MAC, Station, configure, output
from tests.netns.topology import Namespace
from tunsmith.wire.arp import REQUEST, Arp, build_arp
from tunsmith.wire.ethernet import BROADCAST, ETHERTYPE_ARP, build_ethernet

pytestmark = pytest.mark.netns

Namespaces = tuple[Namespace, Namespace]
Stations = Callable[..., Station]
PEER_MAC = bytes.fromhex("020000000002")
KERNEL = ("10.9.0.1/24", "fd09::1/64")
OURS = {4: "10.9.0.2", 6: "fd09::2"}
LINK_LOCAL = "fe80::5eff:fe10:1"
NIC = {"open": "tap0", "mac": MAC, "addresses": ["10.9.0.2/24", "fd09::2/64"]}
both = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def kernel(namespaces: Namespaces) -> Namespace:
    return namespaces[0]


def _echoed(kernel: Namespace, version: int, text: bytes, path: Path) -> bool:
    """Whether port 7 gives back what netcat sends."""
    path.write_bytes(text)
    script = f"nc -N {OURS[version]} 7 < {path} | cmp - {path} && echo same"
    return output(kernel, "sh", "-c", script) == "same\n"


def test_arping_and_ip_neigh_show_the_mac(kernel: Namespace, station: Stations) -> None:
    ours = station(nics=[NIC])
    configure(kernel, "tap0", *KERNEL)
    assert ours.begin() == sorted([OURS[4], OURS[6], LINK_LOCAL])
    said = output(kernel, "arping", "-c", "2", "-I", "tap0", OURS[4])
    assert f"Unicast reply from {OURS[4]} [{MAC.upper()}]" in said
    assert "Received 2 response(s)" in said
    for address in OURS.values():
        kernel.run("ping", "-c", "1", "-W", "2", address)
        (entry,) = json.loads(kernel.run("ip", "-j", "neigh", "show", address, "dev", "tap0"))
        assert entry["lladdr"] == MAC


@pytest.mark.parametrize("size", ["56", "4000"])
@pytest.mark.parametrize("address", [*OURS.values(), f"{LINK_LOCAL}%tap0"])
def test_ping(kernel: Namespace, station: Stations, address: str, size: str) -> None:
    ours = station(nics=[NIC | {"probe": False}])
    configure(kernel, "tap0", *KERNEL)
    ours.begin()
    said = kernel.run("ping", "-c", "3", "-i", "0.02", "-W", "2", "-s", size, address)
    assert "3 received, 0% packet loss" in said


@both
@pytest.mark.parametrize(
    "device", [{}, {"offload": 0}, {"vnet_header": False}, {"packet_info": True}, {"mtu": 9000}], ids=str
)
def test_what_netcat_sends_comes_back(
    kernel: Namespace, station: Stations, version: int, device: dict[str, object], tmp_path: Path
) -> None:
    ours = station(nics=[NIC | {"device": device, "probe": False}])
    configure(kernel, "tap0", *KERNEL)
    ours.begin()
    assert _echoed(kernel, version, os.urandom(2_000_000), tmp_path / "text")
    assert f"mtu {device.get('mtu', 1500)}" in kernel.run("ip", "link", "show", "tap0")


@both
def test_super_segments_are_whole_in_both_directions(
    kernel: Namespace, station: Stations, version: int, tmp_path: Path
) -> None:
    ours = station(nics=[NIC | {"probe": False}])
    configure(kernel, "tap0", *KERNEL)
    ours.begin()
    assert _echoed(kernel, version, os.urandom(8_000_000), tmp_path / "text")
    (shown,) = json.loads(kernel.run("ip", "-j", "-s", "link", "show", "tap0"))
    for direction in ("rx", "tx"):
        counts = shown["stats64"][direction]
        assert counts["bytes"] > 8_000_000
        assert counts["bytes"] / counts["packets"] > 4 * 1500


@both
def test_bad_cable(kernel: Namespace, station: Stations, version: int, tmp_path: Path) -> None:
    faults = {"loss": 0.02, "duplicate": 0.01, "reorder": 0.02, "corrupt": 0.01, "delay": 0.002}
    ours = station(nics=[NIC | {"faults": faults, "probe": False}])
    configure(kernel, "tap0", *KERNEL)
    ours.begin()
    assert _echoed(kernel, version, os.urandom(1_000_000), tmp_path / "text")


def test_nine_thousand_bytes_in_one_frame(kernel: Namespace, station: Stations) -> None:
    ours = station(nics=[NIC | {"device": {"mtu": 9000}, "probe": False}])
    configure(kernel, "tap0", *KERNEL)
    ours.begin()
    for address, header in ((OURS[4], 28), (OURS[6], 48)):
        said = kernel.run("ping", "-M", "do", "-c", "1", "-W", "2", "-s", str(9000 - header), address)
        assert "1 received" in said


@both
def test_duplicate_in_the_kernel_is_seen_and_not_used__rfc4862_5_4(
    kernel: Namespace, station: Stations, version: int
) -> None:
    prefix = "24" if version == 4 else "64"
    ours = station(nics=[NIC])
    configure(kernel, "tap0", *KERNEL, f"{OURS[version]}/{prefix}")
    ready = ours.begin()
    assert [(words["conflict"], len(words["mac"])) for words in ours.said] == [(OURS[version], 17)]
    assert OURS[version] not in ready
    assert OURS[10 - version] in ready
    assert ours.counts()["address_conflict"] >= 1


def test_kernel_sees_that_the_address_is_ours__rfc4862_5_4_3(kernel: Namespace, station: Stations) -> None:
    ours = station(nics=[NIC])
    kernel.tune({"net/ipv6/conf/tap0/accept_dad": "1"})
    configure(kernel, "tap0", *KERNEL)
    ours.begin()
    kernel.run("ip", "address", "add", f"{OURS[6]}/64", "dev", "tap0")
    for _ in range(100):
        if "dadfailed" in kernel.run("ip", "-6", "address", "show", "dev", "tap0"):
            return
        kernel.run("sleep", "0.05")
    raise AssertionError("the kernel has not noticed")


def test_gratuitous_arp_and_advertisement_move_what_neighbours_remember(
    kernel: Namespace, station: Stations
) -> None:
    ours = station(nics=[NIC])
    configure(kernel, "tap0", *KERNEL)
    kernel.tune({"net/ipv4/conf/tap0/arp_accept": "1"})
    for address in OURS.values():
        kernel.run(
            "ip", "neigh", "add", address, "lladdr", "02:00:00:00:00:99", "nud", "stale", "dev", "tap0"
        )
    ours.begin()
    for address in OURS.values():
        (entry,) = json.loads(kernel.run("ip", "-j", "neigh", "show", address, "dev", "tap0"))
        assert entry["lladdr"] == MAC


def _tagged_request(vlan: int) -> str:
    """A program that asks for our MAC address in a tagged frame, again and again."""
    message = build_arp(Arp(REQUEST, PEER_MAC, bytes((10, 9, 0, 1)), bytes(6), bytes((10, 9, 0, 2))))
    frame = build_ethernet(BROADCAST, PEER_MAC, ETHERTYPE_ARP, vlan) + message
    return f"""
import socket, time
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("tap0", 0))
while True:
    out.send(bytes.fromhex("{frame.hex()}"))
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("own", "theirs", "passes"), [(7, 7, True), (7, 8, False), (7, 0, False), (0, 7, False)]
)
def test_frames_of_our_vlan_pass_and_others_are_dropped(
    kernel: Namespace, station: Stations, own: int, theirs: int, passes: bool
) -> None:
    ours = station(nics=[NIC | {"vlan": own, "probe": False}])
    configure(kernel, "tap0")
    ours.begin()
    with subprocess.Popen(kernel.command([sys.executable, "-c", _tagged_request(theirs)])) as asker:
        said = output(kernel, "timeout", "1", "tcpdump", "-lnei", "tap0")
        asker.kill()
    assert (f"vlan {own}, p 0, ethertype ARP (0x0806), Reply 10.9.0.2 is-at {MAC}" in said) == passes
    assert passes or ours.counts()["vlan"]


def test_closed_port_is_refused(kernel: Namespace, station: Stations) -> None:
    ours = station(nics=[NIC | {"probe": False}])
    configure(kernel, "tap0", *KERNEL)
    ours.begin()
    assert "refused" in output(kernel, "nc", "-v", "-w", "2", OURS[4], "8")
