"""Passive and active open by the owner of a stack: RFC 9293 §3.10.1, and what may go wrong."""

from __future__ import annotations

import errno
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from tests.stack.packets import FAMILIES, name
from tests.stack.tcp.peer import PORTS, Peer, peer
from tunsmith.errors import LocalError
from tunsmith.stack.events import ConnectionHandler, Incoming
from tunsmith.stack.listener import Listener
from tunsmith.stack.tcp.connection import Connection
from tunsmith.wire.ip import IpFamily

both = pytest.mark.parametrize("family", FAMILIES, ids=name)


def listening(backlog: int = 4, **settings: Any) -> tuple[Peer, Listener]:
    other = peer(**settings)
    return other, other.stack.listen(other.destination, PORTS[1], backlog=backlog)


def handshake(other: Peer, port: int = PORTS[0]) -> None:
    """SYN and the ACK of the SYN-ACK, from `port`."""
    (synack,) = other.send("S", 0, ports=(port, PORTS[1]))
    assert synack.flags in ("S.", ".S")
    assert other.send(".", 1, ack=1, ports=(port, PORTS[1])) == []


def neighbour(other: Peer) -> Peer:
    """Another host, at the same stack."""
    found = copy(other)
    found.source = other.source[:-1] + b"\x63"
    return found


def refusal(other: Peer, source: bytes, source_port: int, destination: bytes, destination_port: int) -> int:
    with pytest.raises(LocalError) as caught:
        other.stack.connect(source, source_port, destination, destination_port, other.now)
    return caught.value.errno


# --- passive ---


@both
def test_a_listener_answers_by_itself_and_keeps_the_connection_until_it_is_accepted(family: IpFamily) -> None:
    other, listener = listening(family=family)
    handshake(other)
    assert other.stack.poll_event() == Incoming(listener)
    assert other.events() == []
    assert other.send(".", 1, b"early", ack=1) == []
    connection = listener.accept(None, other.now)
    assert connection is not None
    assert other.events() == ["established", "readable"]
    assert connection.read(100, other.now) == b"early"
    assert (connection.source, connection.destination) == ((other.source, 40000), (other.destination, 80))
    assert listener.accept(None, other.now) is None


def test_connections_are_accepted_in_the_order_they_were_complete() -> None:
    other, listener = listening()
    other.send("S", 0, ports=(5, 80))
    handshake(other, 6)
    other.send(".", 1, ack=1, ports=(6, 80))
    handshake(other, 7)
    ports = []
    while (connection := listener.accept(None, other.now)) is not None:
        ports.append(connection.source[1])
    assert ports == [6, 7]


def test_who_accepts_late_is_told_everything() -> None:
    other, listener = listening()
    handshake(other)
    other.send(".", 1, b"all", ack=1)
    other.send("F.", 4, ack=1)

    class Reader:
        def __init__(self) -> None:
            self.told: list[object] = []

        def on_established(self, connection: Connection) -> None:
            self.told.append("established")

        def on_data(self, connection: Connection, data: memoryview) -> int:
            self.told.append(bytes(data[:2]))
            return min(len(data), 2)

        def on_writable(self, connection: Connection) -> None:
            self.told.append("writable")

        def on_fin(self, connection: Connection) -> None:
            self.told.append("fin")

        def on_closed(self, connection: Connection, error: int) -> None:
            self.told.append(error)

    reader: ConnectionHandler = Reader()
    connection = listener.accept(reader, other.now)
    assert connection is not None
    assert reader.told == ["established", b"al", "fin"]  # type: ignore[attr-defined]
    assert connection.read(10, other.now) == b"l"


