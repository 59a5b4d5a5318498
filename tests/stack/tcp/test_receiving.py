"""What is taken, told and acknowledged: RFC 9293 §3.8.6, RFC 5681 §4.2, RFC 2018, RFC 7323."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.stack.tcp.peer import Peer, Segment, peer
from tunsmith.stack.events import Closed
from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.islands import MAX_PIECES
from tunsmith.wire.tcp import TcpOptions

MSS = 1460


def established(**settings: Any) -> Peer:
    other = peer(**settings)
    options = TcpOptions(
        mss=MSS,
        sack_permitted=bool(settings.get("sack")),
        window_scale=settings.pop("peer_scale", 7) if settings.get("window_scaling") else None,
    )
    other.establish(options=options)
    return other


# --- acknowledging ---


def test_the_first_segment_is_acknowledged_after_a_while__rfc9293_3_8_6_3() -> None:
    other = established()
    assert other.send(".", 1, bytes(MSS)) == []
    (ack,) = other.wait(0.04)
    assert ack.brief == (".", 1, 1 + MSS, 0)
    assert other.stack.next_deadline() is None


def test_every_second_full_segment_is_acknowledged_at_once__rfc5681_4_2() -> None:
    other = established()
    assert other.send(".", 1, bytes(MSS)) == []
    (ack,) = other.send(".", 1 + MSS, bytes(MSS))
    assert ack.ack == 1 + 2 * MSS
    assert other.send(".", 1 + 2 * MSS, bytes(MSS)) == []


def test_what_fills_half_the_buffer_is_acknowledged_at_once() -> None:
    """The peer could not send two full segments before it hears of the first."""
    other = established(receive_buffer=2 * MSS)
    (ack,) = other.send(".", 1, bytes(MSS))
    assert ack.ack == 1 + MSS
    assert other.send(".", 1 + MSS, bytes(MSS - 1)) == []


def test_text_that_leaves_carries_the_acknowledgment() -> None:
    other = established()
    other.send(".", 1, b"question")
    (answer,) = other.take(b"answer")
    assert answer.ack == 9
    assert other.connection.receiver.unacked == 0


def test_in_a_batch_one_ack_is_enough() -> None:
    other = established()
    with other.stack.batch(other.now):
        for number in range(6):
            assert other.send(".", 1 + number * MSS, bytes(MSS)) == []
    (ack,) = other.answers()
    assert ack.ack == 1 + 6 * MSS
    other.send(".", 1 + 6 * MSS, bytes(MSS))
    assert len(other.send(".", 1 + 7 * MSS, bytes(MSS))) == 1


def test_a_batch_that_brought_no_text_is_not_acknowledged() -> None:
    other = established()
    with other.stack.batch(other.now):
        other.send(".", 1)
    assert other.answers() == []


def test_a_connection_that_ends_in_a_batch_acknowledges_no_more() -> None:
    other = established()
    with other.stack.batch(other.now):
        other.send(".", 1, bytes(MSS))
        other.send(".", 1 + MSS, bytes(MSS))
        other.send("R", 1 + 2 * MSS)
    assert other.answers() == []


def test_a_gap_is_told_at_once_and_so_is_its_filling() -> None:
    other = established()
    (gap,) = other.send(".", 101, bytes(100))
    assert gap.ack == 1
    (filled,) = other.send(".", 1, bytes(100))
    assert filled.ack == 201
    assert other.read() == bytes(200)


def test_a_duplicate_is_acknowledged_at_once() -> None:
    other = established()
    other.send(".", 1, b"once")
    (ack,) = other.send(".", 1, b"once")
    assert ack.ack == 5
    assert other.read() == b"once"


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


# --- windows ---


def test_text_beyond_the_window_is_cut() -> None:
    other = established(receive_buffer=1000)
    other.send(".", 1, bytes(1500))
    assert other.connection.readable_bytes == 1000


def test_a_fin_beyond_the_window_is_not_here_yet() -> None:
    other = established(receive_buffer=1000)
    other.send("F.", 1, bytes(1001))
    assert other.state == "ESTABLISHED"


def test_a_fin_right_behind_text_that_fills_the_window_is_taken() -> None:
    other = established(receive_buffer=1000)
    other.send("F.", 1, bytes(1000))
    assert other.state == "CLOSE-WAIT"


def test_the_ack_of_a_segment_beyond_the_window_does_not_count() -> None:
    other = established(receive_buffer=1000)
    other.take(b"text")
    other.send(".", 1001, bytes(1000), ack=5)
    assert other.connection.sender.unsent == 4


def test_a_segment_beyond_the_window_is_refused() -> None:
    other = established(receive_buffer=1000)
    (ack,) = other.send(".", 1001, b"too far")
    assert ack.brief == (".", 1, 1, 0)
    assert other.connection.receiver.islands is None


def test_a_full_buffer_closes_the_window_and_reading_opens_it_once_it_is_worth_it() -> None:
    other = established(receive_buffer=4 * MSS)
    other.send(".", 1, bytes(2 * MSS))
    (full,) = other.send(".", 1 + 2 * MSS, bytes(2 * MSS))
    assert full.window == 0
    assert len(other.read(MSS - 1)) == MSS - 1
    assert other.answers() == []
    other.read(1)
    (opened,) = other.answers()
    assert opened.window == MSS


def test_a_probe_of_a_closed_window_is_answered_and_not_taken() -> None:
    other = established(receive_buffer=MSS)
    other.send(".", 1, bytes(MSS))
    other.wait(0.1)
    (ack,) = other.send(".", 1 + MSS, b"?")
    assert ack.brief == (".", 1, 1 + MSS, 0)
    assert ack.window == 0
    assert other.connection.readable_bytes == MSS


def test_a_closed_window_still_takes_acks_and_resets() -> None:
    other = established(receive_buffer=MSS)
    other.send(".", 1, bytes(MSS))
    other.take(b"text")
    other.send(".", 1 + MSS, b"?", ack=5)
    assert other.connection.sender.unsent == 0
    other.send("R", 1 + MSS)
    assert f"closed {errno.ECONNRESET}" in other.events()


def test_the_window_never_shrinks__rfc9293_3_8_6() -> None:
    other = established(receive_buffer=10_000)
    edge = 0
    seq = 1
    for size in (100, 1, 1460, 700, 3, 1460, 1460, 2000):
        answers = other.send(".", seq, bytes(size)) + other.wait(0.1)
        seq += size
        for segment in answers:
            assert segment.ack + segment.window >= edge
            edge = segment.ack + segment.window
    assert edge == 10_001


def test_text_behind_a_gap_does_not_take_back_the_edge() -> None:
    other = established(receive_buffer=10_000)
    (first,) = other.send(".", 5001, bytes(1000))
    assert first.ack + first.window == 10_001
    other.send(".", 1, bytes(100))
    (second,) = other.wait(0.1) or other.send(".", 5001, bytes(1000))
    assert second.ack + second.window == 10_001


def test_the_edge_moves_in_useful_steps__rfc9293_3_8_6_2_2() -> None:
    other = established(receive_buffer=4 * MSS)
    other.send(".", 1, bytes(2 * MSS))
    other.send(".", 1 + 2 * MSS, bytes(2 * MSS))
    other.read(MSS - 1)
    (answer,) = other.send(".", 1 + 4 * MSS, b"?")
    assert answer.window == 0
    other.read(1)
    other.answers()
    (answer,) = other.send(".", 1, b"old")
    assert answer.window == MSS


def test_a_small_read_is_not_worth_telling() -> None:
    other = established(receive_buffer=100_000)
    for number in range(20):
        other.send(".", 1 + number * MSS, bytes(MSS))
    other.answers()
    other.read(5000)
    assert other.answers() == []
    other.read(20_000)
    assert len(other.answers()) == 1


def test_a_tiny_buffer_is_told_in_steps_that_move_the_edge() -> None:
    other = established(receive_buffer=2000)
    other.send(".", 1, bytes(1500))
    other.wait(0.1)
    for _ in range(3):
        other.read(300)
        assert other.answers() == []
    other.read(200)
    (opened,) = other.answers()
    assert opened.ack + opened.window == 1501 + 1600


def test_peeking_takes_nothing() -> None:
    other = established()
    other.send(".", 1, b"abc")
    other.send(".", 4, b"def")
    connection = other.connection
    assert connection.read(2, other.now, peek=True) == b"ab"
    assert connection.read(5, other.now, peek=True) == b"abcde"
    assert connection.readable_bytes == 6
    assert connection.read(4, other.now) == b"abcd"
    assert connection.read(10, other.now) == b"ef"
    assert connection.read(10, other.now) == b""


def test_peeking_into_the_first_of_many_pieces_looks_at_no_other() -> None:
    class Sealed(bytes):
        def __getitem__(self, key: object) -> bytes:  # type: ignore[override]
            raise AssertionError("looked at")

    other = established()
    for at, letter in enumerate((b"a", b"b", b"c")):
        other.send(".", 1 + 3000 * at, letter * 3000)
    connection = other.connection
    pieces = connection.receiver.ready
    second, pieces[1] = pieces[1], Sealed(pieces[1])
    assert connection.read(10, other.now, peek=True) == b"a" * 10
    pieces[1] = second
    assert connection.read(3001, other.now, peek=True) == b"a" * 3000 + b"b"
    assert connection.read(10_000, other.now) == b"a" * 3000 + b"b" * 3000 + b"c" * 3000


# --- the owner takes text at once ---


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


# --- closing with text around ---


def test_closing_with_unread_text_resets__rfc9293_3_10_4() -> None:
    other = established()
    other.send(".", 1, b"unread")
    other.connection.close(other.now)
    assert [segment.flags for segment in other.answers()] == ["R."]
    assert other.events() == ["readable", f"closed {errno.ECONNABORTED}"]


def test_text_after_close_resets() -> None:
    other = established()
    other.connection.close(other.now)
    other.answers()
    (reset,) = other.send(".", 1, b"text", ack=2)
    assert reset.flags == "R."
    assert other.events() == [f"closed {errno.ECONNRESET}"]


def test_text_that_was_taken_before_close_may_come_again() -> None:
    other = established()
    other.send(".", 1, b"text")
    other.read()
    other.connection.close(other.now)
    other.answers()
    (ack,) = other.send("F.", 1, b"text", ack=2)
    assert ack.brief == (".", 2, 6, 0)
    assert "closed 0" in other.events()


def test_after_close_the_peer_has_a_while_to_close_too() -> None:
    other = established(fin_wait_2=30.0)
    other.connection.close(other.now)
    other.answers()
    other.send(".", 1, ack=2)
    assert other.state == "FIN-WAIT-2"
    assert other.stack.next_deadline() == other.now + 30.0
    other.wait(30.0)
    assert other.events() == ["closed 0"]
    assert not other.stack.connections


def test_closing_in_fin_wait_2_begins_the_while() -> None:
    other = established(fin_wait_2=30.0)
    other.connection.shutdown(other.now)
    other.answers()
    other.send(".", 1, ack=2)
    assert other.stack.next_deadline() is None
    other.connection.close(other.now)
    assert other.stack.next_deadline() == other.now + 30.0


def test_a_half_closed_connection_goes_on_for_ever() -> None:
    other = established()
    other.connection.shutdown(other.now)
    other.answers()
    other.send(".", 1, ack=2)
    other.wait(1e6)
    other.send(".", 1, b"still", ack=2)
    assert other.read() == b"still"


def test_a_connection_that_is_over_can_still_be_read() -> None:
    other = established()
    other.send("F.", 1, b"last words")
    other.connection.shutdown(other.now)
    other.send(".", 12, ack=2)
    assert other.state == "CLOSED"
    assert not other.connection.at_end
    assert other.read() == b"last words"
    assert other.connection.at_end


# --- FIN and gaps ---


def test_a_fin_behind_a_gap_waits_for_the_text() -> None:
    other = established()
    (gap,) = other.send("F.", 5, b"efgh")
    assert gap.ack == 1
    assert other.state == "ESTABLISHED"
    other.send(".", 1, b"abcd")
    assert other.events() == ["readable", "fin"]
    assert other.read() == b"abcdefgh"
    assert other.state == "CLOSE-WAIT"


def test_text_and_fin_that_fill_the_gap_before_a_fin_known_already() -> None:
    other = established()
    other.send("F.", 5, b"efgh")
    answers = other.send("F.", 1, b"abcdefgh")
    assert [answer.ack for answer in answers][-1] == 10
    assert other.state == "CLOSE-WAIT"


def test_text_beyond_the_fin_is_none() -> None:
    other = established()
    other.send("F.", 5)
    other.send(".", 6, b"beyond")
    other.send(".", 1, b"abcdefgh")
    assert other.read() == b"abcd"
    assert other.state == "CLOSE-WAIT"


def test_a_fin_in_front_of_text_that_was_taken_is_nothing() -> None:
    other = established()
    other.send(".", 5, b"efgh")
    other.send("F.", 1, b"abcd")
    assert other.read() == b"abcdefgh"
    assert other.state == "ESTABLISHED"


def test_the_first_fin_counts() -> None:
    other = established()
    other.send("F.", 5)
    other.send("F.", 9)
    other.send(".", 1, b"abcd")
    assert other.state == "CLOSE-WAIT"


# --- SACK, RFC 2018 ---


def blocks(segment: Segment, other: Peer) -> list[tuple[int, int]]:
    return [(left - other.isn, right - other.isn) for left, right in segment.options.sack]


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


# --- options of the handshake ---


@pytest.mark.parametrize("theirs", [536, 1000, 1460, 9000])
def test_segments_are_no_longer_than_either_side_allows(theirs: int) -> None:
    other = peer()
    synack = other.knock(options=TcpOptions(mss=theirs))
    assert synack.options.mss == MSS
    other.send(".", 1)
    assert other.take(bytes(20_000))[0].gso_size == min(theirs, MSS)


def test_without_an_mss_option_it_is_536__rfc9293_3_7_1() -> None:
    other = peer()
    other.knock(options=TcpOptions())
    assert other.connection.sender.mss == 536


def test_an_absurd_mss_is_no_denial_of_service() -> None:
    other = peer()
    other.knock(options=TcpOptions(mss=1))
    assert other.connection.sender.mss == 32


def test_timestamps_come_out_of_the_segment() -> None:
    other = peer(timestamps=True)
    other.stamp = 1
    other.establish()
    assert other.connection.sender.mss == MSS - 12


def test_the_window_of_a_syn_is_never_scaled__rfc7323_2_2() -> None:
    other = peer(window_scaling=True, receive_buffer=1 << 20)
    synack = other.knock(window=500, options=TcpOptions(mss=MSS, window_scale=7))
    assert synack.options.window_scale == 4
    assert synack.window == 65535
    other.send(".", 1, window=500)
    assert other.connection.sender.snd_wnd == 500 << 7
    (ack,) = other.send(".", 500, b"gap")
    assert ack.window == 65535


def test_the_window_of_the_answer_to_our_syn_is_not_scaled_either() -> None:
    other = peer(window_scaling=True)
    other.open()
    other.send("S.", 0, window=500, options=TcpOptions(mss=MSS, window_scale=7))
    assert other.connection.sender.snd_wnd == 500
    other.send(".", 1, b"x", window=500)
    assert other.connection.sender.snd_wnd == 500 << 7


def test_no_scaling_unless_both_want_it() -> None:
    for ours, theirs in ((True, None), (False, 7)):
        other = peer(window_scaling=ours, receive_buffer=1 << 20)
        synack = other.knock(options=TcpOptions(mss=MSS, window_scale=theirs))
        assert synack.options.window_scale is None
        other.send(".", 1, window=500)
        assert other.connection.sender.snd_wnd == 500
        (ack,) = other.send(".", 500, b"gap")
        assert ack.window == 65535


@pytest.mark.parametrize(
    ("buffer", "scale"), [(1000, 0), (65535, 0), (65536, 0), (65537, 1), (1 << 20, 4), (1 << 22, 6)]
)
def test_the_scale_is_the_least_that_tells_the_buffer(buffer: int, scale: int) -> None:
    other = peer(window_scaling=True, receive_buffer=buffer)
    assert other.open().options.window_scale == scale


# --- timestamps, RFC 7323 ---


def stamped() -> Peer:
    other = peer(timestamps=True)
    other.stamp = 100
    other.establish()
    return other


def echoed(segment: Segment) -> int:
    assert segment.options.timestamp is not None
    return segment.options.timestamp[1]


def test_an_older_timestamp_is_refused_with_an_ack__rfc7323_5_3() -> None:
    other = stamped()
    other.stamp = 200
    other.send(".", 1, b"new")
    other.wait(0.1)
    other.stamp = 150
    (ack,) = other.send(".", 4, b"old duplicate")
    assert (ack.ack, echoed(ack)) == (4, 200)
    (ack,) = other.send(".", 500, b"old duplicate")
    assert echoed(ack) == 200
    assert other.connection.readable_bytes == 3


def test_timestamps_wrap() -> None:
    other = peer(timestamps=True)
    other.stamp = 0xFFFFFFF0
    other.establish()
    other.stamp = 5
    other.send(".", 1, b"after the wrap")
    assert other.read() == b"after the wrap"


def test_an_old_timestamp_does_not_save_from_a_reset() -> None:
    other = stamped()
    other.stamp = 50
    other.send("R", 1)
    assert not other.stack.connections


def test_a_segment_without_the_timestamp_is_dropped__rfc7323_3_2() -> None:
    other = stamped()
    assert other.send(".", 1, b"naked", options=TcpOptions()) == []
    assert other.connection.readable_bytes == 0
    assert other.stack.drops["tcp_without_timestamp"] == 1


def test_a_timestamp_nobody_asked_for_is_ignored() -> None:
    other = established()
    other.stamp = 7
    other.send(".", 1, b"text")
    assert other.read() == b"text"


def test_the_echo_is_that_of_the_segment_the_ack_waits_for__rfc7323_4_3() -> None:
    other = stamped()
    other.stamp = 101
    other.send(".", 1, bytes(1448))
    other.stamp = 102
    (ack,) = other.send(".", 1449, bytes(1448))
    assert echoed(ack) == 101
    other.stamp = 103
    other.send(".", 2897, b"x")
    (ack,) = other.wait(0.1)
    assert echoed(ack) == 103


def test_the_echo_is_that_of_the_first_in_other_states_as_well() -> None:
    other = stamped()
    other.connection.shutdown(other.now)
    other.answers()
    other.stamp = 101
    other.send(".", 1, b"one", ack=2)
    other.stamp = 102
    other.send(".", 4, b"two", ack=2)
    (ack,) = other.wait(0.1)
    assert (ack.ack, echoed(ack)) == (7, 101)


def test_the_echo_is_that_of_the_segment_that_fills_the_gap__rfc7323_4_3() -> None:
    other = stamped()
    other.stamp = 101
    (ack,) = other.send(".", 11, bytes(10))
    assert echoed(ack) == 100
    other.stamp = 102
    (ack,) = other.send(".", 1, bytes(10))
    assert echoed(ack) == 102


def test_the_clock_ticks_in_milliseconds__rfc7323_5_4() -> None:
    other = stamped()
    (first,) = other.send(".", 500, b"gap")
    other.now += 2.5
    other.stamp = 101
    (second,) = other.send(".", 500, b"gap")
    assert first.options.timestamp is not None
    assert second.options.timestamp is not None
    assert second.options.timestamp[0] - first.options.timestamp[0] == 2500


def test_options_in_another_order_are_understood() -> None:
    other = stamped()
    raw = b"\x08\x0a" + (101).to_bytes(4, "big") + bytes(4) + b"\x01\x01"
    other.send(".", 1, b"text", raw_options=raw)
    assert other.read() == b"text"


# --- bounds ---


def test_challenges_are_bounded__rfc5961_7() -> None:
    other = established(challenge_ack_rate=3.0)
    assert sum(len(other.send("S", 1)) for _ in range(20)) == 3
    assert other.stack.drops["tcp_challenged"] == 20
    other.now += 0.9
    assert other.send("S", 1) == []
    other.now += 0.1
    assert len(other.send("S", 1)) == 1


def test_nobody_can_count_the_challenges_of_others() -> None:
    """CVE-2016-5696: with a limit that is known, one's own answers tell how many went elsewhere."""
    other = established(challenge_ack_rate=100.0)
    seen = set()
    for _ in range(20):
        seen.add(sum(len(other.send("S", 1)) for _ in range(200)))
        other.now += 1.0
    assert min(seen) >= 100
    assert max(seen) <= 125
    assert len(seen) > 5


