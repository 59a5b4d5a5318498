"""Connections from outside, and those of containers, on a machine whose traffic goes into a TUN: H, with a strict
reverse path filter, between the Internet R and a container C whose packets it masquerades.

Nobody reads the TUN but the tests: what gets through went past it.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.netns.topology import Namespace
from tunsmith.host.machine import Machine
from tunsmith.host.snapshot import take_snapshot
from tunsmith.host.tun import open_tun
from tunsmith.route.plan import Plan, plan, settings
from tunsmith.route.wish import Wish

pytestmark = pytest.mark.netns

OUTSIDE = {4: "8.8.8.8", 6: "2600::8"}
HOST = {4: "10.1.0.2", 6: "fd01::2"}
FRAME_HEADER = 10
HOST_SET_UP = """\
ip address add 10.1.0.2/24 dev up0; ip -6 address add fd01::2/64 dev up0 nodad
ip address add 172.18.0.1/24 dev br0; ip -6 address add fd18::1/64 dev br0 nodad
ip route add default via 10.1.0.1; ip -6 route add default via fd01::1
sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.br0.forwarding=1 net.ipv4.conf.up0.forwarding=1
nft -f - <<'END'
table ip containers {
  chain out {
    type nat hook postrouting priority srcnat
    ip saddr 172.18.0.0/24 oifname != "br0" masquerade
  }
  chain in {
    type nat hook prerouting priority dstnat
    fib daddr type local tcp dport 8080 dnat to 172.18.0.2:80
  }
}
END
"""
OUTSIDE_SET_UP = """\
ip address add 10.1.0.1/24 dev r0; ip address add 8.8.8.8/32 dev lo
ip -6 address add fd01::1/64 dev r0 nodad; ip -6 address add 2600::8/128 dev lo
"""
CONTAINER_SET_UP = """\
ip address add 172.18.0.2/24 dev c0; ip -6 address add fd18::2/64 dev c0 nodad
ip route add default via 172.18.0.1; ip -6 route add default via fd18::1
"""


@dataclass
class World:
    host: Namespace = field(default_factory=Namespace)
    outside: Namespace = field(default_factory=Namespace)
    container: Namespace = field(default_factory=Namespace)

    def __post_init__(self) -> None:
        for namespace in (self.host, self.outside, self.container):
            namespace.run(
                "sh", "-ec", "ip link set lo up; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"
            )
        for name, other, peer in (("up0", self.outside, "r0"), ("br0", self.container, "c0")):
            self.host.run(
                "ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns", other.path
            )
            self.host.run("ip", "link", "set", name, "up")
            other.run("ip", "link", "set", peer, "up")
        self.host.run("sh", "-ec", HOST_SET_UP)
        self.outside.run("sh", "-ec", OUTSIDE_SET_UP)
        self.container.run("sh", "-ec", CONTAINER_SET_UP)


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    for namespace in (found.host, found.outside, found.container):
        namespace.close()


@contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """This thread in `namespace`; its sockets stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", namespace.path))
    try:
        assert libc.setns(there, 0) == 0
        yield
    finally:
        assert libc.setns(home, 0) == 0
        os.close(home)
        os.close(there)


@contextmanager
def running(world: World, wish: Wish) -> Iterator[tuple[Plan, int]]:
    """The plan for H made real, and the TUN's descriptor."""
    with inside(world.host), Machine() as machine:
        made = plan(wish, take_snapshot(settings(name for _, name in socket.if_nameindex())))
        device = open_tun(made.tun)
        for change in made.changes:
            machine.make(change)
        assert all(machine.holds(change) for change in made.changes)
    try:
        yield made, device.fileno()
    finally:
        with inside(world.host), Machine() as machine:
            for change in reversed(made.changes):
                machine.take_back(change)
        device.close()


def bound(
    namespace: Namespace, kind: int, address: str, port: int = 0, mark: int = 0, device: str = ""
) -> socket.socket:
    with inside(namespace):
        found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    found.settimeout(2)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if mark:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    if device:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    found.bind((address, port))
    if kind == socket.SOCK_STREAM and port:
        found.listen()
    return found


def connects(client: socket.socket, server: socket.socket, address: str, port: int) -> bool:
    """A TCP connection, a word each way."""
    with client:
        try:
            client.connect((address, port))
        except TimeoutError:
            return False
        accepted, _ = server.accept()
        with accepted:
            return speak(client, accepted)


