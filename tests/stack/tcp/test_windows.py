"""The window that is told, and what lies outside of it: RFC 9293 §3.8.6."""

from __future__ import annotations

import errno

from tests.stack.tcp.receiving import MSS, established


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