def test_a_reset_counts_by_its_number_alone_whatever_it_carries__rfc9293_3_10_7_4() -> None:
    other = established(receive_buffer=100)
    assert other.send("R", -3, b"overlaps") == []
    assert other.stack.drops["rst_outside_window"] == 1
    other.send(".", 1, bytes(100))
    assert other.connection.receiver.window() == 0
    other.send("R", 101, b"why")
    assert other.events()[-1] == f"closed {errno.ECONNRESET}"


HALF_A_TURN = (1 << 31) / 1000
"""Of our timestamp clock, in seconds: 24.8 days."""


@pytest.mark.parametrize("flags", [".", "U."])
def test_a_timestamp_is_not_believed_for_ever__rfc7323_5_5(flags: str) -> None:
    other = peer(timestamps=True)
    other.stamp = 1000
    synack = other.knock()
    assert synack.options.timestamp is not None
    other.echo = synack.options.timestamp[0]
    other.send(".", 1)
    other.now += HALF_A_TURN - 1.0
    other.stamp = 999
    other.send(flags, 1, b"too early")
    assert other.connection.readable_bytes == 0
    other.now += 1.0
    other.send(flags, 1, b"text")
    assert other.read() == b"text"


def test_empty_segments_out_of_the_window_are_answered_at_a_bounded_rate() -> None:
    other = established(refusal_rate=5.0)
    assert sum(len(other.send(".", -100)) for _ in range(20)) == 5
    assert sum(len(other.send(".", -100, b"old text")) for _ in range(20)) == 20


