"""What is sent when: RFC 9293 §3.7.4, §3.8.6.2.1, RFC 6928."""

from __future__ import annotations

import errno

import pytest

from tests.stack.tcp.sending import MSS, brief, established
from tunsmith.errors import LocalError

# --- windows and buffers ---


def test_text_leaves_as_one_super_segment_of_whole_segments() -> None:
    other = established()
    (out,) = other.take(bytes(5 * MSS))
    assert (out.seq, len(out.data), out.gso_size) == (1, 5 * MSS, MSS)
    assert other.connection.sender.unsent == 5 * MSS


def test_a_full_segment_is_no_super_segment() -> None:
    other = established()
    assert [segment.gso_size for segment in other.take(bytes(MSS))] == [0]
    assert [segment.gso_size for segment in other.take(bytes(MSS + 1))] == [MSS]


def test_without_offload_it_leaves_as_segments() -> None:
    other = established(offload=False)
    assert brief(other.take(bytes(2 * MSS + 7))) == [(".", 1, MSS), (".", 1461, MSS), (".", 2921, 7)]


def test_nothing_is_sent_for_nothing() -> None:
    other = established()
    assert other.take(b"") == []
    assert other.stack.next_deadline() is None


def test_no_more_than_the_initial_window__rfc6928() -> None:
    other = established(initial_window=4)
    out = other.take(bytes(10 * MSS))
    assert sum(len(segment.data) for segment in out) == 4 * MSS
    (more,) = other.send(".", 1, ack=1 + 4 * MSS)
    assert (more.seq, len(more.data)) == (1 + 4 * MSS, 6 * MSS)


def test_no_more_than_the_peers_window() -> None:
    other = established(window=4000)
    assert brief(other.take(bytes(10_000))) == [(".", 1, 2 * MSS)]


def test_the_buffer_is_bounded_and_says_when_it_has_room() -> None:
    other = established(send_buffer=10_000, window=2000)
    assert other.connection.space == 10_000
    assert other.connection.send(bytes(15_000), other.now) == 10_000
    assert other.connection.send(b"x", other.now) == 0
    assert other.connection.space == 0
    other.answers()
    other.send(".", 1, ack=1 + MSS, window=2000)
    assert other.events() == []
    for acknowledged in (2 * MSS, 3 * MSS):
        other.send(".", 1, ack=1 + acknowledged, window=2000)
    assert other.events() == ["writable"]


@pytest.mark.parametrize("buffer", [1000, 50_000, 1 << 20, 1 << 22])
def test_what_there_is_room_for_is_taken_whole_and_its_lack_is_told(buffer: int) -> None:
    other = established(send_buffer=buffer)
    fetched = 0
    while room := other.connection.room():
        assert room <= other.connection.space
        assert other.connection.send(bytes(room), other.now) == room
        fetched += room
    assert fetched > buffer // 2
    assert other.connection.unacknowledged == fetched
    other.swallow()
    assert other.events() == ["writable"]
    assert other.connection.room() > 0


def test_who_can_still_send() -> None:
    other = established()
    before = other.connection.can_send
    other.send("F.", 1)
    half_closed = other.connection.can_send
    other.connection.shutdown(other.now)
    gone = established()
    gone.send("R", 1)
    after = (other.connection.can_send, gone.connection.can_send)
    assert (before, half_closed, after) == (True, True, (False, False))


def test_sending_after_shutdown_is_an_error() -> None:
    other = established()
    other.connection.shutdown(other.now)
    with pytest.raises(LocalError) as caught:
        other.connection.send(b"x", other.now)
    assert caught.value.errno == errno.EPIPE


def test_sending_on_a_connection_that_was_reset_says_so() -> None:
    other = established()
    other.send("R", 1)
    with pytest.raises(LocalError) as caught:
        other.connection.send(b"x", other.now)
    assert caught.value.errno == errno.ECONNRESET


def test_shutdown_twice_and_after_the_end_is_once() -> None:
    other = established()
    other.connection.shutdown(other.now)
    other.connection.shutdown(other.now)
    assert brief(other.answers()) == [("F.", 1, 0)]
    other.connection.abort(other.now)
    other.answers()
    other.connection.shutdown(other.now)
    other.connection.close(other.now)
    assert other.answers() == []


