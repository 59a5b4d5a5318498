"""The peer's window: closed and probed for, RFC 9293 §3.8.6.1, and which segments tell it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.stack.tcp.peer import Peer
from tests.stack.tcp.sending import MSS, brief, established

# --- zero window, RFC 9293 §3.8.6.1 ---


def closed_window(**settings: Any) -> Peer:
    """Text waits behind a window that the peer has closed."""
    other = established(**settings)
    other.take(b"a" * 100)
    other.send(".", 1, ack=101, window=0)
    assert other.take(b"waiting") == []
    return other


def test_a_closed_window_is_probed_with_one_byte_ever_less_often() -> None:
    other = closed_window(max_rto=1.5)
    begin, gaps = other.now, []
    for _ in range(5):
        due = other.stack.next_deadline()
        assert due is not None
        gaps.append(due - begin)
        (probe,) = other.wait(due - other.now)
        assert (probe.seq, probe.data) == (101, b"w")
        assert other.send(".", 1, ack=101, window=0) == []
        begin = due
    assert gaps == pytest.approx([gaps[0], 2 * gaps[0], 4 * gaps[0], 1.5, 1.5], rel=0.01)


def test_a_peer_that_answers_is_probed_for_ever() -> None:
    other = closed_window(retries=3)
    for _ in range(50):
        assert len(other.tick()) == 1
        other.send(".", 1, ack=101, window=0)
    assert other.state == "ESTABLISHED"


def test_a_peer_that_is_silent_is_given_up() -> None:
    other = closed_window(retries=3)
    assert len(other.wait(1000.0)) == 3
    assert other.events() == [f"closed {errno.ETIMEDOUT}"]


def test_a_closed_connection_does_not_probe_for_ever() -> None:
    other = closed_window(retries=3)
    other.connection.close(other.now)
    for _ in range(4):
        other.tick()
        other.send(".", 1, ack=101, window=0)
    assert f"closed {errno.ETIMEDOUT}" in other.events()


def test_an_opened_window_ends_the_probing() -> None:
    other = closed_window()
    other.tick()
    (text,) = other.send(".", 1, ack=101, window=1000)
    assert (text.seq, text.data) == (101, b"waiting")
    other.send(".", 1, ack=108, window=1000)
    assert other.stack.next_deadline() is None


def test_a_probe_may_be_taken() -> None:
    other = closed_window()
    other.tick()
    assert other.send(".", 1, ack=102, window=0) == []
    (probe,) = other.tick()
    assert (probe.seq, probe.data) == (102, b"a")
    (text,) = other.send(".", 1, ack=103, window=100)
    assert (text.seq, text.data) == (103, b"iting")


def test_a_probe_of_the_last_byte_may_be_taken_and_nothing_is_left_to_ask() -> None:
    other = established()
    other.take(b"a" * 100)
    other.send(".", 1, ack=101, window=0)
    assert other.take(b"z") == []
    (probe,) = other.tick()
    assert (probe.seq, probe.data) == (101, b"z")
    assert other.send(".", 1, ack=102, window=0) == []
    assert other.connection.unacknowledged == 0
    assert other.wait(600.0) == []
    assert other.stack.next_deadline() is None
    (text,) = other.send(".", 1, ack=102, window=10) or other.take(b"more")
    assert (text.seq, text.data) == (102, b"more")


def test_a_fin_behind_a_closed_window_is_probed_like_text() -> None:
    other = established(retries=3)
    other.take(b"a" * 100)
    other.send(".", 1, ack=101, window=0)
    other.connection.shutdown(other.now)
    assert other.answers() == []
    for _ in range(20):
        assert brief(other.tick()) == [("F.", 101, 0)]
        other.send(".", 1, ack=101, window=0)
    assert other.state == "FIN-WAIT-1"
    assert brief(other.send(".", 1, ack=101, window=100)) == [("F.", 101, 0)]
    other.send(".", 1, ack=102)
    assert other.state == "FIN-WAIT-2"


def test_a_fin_that_was_taken_as_a_probe_is_acknowledged() -> None:
    other = established()
    other.take(b"a" * 100)
    other.send(".", 1, ack=101, window=0)
    other.connection.shutdown(other.now)
    other.wait(1.0)
    other.send(".", 1, ack=102, window=0)
    assert other.state == "FIN-WAIT-2"


def test_a_window_closed_over_what_is_in_flight_turns_timeouts_into_probes() -> None:
    other = established(window=4000)
    other.take(bytes(2000))
    other.send(".", 1, window=0)  # the peer shrinks its window
    (probe,) = other.tick()
    assert (probe.seq, len(probe.data)) == (1, 1)
    (text,) = other.send(".", 1, window=4000)
    assert (text.seq, len(text.data)) == (1, MSS)


def test_acks_next_to_a_probe_are_numbered_where_the_peer_accepts_them() -> None:
    other = closed_window()
    other.tick()
    (ack,) = other.send(".", 3, b"out of order", window=0, ack=101)
    assert ack.seq == 101


# --- windows told ---


def test_an_older_segment_does_not_change_the_window__rfc9293_3_10_7_4() -> None:
    other = established(window=5000)
    other.send(".", 1, b"12345", window=4500)
    other.send(".", 6, b"678", window=4000)
    sender = other.connection.sender
    assert sender.snd_wnd == 4000
    other.send(".", 1, b"123456789", window=9000)  # sent before the last, whatever its end
    assert sender.snd_wnd == 4000


def test_a_segment_with_an_older_ack_does_not_change_the_window() -> None:
    other = established(window=5000)
    other.take(bytes(100))
    other.send(".", 1, ack=101, window=3000)
    other.send(".", 1, b"later text", ack=51, window=5000)
    assert other.connection.sender.snd_wnd == 3000


def test_an_ack_in_a_segment_that_is_refused_still_makes_room() -> None:
    other = established(send_buffer=1000, window=1000)
    other.connection.send(bytes(1000), other.now)
    assert other.connection.send(b"more", other.now) == 0
    other.answers()
    other.send(".", -4, b"old", ack=1001)
    assert other.events() == ["writable"]


def test_an_ack_in_a_segment_that_is_refused_lets_text_out() -> None:
    other = established(window=1000)
    other.take(bytes(1500))
    sent = other.send(".", -4, b"old", ack=1001)
    assert (".", 1001, 500) in brief(sent)
