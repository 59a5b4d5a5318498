"""What goes round in a circle is known, counted, and told once in a while."""

from __future__ import annotations

import socket
from collections import Counter
from ipaddress import ip_address

import pytest

from tunsmith.dial.escape import Escape
from tunsmith.dial.underway import Underway
from tunsmith.flow import Target
from tunsmith.relay.flows import FlowBook
from tunsmith.relay.loops import REPEAT, Loops
from tunsmith.relay.report import Silent
from tunsmith.wire.ip import IPV4

OURS = ip_address("127.0.0.1").packed
HOST_BEHIND = ip_address("192.0.2.77").packed
FAR = Target("192.0.2.80", 443)


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.drops: Counter[str] = Counter()
        self.notes = Notes()
        self.underway = Underway()
        book = FlowBook("direct", None, self.notes, self.drops, lambda: self.now)
        self.loops = Loops(Escape(underway=self.underway), self.underway, book, None)

    def datagram(self, source: bytes, port: int) -> bool:
        key = IPV4.key(source, port, ip_address(FAR.host).packed, FAR.port)
        return self.loops.has_datagram(IPV4, key, FAR)


@pytest.fixture
def world() -> World:
    return World()


def test_datagram_from_a_port_of_ours_is_counted_and_told_once_a_minute(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        world.underway.opened(sock)
        port = sock.getsockname()[1]
        assert world.datagram(OURS, port)
        assert world.datagram(OURS, port)
        assert world.drops["loop"] == 2
        assert len(world.notes.said) == 1
        assert "our own UDP socket to 192.0.2.80:443 came back" in world.notes.said[0]
        world.now += REPEAT
        assert world.datagram(OURS, port)
        assert len(world.notes.said) == 2


def test_host_behind_us_may_have_the_same_port(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        world.underway.opened(sock)
        assert not world.datagram(HOST_BEHIND, sock.getsockname()[1])
    assert not world.drops


def test_port_of_a_program_is_none_of_ours(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert not world.datagram(OURS, sock.getsockname()[1])


def test_flow_that_is_not_the_proxys_has_no_way_of_its_own(world: World) -> None:
    key = IPV4.key(OURS, 1, ip_address(FAR.host).packed, FAR.port)
    assert world.loops.way_for(6, IPV4, key, FAR, set) is None
