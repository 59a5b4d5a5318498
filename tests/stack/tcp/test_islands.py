"""Text that arrives in pieces, twice, or behind a gap, and how it is kept."""

from __future__ import annotations

from tests.stack.tcp.receiving import established
from tunsmith.stack.tcp.islands import MAX_PIECES


def test_only_the_new_part_of_an_overlap_is_taken() -> None:
    other = established()
    other.send(".", 1, b"abcd")
    other.send(".", 3, b"CDefgh")
    assert other.read() == b"abcdefgh"


def test_what_arrived_first_stays() -> None:
    other = established()
    for seq, data in ((5, b"EF"), (9, b"IJ"), (3, b"cdefghijkl"), (1, b"ab")):
        other.send(".", seq, data)
    assert other.read() == b"abcdEFghIJkl"


def test_what_is_held_already_adds_nothing() -> None:
    other = established()
    other.send(".", 5, b"efgh")
    other.send(".", 6, b"fg")
    islands = other.connection.receiver.islands
    assert islands is not None
    assert islands.held == 4
    other.send(".", 1, b"abcd")
    assert other.read() == b"abcdefgh"
    assert other.connection.receiver.islands is None


def test_an_island_that_was_overtaken_is_forgotten() -> None:
    other = established()
    other.send(".", 3, b"c")
    other.send(".", 5, b"e")
    other.send(".", 1, b"abcdefg")
    assert other.read() == b"abcdefg"
    assert other.connection.receiver.islands is None


def test_text_that_waits_is_not_an_object_a_byte() -> None:
    other = established()
    for number in range(10_000):
        other.send(".", 1 + number, bytes((number & 0xFF,)))
    assert len(other.connection.receiver.ready) < 10
    assert other.read() == bytes(number & 0xFF for number in range(10_000))


def test_confetti_is_bounded() -> None:
    other = established()
    for number in range(MAX_PIECES + 50):
        other.send(".", 3 + 2 * number, b"x")
    islands = other.connection.receiver.islands
    assert islands is not None
    assert len(islands) == islands.held == MAX_PIECES


def test_confetti_side_by_side_is_not_an_object_a_byte() -> None:
    other = established()
    for number in range(3000):
        other.send(".", 3 + number, bytes((number & 0xFF,)))
    other.send(".", 1, b"ab")
    assert other.read() == b"ab" + bytes(number & 0xFF for number in range(3000))