class Hearing:
    """Takes all text, and hangs up when it is told to."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.heard = b""
        self.ended = False

    def on_established(self, connection: Connection) -> None:
        if not self.patience:
            connection.abort(1000.0)

    def on_data(self, connection: Connection, data: memoryview) -> int:
        self.heard += data
        if len(self.heard) >= self.patience:
            connection.abort(1000.0)
        return len(data)

    def on_writable(self, connection: Connection) -> None: ...

    def on_fin(self, connection: Connection) -> None:
        self.ended = True

    def on_closed(self, connection: Connection, error: int) -> None: ...


@pytest.mark.parametrize(("patience", "heard"), [(0, 0), (5000, 5000), (7000, 7000), (10_000, 8000)])
def test_who_accepts_may_take_all_or_hang_up_at_any_moment(patience: int, heard: int) -> None:
    other, listener = listening()
    handshake(other)
    for at in range(0, 8000, 1000):
        other.send(".", 1 + at, bytes(1000), ack=1)
    other.send("F.", 8001, ack=1)
    owner = Hearing(patience)
    connection = listener.accept(owner, other.now)
    assert connection is not None
    assert len(owner.heard) >= heard
    assert connection.connected is owner.ended is (patience > 8000)


@pytest.mark.parametrize(
    ("places", "taker"),
    [
        ([(True, 80), (None, 80), (True, None), (None, None)], 0),
        ([(None, 80), (True, None), (None, None)], 0),
        ([(None, None), (True, None)], 1),
        ([(True, 81), (None, None)], 1),
    ],
)
def test_the_most_particular_listener_takes_the_syn(
    places: list[tuple[bool | None, int | None]], taker: int
) -> None:
    other = peer()
    listeners = [other.stack.listen(other.destination if ours else None, port) for ours, port in places]
    handshake(other)
    assert [len(listener.waiting) for listener in listeners].index(1) == taker


def test_a_syn_that_no_listener_takes_is_asked_about_or_refused() -> None:
    other, _ = listening()
    assert other.send("S", 0, ports=(40000, 81)) == []
    assert other.events() == ["request"]
    other = peer(flow_requests=False)
    (reset,) = other.send("S", 0)
    assert (reset.flags, reset.ack) == ("R.", 1)
    assert other.events() == []
    assert other.stack.drops == {"tcp_no_connection": 1}


def test_a_full_accept_queue_keeps_silent() -> None:
    other, listener = listening(backlog=2)
    handshake(other, 1)
    handshake(other, 2)
    assert other.send("S", 0, ports=(3, 80)) == []
    assert other.stack.drops == {"listen_overflow": 1}
    assert listener.accept(None, other.now) is not None
    handshake(other, 3)


def test_half_open_connections_are_bounded__rfc4987() -> None:
    other, listener = listening(backlog=2)
    for port in range(1, 4):
        other.send("S", 0, ports=(port, 80))
    assert len(listener.opening) == 2
    assert other.stack.drops == {"syn_flood": 1}
    other.send("R", 1, ports=(1, 80))
    assert len(listener.opening) == 1


@pytest.mark.parametrize("cookies", [True, False])
@both
def test_half_open_connections_of_one_source_are_bounded__rfc4987(family: IpFamily, cookies: bool) -> None:
    other, listener = listening(backlog=8, family=family, syn_cookies=cookies)
    honest = neighbour(other)
    for port in range(1, 100):
        other.send("S", 0, ports=(port, 80))
    assert len(listener.opening) == 6
    assert other.stack.drops == {"syn_flood": 93}
    handshake(honest)
    assert listener.accept(None, other.now) is not None
    assert other.stack.drops == {"syn_flood": 93}


@both
def test_a_source_gets_its_places_back__rfc4987(family: IpFamily) -> None:
    other, listener = listening(backlog=2, family=family, syn_cookies=False, pending_per_source=1)
    for _ in range(3):
        assert other.send("S", 0, ports=(1, 80)) != []
        assert other.send("S", 0, ports=(2, 80)) == []  # no place
        assert other.send("R", 1, ports=(1, 80)) == []  # given up
    handshake(other, 3)  # established
    handshake(other, 4)
    assert not listener.opening
    assert len(listener.waiting) == 2


@both
def test_with_a_cookie_nobody_leaves_a_place_that_he_never_had__rfc4987(family: IpFamily) -> None:
    other, listener = listening(backlog=4, family=family, pending_per_source=2)
    for port in (1, 2):
        other.send("S", 0, ports=(port, 80))
    handshake(other, 3)
    assert len(listener.waiting) == 1
    assert len(listener.opening) == 2
    other.send("S", 0, ports=(4, 80))
    assert len(listener.opening) == 2


def test_a_connection_that_ends_before_it_is_accepted_is_not() -> None:
    other, listener = listening()
    handshake(other)
    other.send("R", 1)
    assert listener.accept(None, other.now) is None
    assert not other.stack.connections


def test_closing_resets_what_nobody_accepted_and_nothing_else() -> None:
    other, listener = listening()
    handshake(other, 1)
    accepted = listener.accept(None, other.now)
    assert accepted is not None
    handshake(other, 2)
    other.send("S", 0, ports=(3, 80))
    listener.close(other.now)
    assert [segment.flags for segment in other.answers()] == ["R.", "R."]
    assert list(other.stack.connections.values()) == [accepted]
    other.stack.listen(other.destination, 80)
    listener.close(other.now)
    assert (other.destination, 80) in other.stack.listeners


def test_what_cannot_be_listened_on() -> None:
    other, _ = listening(addresses=(b"\x0a\0\0\x02",), any_destination=False)
    for place, backlog, code in (
        ((other.destination, 80), 1, errno.EADDRINUSE),
        ((b"\x0a\0\0\x03", 80), 1, errno.EADDRNOTAVAIL),
        ((None, 65536), 1, errno.EINVAL),
        ((None, 80), 0, errno.EINVAL),
    ):
        with pytest.raises(LocalError) as caught:
            other.stack.listen(*place, backlog=backlog)
        assert caught.value.errno == code


def test_listening_on_port_zero_finds_a_free_one() -> None:
    other = peer(ephemeral_ports=(100, 101))
    ports = {other.stack.listen(None, 0).port, other.stack.listen(None, 0).port}
    assert ports == {100, 101}
    with pytest.raises(LocalError) as caught:
        other.stack.listen(None, 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_beyond_the_limit_of_the_stack_a_syn_is_reset() -> None:
    other, listener = listening(connection_limit=1)
    handshake(other, 1)
    assert [segment.flags for segment in other.send("S", 0, ports=(2, 80))] == ["R."]
    assert not listener.opening


# --- active ---


@both
def test_connecting_from_and_to_anywhere(family: IpFamily) -> None:
    other = peer(family=family)
    syn = other.open()
    assert syn.options.mss == 1460 if family.version == 4 else 1440
    assert other.connection.source == (other.source, 40000)
    assert other.connection.destination == (other.destination, 80)


def test_ends_in_use_cannot_be_connected() -> None:
    other = peer()
    ends = (other.destination, 80, other.source, 40000)
    other.request()
    assert refusal(other, *ends) == errno.EADDRINUSE
    other.stack.requests.clear()
    other.open()
    assert refusal(other, *ends) == errno.EADDRINUSE


def test_what_cannot_be_connected() -> None:
    here, there = b"\x0a\0\0\x02", b"\x0a\0\0\x01"
    other = peer(addresses=(here,), any_destination=False, connection_limit=1)
    assert refusal(other, there, 1, there, 2) == errno.EADDRNOTAVAIL
    assert refusal(other, here, 1, b"\xe0\0\0\x01", 2) == errno.EINVAL
    assert refusal(other, here, 1, bytes(16), 2) == errno.EINVAL
    assert refusal(other, here, 1, there, 0) == errno.EINVAL
    assert refusal(other, here, 65536, there, 1) == errno.EINVAL
    other.stack.connect(here, 1, there, 2, other.now)
    assert refusal(other, here, 1, there, 3) == errno.ENFILE


def test_port_zero_is_one_that_is_free() -> None:
    other = peer(ephemeral_ports=(100, 102))
    other.stack.listen(None, 101)
    ends = (other.destination, 0, other.source, 40000)
    ports = {other.stack.connect(*ends, other.now).destination[1] for _ in range(2)}
    assert ports == {100, 102}
    assert refusal(other, *ends) == errno.EADDRNOTAVAIL
    elsewhere = other.stack.connect(other.destination, 0, other.source, 40001, other.now)
    assert elsewhere.destination[1] in ports


def test_ports_follow_from_the_source_of_randomness_of_the_stack() -> None:
    def ports(**settings: Any) -> list[int]:
        other = peer(**settings)
        return [
            other.stack.connect(other.destination, 0, other.source, port, other.now).destination[1]
            for port in (1, 1, 2)
        ]

    assert ports() == ports()
    assert ports() != ports(random=lambda count: bytes(range(7, 7 + count)))
    assert ports() != ports(isn_secret=b"another")
    assert (
        ports(**{"random": lambda count: bytes(count)})[1] == ports(random=lambda count: bytes(count))[0] + 1
    )


@both
def test_progress_of_an_active_open(family: IpFamily) -> None:
    other = peer(family=family)
    other.open()
    connection = other.connection
    assert (connection.in_progress, connection.connected, connection.writable) == (True, False, False)
    other.send("S.", 0, ack=1)
    assert (connection.in_progress, connection.connected, connection.writable) == (False, True, True)
    other = peer(family=family)
    other.open()
    other.send("R.", 0, ack=1)
    assert (other.connection.in_progress, other.connection.connected) == (False, False)
    assert other.connection.error == errno.ECONNREFUSED


def test_stacks_do_not_share_anything() -> None:
    one, two = listening()[0], peer()
    assert two.send("S", 0) == []
    assert two.events() == ["request"]
    assert replace(one.config) == two.config