def test_fin_waits_for_the_text_before_it() -> None:
    other = established(window=2000)
    other.take(bytes(3000))
    other.connection.shutdown(other.now)
    assert other.answers() == []
    assert brief(other.send(".", 1, ack=1461, window=2000)) == [("F.", 1461, 1540)]


# --- silly windows and Nagle ---


def test_no_small_segment_into_a_silly_window__rfc9293_3_8_6_2_1() -> None:
    other = established(window=4000)
    other.take(bytes(10_000))
    other.send(".", 1, ack=1 + 2 * MSS, window=300)
    assert other.answers() == []


def test_the_override_timer_fills_a_silly_window_in_the_end() -> None:
    other = established(window=4000)
    other.take(bytes(10_000))
    other.send(".", 1, ack=1 + 2 * MSS, window=300)
    (probe,) = other.tick()
    assert (probe.seq, len(probe.data)) == (1 + 2 * MSS, 300)
    (more,) = other.send(".", 1, ack=1 + 2 * MSS + 300, window=4000)
    assert (more.seq, len(more.data)) == (1 + 2 * MSS + 300, 2 * MSS)


def test_half_of_the_largest_window_is_not_silly() -> None:
    other = established(window=1000)
    assert brief(other.take(bytes(5000))) == [(".", 1, 1000)]
    assert brief(other.send(".", 1, ack=1001, window=500)) == [(".", 1001, 500)]
    assert brief(other.send(".", 1, ack=1501, window=499)) == []


def test_nagle_holds_a_small_segment_while_others_are_unacknowledged__rfc9293_3_7_4() -> None:
    other = established(no_delay=False)
    assert brief(other.take(b"a")) == [(".", 1, 1)]
    assert other.take(b"b") == []
    assert other.take(b"c") == []
    assert brief(other.send(".", 1, ack=2)) == [(".", 2, 2)]


def test_nagle_does_not_hold_more_than_a_segment() -> None:
    other = established(no_delay=False)
    other.take(b"a")
    (out,) = other.take(bytes(MSS))
    assert len(out.data) == MSS


def test_text_said_to_be_the_last_carries_the_fin() -> None:
    other = established()
    assert other.connection.send(b"text", other.now, end=True) == 4
    assert brief(other.answers()) == [("F.", 1, 4)]
    assert other.state == "FIN-WAIT-1"
    assert not other.connection.can_send
    other.send(".", 1, ack=6)
    assert other.state == "FIN-WAIT-2"


def test_nothing_said_to_be_the_last_is_a_shutdown() -> None:
    other = established()
    assert other.connection.send(b"", other.now, end=True) == 0
    assert brief(other.answers()) == [("F.", 1, 0)]


def test_text_said_to_be_the_last_that_finds_no_room_is_not_the_last() -> None:
    other = established(send_buffer=4000, window=65535)
    assert other.connection.send(bytes(5000), other.now, end=True) == 4000
    assert all("F" not in segment.flags for segment in other.answers())
    assert other.connection.can_send
    other.send(".", 1, ack=4001)
    assert other.connection.send(bytes(1000), other.now, end=True) == 1000
    assert brief(other.answers()) == [("F.", 4001, 1000)]


def test_only_the_last_piece_of_a_super_segment_sent_again_carries_the_fin() -> None:
    other = established()
    other.connection.send(bytes(4000), other.now, end=True)
    assert brief(other.answers()) == [("F.", 1, 4000)]
    again = [segment for _ in range(3) for segment in other.send(".", 1, ack=1)]
    assert brief(again) == [(".", 1, 1460)]
    other.send(".", 1, ack=2921)
    assert brief(other.tick()) == [("F.", 2921, 1080)]
    other.send(".", 1, ack=4002)
    assert other.state == "FIN-WAIT-2"


def test_nagle_holds_nothing_once_we_close() -> None:
    other = established(no_delay=False)
    other.take(b"a")
    other.take(b"b")
    other.connection.shutdown(other.now)
    assert brief(other.answers()) == [("F.", 2, 1)]
