"""What is sent, when, and again after a timeout: RFC 9293 §3.8, RFC 6298, RFC 5681."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.stack.tcp.peer import Peer, Segment, peer
from tunsmith.errors import LocalError
from tunsmith.wire.tcp import TcpOptions

MSS = 1460


def established(**settings: Any) -> Peer:
    """With an RTT of 0.1 s measured on the handshake, so an RTO of 0.3 s."""
    window = settings.pop("window", 65535)
    other = peer(**settings)
    other.window = window
    other.knock()
    other.now += 0.1
    assert other.send(".", 1) == []
    other.events()
    assert other.connection.sender.rtt.rto == pytest.approx(0.3)
    return other


def brief(segments: list[Segment]) -> list[tuple[str, int, int]]:
    """Flags, seq and length of each."""
    return [(segment.flags, segment.seq, len(segment.data)) for segment in segments]


# --- sending ---


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


# --- the retransmission timer, RFC 6298 ---


def test_the_handshake_is_the_first_sample() -> None:
    other = established()
    rtt = other.connection.sender.rtt
    assert rtt.srtt == pytest.approx(0.1)
    assert rtt.rttvar == pytest.approx(0.05)


def test_a_handshake_that_was_repeated_is_no_sample_and_costs_the_initial_window() -> None:
    other = peer()
    other.knock()
    (again,) = other.wait(1.0)
    assert again.brief == ("S.", 0, 1, 0)
    other.send(".", 1)
    sender = other.connection.sender
    assert sender.rtt.srtt is None
    assert sender.rtt.rto == 3.0
    assert sender.cc.cwnd == MSS


def test_a_syn_ack_asked_for_again_is_no_sample() -> None:
    other = peer()
    other.knock()
    other.now += 0.5
    other.send("S", 0)
    other.send(".", 1)
    assert other.connection.sender.rtt.srtt is None


def test_what_is_not_acknowledged_is_sent_again_one_segment_at_a_time() -> None:
    other = established(congestion="reno")
    other.take(bytes(5 * MSS))
    assert other.stack.next_deadline() == pytest.approx(other.now + 0.3)
    (again,) = other.tick()
    assert (again.seq, len(again.data)) == (1, MSS)
    sender = other.connection.sender
    assert (sender.retransmits, sender.cc.ssthresh, sender.cc.cwnd) == (1, 5 * MSS // 2, MSS)
    assert brief(other.send(".", 1, ack=1 + MSS)) == [(".", 1 + MSS, 2 * MSS)]


def test_the_timer_doubles_and_stops_at_its_bound() -> None:
    other = established(max_rto=2.0)
    begin = other.now
    other.take(b"text")
    gaps = []
    for _ in range(5):
        due = other.stack.next_deadline()
        assert due is not None
        gaps.append(round(due - begin, 6))
        begin = due
        other.wait(due - other.now)
    assert gaps == pytest.approx([0.3, 0.6, 1.2, 2.0, 2.0])


def test_retries_end_in_a_timeout() -> None:
    other = established(retries=3, max_rto=1.0)
    other.take(b"text")
    assert len(other.wait(100.0)) == 3
    assert other.events() == [f"closed {errno.ETIMEDOUT}"]
    assert other.stack.next_deadline() is None
    assert not other.stack.connections


def test_progress_forgives_the_timeouts_before_it() -> None:
    other = established(retries=3)
    for number in range(6):
        other.take(b"x")
        other.wait(2 * other.connection.sender.rtt.rto)
        other.send(".", 1, ack=2 + number)
    assert other.state == "ESTABLISHED"


@pytest.mark.parametrize(("setting", "opening"), [("synack_retries", "passive"), ("syn_retries", "active")])
def test_an_opening_that_nobody_answers_times_out(setting: str, opening: str) -> None:
    other = peer(**{setting: 2})
    if opening == "active":
        other.open()
    else:
        other.knock()
    assert len(other.wait(100.0)) == 2
    assert other.events() == [f"closed {errno.ETIMEDOUT}"]


def test_karn_an_answer_to_a_retransmission_is_no_sample() -> None:
    other = established()
    other.take(b"text")
    other.tick()
    other.now += 0.2
    other.send(".", 1, ack=5)
    rtt = other.connection.sender.rtt
    assert rtt.srtt == pytest.approx(0.1)
    assert rtt.rto == pytest.approx(0.6)  # still backed off: RFC 6298 §5 (5.7)
    other.take(b"more")
    other.now += 0.1
    other.send(".", 1, ack=9)
    assert rtt.rto < 0.6


def test_karn_what_arrived_before_a_hole_was_filled_is_no_sample_either() -> None:
    other = established()
    other.take(bytes(2 * MSS))
    other.take(bytes(MSS))
    other.tick()
    other.now += 0.1
    other.send(".", 1, ack=1 + 3 * MSS)
    assert other.connection.sender.rtt.srtt == pytest.approx(0.1)


def stamped(**settings: Any) -> Peer:
    other = peer(timestamps=True, **settings)
    other.stamp = 1
    synack = other.knock()
    assert synack.options.timestamp is not None
    other.now += 0.1
    other.stamp, other.echo = 2, synack.options.timestamp[0]
    other.send(".", 1)
    other.events()
    return other


def test_a_timestamp_tells_which_transmission_was_acknowledged__rfc7323_4() -> None:
    other = stamped()
    other.take(b"text")
    (again,) = other.tick()
    assert again.options.timestamp is not None
    other.now += 0.2
    other.send(".", 1, ack=5, options=TcpOptions(timestamp=(3, again.options.timestamp[0])))
    assert other.connection.sender.rtt.srtt == pytest.approx(0.1 + 0.1 / 8, abs=0.001)


def test_a_timestamp_of_the_first_transmission_is_no_sample() -> None:
    other = stamped()
    (first,) = other.take(b"text")
    other.tick()
    assert first.options.timestamp is not None
    other.now += 0.2
    other.send(".", 1, ack=5, options=TcpOptions(timestamp=(3, first.options.timestamp[0])))
    assert other.connection.sender.rtt.srtt == pytest.approx(0.1)


def test_after_a_timeout_the_window_grows_by_a_segment_an_ack__rfc3465_2_3() -> None:
    other = established()
    other.take(bytes(10 * MSS))
    other.tick()
    other.send(".", 1, ack=1 + 8 * MSS)  # seven of them had arrived
    assert other.connection.sender.cc.cwnd == 2 * MSS


# --- FIN, and what is acknowledged late ---


def test_a_lost_fin_comes_again() -> None:
    other = established()
    other.connection.shutdown(other.now)
    other.answers()
    assert brief(other.tick()) == [("F.", 1, 0)]
    assert brief(other.tick()) == [("F.", 1, 0)]
    other.send(".", 1, ack=2)
    assert other.state == "FIN-WAIT-2"
    assert other.wait(100.0) == []


def test_text_and_fin_lost_together_come_again_together() -> None:
    other = established()
    other.take(b"text")
    other.connection.shutdown(other.now)
    other.answers()
    assert brief(other.tick()) == [("F.", 1, 4)]
    other.send(".", 1, ack=5)
    assert other.state == "FIN-WAIT-1"
    other.send(".", 1, ack=6)
    assert other.state == "FIN-WAIT-2"


def test_a_late_ack_of_all_that_was_taken_back() -> None:
    other = established()
    other.take(bytes(5 * MSS))
    other.connection.shutdown(other.now)
    other.answers()
    other.tick()
    assert other.send(".", 1, ack=1 + 5 * MSS + 1) == []
    assert other.state == "FIN-WAIT-2"
    assert other.connection.sender.unsent == 0


def test_a_late_ack_of_some_that_was_taken_back() -> None:
    other = established()
    other.take(bytes(3 * MSS) + b"tail")
    other.tick()
    (rest,) = other.send(".", 1, ack=1 + 2 * MSS)
    assert (rest.seq, len(rest.data)) == (1 + 2 * MSS, MSS + 4)
    assert rest.data[-4:] == b"tail"


def test_an_ack_in_the_middle_of_a_segment_leaves_its_rest() -> None:
    other = established()
    other.take(b"0123456789")
    other.send(".", 1, ack=5)
    (rest,) = other.tick()
    assert (rest.seq, rest.data) == (5, b"456789")


def test_pure_acks_after_a_timeout_are_numbered_where_the_peer_may_be() -> None:
    other = established()
    other.take(bytes(4 * MSS))
    other.tick()
    (ack,) = other.send(".", 500, b"out of order")
    assert ack.seq == 1 + 4 * MSS


def test_the_reset_after_a_timeout_is_numbered_where_the_peer_may_be() -> None:
    other = established()
    other.take(bytes(4 * MSS))
    other.tick()
    other.connection.abort(other.now)
    (reset,) = other.answers()
    assert reset.seq == 1 + 4 * MSS


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
