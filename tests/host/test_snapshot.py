"""host/snapshot.py and what it puts together: settings, served ports, and all of it quickly."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pytest

from tests.host.private_network import Network
from tunsmith.errors import HostError
from tunsmith.host import nft
from tunsmith.host.snapshot import take_snapshot

pytestmark = pytest.mark.netns


def _bound(family: int, kind: int, address: str, port: int) -> socket.socket:
    found = socket.socket(family, kind)
    if family == socket.AF_INET6:
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    found.bind((address, port))
    return found


def test_served_are_listening_tcp_and_udp_ports_that_were_chosen(network: Network) -> None:
    with (
        _bound(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", 22) as ssh,
        _bound(socket.AF_INET6, socket.SOCK_STREAM, "::", 8443) as web,
        _bound(socket.AF_INET, socket.SOCK_STREAM, "", 99),  # bound, but does not listen
        _bound(socket.AF_INET, socket.SOCK_DGRAM, "", 53),
        _bound(socket.AF_INET6, socket.SOCK_DGRAM, "::", 500),
        _bound(socket.AF_INET, socket.SOCK_DGRAM, "", 0),  # of a client: a port by chance
        _bound(socket.AF_INET, socket.SOCK_DGRAM, "", 123) as connected,
    ):
        connected.connect(("127.0.0.1", 9))
        ssh.listen()
        web.listen()
        assert take_snapshot().served == {22, 8443, 53, 500}


def test_settings_that_do_not_exist_are_absent(network: Network) -> None:
    paths = ["net/ipv4/conf/uplink/rp_filter", "net/ipv4/conf/tun9/rp_filter", "net/ipv4/ip_local_port_range"]
    with open("/proc/sys/net/ipv4/conf/uplink/rp_filter", "w", encoding="ascii") as file:
        file.write("2")
    assert take_snapshot(paths).settings == {
        "net/ipv4/conf/uplink/rp_filter": "2",
        "net/ipv4/ip_local_port_range": "32768 60999",
    }


def test_without_nft_there_are_no_marks_and_the_rest_is_told(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["nft", "add table inet t; add chain inet t c; add rule inet t c meta mark 5"], check=True)
    assert take_snapshot().marks == {(5, 0xFFFFFFFF)}
    monkeypatch.setattr(shutil, "which", lambda program: None)
    snapshot = take_snapshot()
    assert snapshot.marks == frozenset()
    assert snapshot.link("uplink") is not None
    with pytest.raises(HostError, match="install the package nftables"):
        nft.add_table("t", "table inet t {}")


def test_the_ways_out_are_the_default_routes(network: Network) -> None:
    snapshot = take_snapshot()
    assert [str(route.gateway) for route in snapshot.default_routes(4)] == ["10.9.0.1"]
    assert [str(route.gateway) for route in snapshot.default_routes(6)] == ["fd09::1"]