@pytest.mark.parametrize("data", [b"", b"x"])
def test_a_keepalive_is_answered__rfc9293_3_8_4(data: bytes) -> None:
    other = established()
    other.send(".", 1, b"text")
    other.wait(1.0)
    (ack,) = other.send(".", 4, data)
    assert ack.brief == (".", 1, 5, 0)


def test_two_ends_that_disagree_do_not_answer_each_other_for_ever() -> None:
    left, right = peer(refusal_rate=100.0).stack, peer(refusal_rate=100.0).stack
    stacks = (left, right)
    one = left.connect(b"\x0a\0\0\x01", 1, b"\x0a\0\0\x02", 2, 1.0)
    two = right.connect(b"\x0a\0\0\x02", 2, b"\x0a\0\0\x01", 1, 1.0)
    assert one is not None
    assert two is not None
    answers = 0
    for _ in range(10):
        for here, there in (stacks, stacks[::-1]):
            for frame in list(here.frames_to_send()):
                there.receive(frame[10:], 1.0, vnet=frame[:10])
    assert one.state.value == two.state.value == "ESTABLISHED"
    one.sender.snd_nxt = one.sender.snd_max = one.sender.snd_una = one.sender.snd_una + 5_000_000
    one.send_ack(1.0)
    for _ in range(1000):
        for here, there in (stacks, stacks[::-1]):
            for frame in list(here.frames_to_send()):
                answers += 1
                there.receive(frame[10:], 1.0, vnet=frame[:10])
    assert answers < 500
    assert not any(isinstance(event, Closed) for event in (*left.queue.events, *right.queue.events))