def speak(client: socket.socket, server: socket.socket) -> bool:
    server.settimeout(2)
    try:
        client.sendall(b"question")
        heard = server.recv(100)
        server.sendall(b"answer")
        return (heard, client.recv(100)) == (b"question", b"answer")
    except TimeoutError:
        return False


def answered(client: socket.socket, server: socket.socket, address: str, port: int) -> bool:
    """A datagram each way; the client takes it only from whom it asked."""
    with client:
        client.connect((address, port))
        client.send(b"question")
        try:
            server.sendto(b"answer", server.recvfrom(100)[1])
            return client.recv(100) == b"answer"
        except TimeoutError:
            return False


WISHES = {"mark": Wish(), "interface": Wish(strategy="interface"), "gateway": Wish(gateway=True)}


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_services_and_published_ports_go_on_answering(world: World, wish: Wish) -> None:
    everywhere = {4: "0.0.0.0", 6: "::"}
    tcp = {
        version: bound(world.host, socket.SOCK_STREAM, everywhere[version], 2200 + version)
        for version in (4, 6)
    }
    udp = {
        version: bound(world.host, socket.SOCK_DGRAM, everywhere[version], 5000 + version)
        for version in (4, 6)
    }
    web = bound(world.container, socket.SOCK_STREAM, "172.18.0.2", 80)
    old = bound(world.outside, socket.SOCK_STREAM, OUTSIDE[4])
    old.connect((HOST[4], 2204))
    session, _ = tcp[4].accept()
    with running(world, wish):
        for version in (4, 6):
            client = bound(world.outside, socket.SOCK_STREAM, OUTSIDE[version])
            assert connects(client, tcp[version], HOST[version], 2200 + version)
            client = bound(world.outside, socket.SOCK_DGRAM, OUTSIDE[version])
            assert answered(client, udp[version], HOST[version], 5000 + version)
        assert connects(bound(world.outside, socket.SOCK_STREAM, OUTSIDE[4]), web, HOST[4], 8080)
        assert speak(old, session)
    assert speak(old, session)
    for each in (*tcp.values(), *udp.values(), web, old, session):
        each.close()


def test_without_nft_tcp_services_go_on_answering(world: World) -> None:
    server = bound(world.host, socket.SOCK_STREAM, "0.0.0.0", 2204)
    with running(world, Wish(nft=False)) as (made, _):
        assert connects(bound(world.outside, socket.SOCK_STREAM, OUTSIDE[4]), server, HOST[4], 2204)
        assert any("nft is not there" in note for note in made.notes)
    server.close()


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_our_own_sockets_are_answered_through_a_strict_filter(world: World, wish: Wish) -> None:
    """The article's case: the packets that come back bear no mark."""
    server = bound(world.outside, socket.SOCK_STREAM, OUTSIDE[4], 443)
    with running(world, wish) as (made, _):
        own = bound(world.host, socket.SOCK_STREAM, "0.0.0.0", mark=made.mark, device=made.pin)
        assert connects(own, server, OUTSIDE[4], 443)
        assert not connects(bound(world.host, socket.SOCK_STREAM, "0.0.0.0"), server, OUTSIDE[4], 443)
    assert connects(bound(world.host, socket.SOCK_STREAM, "0.0.0.0"), server, OUTSIDE[4], 443)
    server.close()


def test_containers_go_on_past_the_tun_without_gateway(world: World) -> None:
    server = bound(world.outside, socket.SOCK_STREAM, OUTSIDE[4], 443)
    with running(world, Wish()):
        assert connects(bound(world.container, socket.SOCK_STREAM, "172.18.0.2"), server, OUTSIDE[4], 443)
    server.close()


@pytest.mark.parametrize(("version", "source"), [(4, "172.18.0.2"), (6, "fd18::2")])
def test_a_gateway_sees_who_sends_in_spite_of_masquerading(world: World, version: int, source: str) -> None:
    with running(world, Wish(gateway=True)) as (_, tun):
        with bound(world.container, socket.SOCK_DGRAM, source) as client:
            client.sendto(b"hello", (OUTSIDE[version], 9))
        os.set_blocking(tun, True)
        sender = ""
        while sender != source:  # the kernel's own packets come, too
            packet = os.read(tun, 65600)[FRAME_HEADER:]
            at = slice(12, 16) if packet[0] >> 4 == 4 else slice(8, 24)
            sender = socket.inet_ntop(socket.AF_INET if packet[0] >> 4 == 4 else socket.AF_INET6, packet[at])
