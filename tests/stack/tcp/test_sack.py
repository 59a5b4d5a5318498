"""SACK blocks that are told, RFC 2018, and what came twice, RFC 2883."""

from __future__ import annotations

from tests.stack.tcp.peer import Peer, Segment, peer
from tests.stack.tcp.receiving import MSS, established
from tunsmith.wire.tcp import TcpOptions


def blocks(segment: Segment, other: Peer) -> list[tuple[int, int]]:
    return [(left - other.isn, right - other.isn) for left, right in segment.options.sack]


# --- blocks ---


def test_the_block_that_grew_last_comes_first_then_those_before_it__rfc2018_4() -> None:
    other = established(sack=True)
    seen = [blocks(other.send(".", seq, bytes(10))[0], other) for seq in (101, 301, 201, 501, 311, 701)]
    assert seen == [
        [(101, 111)],
        [(301, 311), (101, 111)],
        [(201, 211), (301, 311), (101, 111)],
        [(501, 511), (201, 211), (301, 311), (101, 111)],
        [(301, 321), (501, 511), (201, 211), (101, 111)],
        [(701, 711), (301, 321), (501, 511), (201, 211)],
    ]


def test_three_blocks_fit_beside_a_timestamp() -> None:
    other = peer(sack=True, timestamps=True)
    other.stamp = 5
    other.establish(options=TcpOptions(mss=MSS, sack_permitted=True, timestamp=(5, 0)))
    for seq in (101, 301, 501):
        other.send(".", seq, bytes(10))
    (ack,) = other.send(".", 701, bytes(10))
    assert len(ack.options.sack) == 3
    assert ack.options.timestamp is not None


def test_no_blocks_for_a_peer_that_did_not_ask_or_when_we_will_not() -> None:
    for ours, theirs in ((True, False), (False, True)):
        other = peer(sack=ours)
        synack = other.knock(options=TcpOptions(mss=MSS, sack_permitted=theirs))
        assert not synack.options.sack_permitted
        other.send(".", 1)
        (ack,) = other.send(".", 101, bytes(10))
        assert ack.options.sack == ()


def test_no_blocks_once_the_gap_is_filled() -> None:
    other = established(sack=True)
    other.send(".", 11, bytes(10))
    (ack,) = other.send(".", 1, bytes(10))
    assert (ack.ack, ack.options.sack) == (21, ())


def test_what_comes_again_into_the_middle_of_an_island_changes_nothing() -> None:
    other = established(sack=True)
    text = bytes(number & 0xFF for number in range(9000))
    other.send(".", 2, text)
    (ack,) = other.send(".", 1002, bytes(5000))
    assert blocks(ack, other) == [(1002, 6002), (2, 9002)]
    other.send(".", 1, b"x")
    assert other.read() == b"x" + text


# --- what came twice: RFC 2883 ---


def test_text_that_came_twice_is_told_once_as_the_first_block__rfc2883_4() -> None:
    other = established(sack=True)
    other.send(".", 1, bytes(100))
    (ack,) = other.send(".", 1, bytes(100))
    assert (ack.ack, blocks(ack, other)) == (101, [(1, 101)])
    (ack,) = other.send(".", 201, bytes(100))
    assert blocks(ack, other) == [(201, 301)]


def test_text_that_came_twice_behind_a_hole_is_told_before_its_island__rfc2883_4() -> None:
    other = established(sack=True)
    other.send(".", 101, bytes(100))
    (ack,) = other.send(".", 151, bytes(100))
    assert blocks(ack, other) == [(151, 201), (101, 251)]


def test_only_the_part_that_came_twice_is_told__rfc2883_4() -> None:
    other = established(sack=True)
    other.send(".", 1, bytes(100))
    (ack,) = other.send(".", 51, bytes(100))
    assert (ack.ack, blocks(ack, other)) == (151, [(51, 101)])


def test_what_came_twice_is_not_told_where_that_is_switched_off() -> None:
    other = established(sack=True, dsack=False)
    other.send(".", 1, bytes(100))
    (ack,) = other.send(".", 1, bytes(100))
    assert blocks(ack, other) == []


def test_what_came_twice_is_not_told_to_a_peer_without_sack() -> None:
    other = established()
    other.send(".", 1, bytes(100))
    (ack,) = other.send(".", 1, bytes(100))
    assert blocks(ack, other) == []
