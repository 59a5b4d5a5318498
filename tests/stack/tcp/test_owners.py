"""Owners who take text at once, or hang up in the middle of it."""

from __future__ import annotations

import pytest

from tests.stack.tcp.peer import Peer, peer
from tunsmith.stack.tcp.connection import Connection


class Eater:
    """Takes at most `most` bytes a call, and may end the connection in the middle."""

    def __init__(self, most: int, ends: str = "") -> None:
        self.most = most
        self.ends = ends
        self.eaten = b""
        self.told: list[str] = []
        self.now = 1000.0

    def on_established(self, connection: Connection) -> None:
        self.told.append("established")

    def on_data(self, connection: Connection, data: memoryview) -> int:
        taken = data[: self.most]
        self.eaten += taken
        if self.ends == "abort":
            connection.abort(self.now)
        elif self.ends == "close":
            connection.close(self.now)
        return len(taken)

    def on_writable(self, connection: Connection) -> None:
        self.told.append("writable")

    def on_fin(self, connection: Connection) -> None:
        self.told.append("fin")

    def on_closed(self, connection: Connection, error: int) -> None:
        self.told.append(f"closed {error}")


def fed(eater: Eater) -> Peer:
    other = peer()
    connection = other.request().accept(eater, other.now)
    assert connection is not None
    other.connection = connection
    other.answers()
    other.ack = 1
    other.send(".", 1)
    return other


class Quitter(Eater):
    """Ends the connection as soon as it is established."""

    def on_established(self, connection: Connection) -> None:
        connection.abort(self.now)


def test_the_owner_may_end_the_connection_when_it_is_established() -> None:
    other = peer()
    connection = other.request().accept(Quitter(1), other.now)
    assert connection is not None
    other.answers()
    other.ack = 1
    assert [segment.flags for segment in other.send(".", 1, b"text")] == ["R."]
    assert not other.stack.connections

    other = peer()
    other.stack.connect(other.destination, 80, other.source, 40000, other.now, Quitter(1))
    other.answers()
    other.ack = 1
    assert [segment.flags for segment in other.send("S.", 0)] == ["R."]
    assert not other.stack.connections


def test_what_the_owner_does_not_take_waits_and_is_not_offered_again() -> None:
    eater = Eater(3)
    other = fed(eater)
    other.send(".", 1, b"abcdef")
    other.send(".", 7, b"ghi")
    assert eater.eaten == b"abc"
    assert other.read() == b"defghi"
    other.send(".", 10, b"jk")
    assert eater.eaten == b"abcjk"


@pytest.mark.parametrize("ends", ["abort", "close"])
@pytest.mark.parametrize("island", [False, True])
def test_the_owner_may_end_the_connection_while_it_is_given_text(ends: str, island: bool) -> None:
    eater = Eater(100, ends)
    other = fed(eater)
    if island:
        other.send(".", 4, b"def")
    flags = [segment.flags for segment in other.send("F.", 1, b"abc")]
    assert eater.eaten == b"abc"
    if ends == "abort" or island:
        assert flags == ["R."]
        assert not other.stack.connections
        assert "fin" not in eater.told
    else:
        assert flags == ["F.", "."]
        assert other.state == "CLOSING"
