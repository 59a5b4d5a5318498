"""A stack between two machines: routes, forwarding, and what programs see of a router.

A: 10.1.0.1 fd01::1                 station                    B: 10.2.0.1 fd02::1
   left ------ 10.1.0.254 fd01::fe         10.2.0.254 fd02::fe ------ right
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.links.conftest import MAC, Station, configure, output
from tests.netns.topology import Namespace

pytestmark = pytest.mark.netns

Namespaces = tuple[Namespace, Namespace]
Stations = Callable[..., Station]
A, B = {4: "10.1.0.1", 6: "fd01::1"}, {4: "10.2.0.1", 6: "fd02::1"}
US = {4: "10.1.0.254", 6: "fd01::fe"}
NOBODY = {4: "10.2.0.99", 6: "fd02::99"}
both = pytest.mark.parametrize("version", [4, 6])
LEFT = {"open": "left", "addresses": ["10.1.0.254/24", "fd01::fe/64"]}
RIGHT = {"open": "right", "addresses": ["10.2.0.254/24", "fd02::fe/64"], "mac": MAC, "probe": False}


def _between(
    namespaces: Namespaces, station: Stations, *, forwarding: bool = True, left: int = 1500, right: int = 1500,
    **wish: object,
) -> Station:  # fmt: skip
    a, b = namespaces
    nics = [LEFT | {"device": {"mtu": left}}, RIGHT | {"device": {"mtu": right}} | wish]
    ours = station(nics=nics, forwarding=forwarding)
    a.run("ip", "link", "set", "right", "netns", b.path)
    configure(a, "left", "10.1.0.1/24", "fd01::1/64")
    configure(b, "right", "10.2.0.1/24", "fd02::1/64", mtu=right)
    for namespace, device in ((a, "left"), (b, "right")):
        via = [] if device == "left" else ["via", "10.2.0.254"]
        namespace.run("ip", "route", "add", "default", *via, "dev", device)
        via = [] if device == "left" else ["via", "fd02::fe"]
        namespace.run("ip", "-6", "route", "add", "default", *via, "dev", device)
    ours.begin()
    return ours


@both
def test_ping_and_its_ttl_from_one_machine_to_the_other(
    namespaces: Namespaces, station: Stations, version: int
) -> None:
    ours = _between(namespaces, station)
    said = namespaces[0].run("ping", "-c", "2", "-i", "0.05", "-W", "2", B[version])
    assert "2 received" in said
    assert "ttl=63" in said
    said = namespaces[1].run("ping", "-c", "1", "-W", "2", A[version])
    assert "ttl=63" in said
    assert "forward_ttl" not in ours.counts()


@both
def test_hosts_do_not_forward(namespaces: Namespaces, station: Stations, version: int) -> None:
    ours = _between(namespaces, station, forwarding=False)
    assert "1 received" in namespaces[0].run("ping", "-c", "1", "-W", "2", US[version])
    assert "0 received" in output(namespaces[0], "ping", "-c", "1", "-W", "1", B[version])
    assert ours.counts()["not_our_address"] == 1


@both
def test_too_many_hops(namespaces: Namespaces, station: Stations, version: int) -> None:
    _between(namespaces, station)
    said = output(namespaces[0], "ping", "-c", "1", "-t", "1", "-W", "2", B[version])
    assert f"From {US[version]} icmp_seq=1 Time" in said


@both
def test_neighbour_that_is_not_there(namespaces: Namespaces, station: Stations, version: int) -> None:
    _between(namespaces, station)
    said = output(namespaces[0], "ping", "-c", "1", "-W", "5", NOBODY[version])
    word = "Host Unreachable" if version == 4 else "Address unreachable"
    assert f"From {US[version]} icmp_seq=1 Destination" in said
    assert word in said.replace("unreachable: ", "")


@both
@pytest.mark.parametrize(("left", "right"), [(1500, 1500), (9000, 1500), (1500, 9000)])
def test_transfers_pass_whatever_the_mtus(
    namespaces: Namespaces, station: Stations, version: int, left: int, right: int, tmp_path: Path
) -> None:
    _between(namespaces, station, left=left, right=right)
    sent, arrived = tmp_path / "sent", tmp_path / "arrived"
    sent.write_bytes(os.urandom(5_000_000))
    script = f"nc -l -N {B[version]} 9999 > {arrived}"
    with subprocess.Popen(namespaces[1].command(["sh", "-c", script])) as server:
        while not namespaces[1].listens(9999):
            assert server.poll() is None
        output(namespaces[0], "sh", "-c", f"nc -N {B[version]} 9999 < {sent}")
        server.wait(20)
    assert arrived.read_bytes() == sent.read_bytes()


@both
def test_too_big_is_said_with_the_mtu(namespaces: Namespaces, station: Stations, version: int) -> None:
    ours = _between(namespaces, station, left=9000)
    said = output(namespaces[0], "ping", "-c", "1", "-M", "do", "-s", "4000", "-W", "2", B[version])
    assert "mtu = 1500" in said or "mtu=1500" in said
    assert ours.counts()["forward_too_big"] == 1


def test_ipv4_that_may_be_cut_is_cut(namespaces: Namespaces, station: Stations) -> None:
    _between(namespaces, station, left=9000)
    assert "1 received" in namespaces[0].run("ping", "-c", "1", "-M", "dont", "-s", "4000", "-W", "2", B[4])


@both
def test_transfer_to_a_device_without_offload(
    namespaces: Namespaces, station: Stations, version: int, tmp_path: Path
) -> None:
    a, b = namespaces
    ours = station(nics=[LEFT, RIGHT | {"device": {"offload": 0}}], forwarding=True)
    a.run("ip", "link", "set", "right", "netns", b.path)
    configure(a, "left", "10.1.0.1/24", "fd01::1/64")
    configure(b, "right", "10.2.0.1/24", "fd02::1/64")
    for name, ip in (("10.2.0.0/24", []), ("fd02::/64", ["-6"])):
        a.run("ip", *ip, "route", "add", name, "dev", "left")
    b.run("ip", "route", "add", "10.1.0.0/24", "via", "10.2.0.254")
    b.run("ip", "-6", "route", "add", "fd01::/64", "via", "fd02::fe")
    ours.begin()
    sent, arrived = tmp_path / "sent", tmp_path / "arrived"
    sent.write_bytes(os.urandom(2_000_000))
    with subprocess.Popen(b.command(["sh", "-c", f"nc -l -N {B[version]} 9999 > {arrived}"])) as server:
        while not b.listens(9999):
            assert server.poll() is None
        output(a, "sh", "-c", f"nc -N {B[version]} 9999 < {sent}")
        server.wait(20)
    assert arrived.read_bytes() == sent.read_bytes()


@both
def test_answers_leave_by_the_interface_of_the_asker(
    namespaces: Namespaces, station: Stations, version: int, tmp_path: Path
) -> None:
    _between(namespaces, station, forwarding=False)
    text = tmp_path / "text"
    text.write_bytes(os.urandom(500_000))
    ours = {4: ("10.1.0.254", "10.2.0.254"), 6: ("fd01::fe", "fd02::fe")}[version]
    for namespace, address in zip(namespaces, ours, strict=True):
        script = f"nc -N {address} 7 < {text} | cmp - {text} && echo same"
        assert output(namespace, "sh", "-c", script) == "same\n"
