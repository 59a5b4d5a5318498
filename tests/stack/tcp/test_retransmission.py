"""The retransmission timer, RFC 6298, and what is acknowledged late."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.stack.tcp.peer import Peer, peer
from tests.stack.tcp.sending import MSS, brief, established
from tunsmith.wire.tcp import TcpOptions

# --- the timer, RFC 6298 ---


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
