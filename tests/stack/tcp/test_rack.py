"""Losses found by time, and probes for what nobody would miss: RFC 8985, with RFC 2883."""

from __future__ import annotations

import pytest

from tests.stack.tcp.losses import MSS, RTT, ack, flight, phase, recovery, segments, take, troubled
from tests.stack.tcp.peer import Peer
from tunsmith.stack.tcp.rack import Rack
from tunsmith.stack.tcp.recovery import Phase
from tunsmith.stack.tcp.rtt import RttEstimator
from tunsmith.stack.tcp.scoreboard import Sent


def racked(**settings: bool) -> Peer:
    return troubled(rack=True, **settings)


# --- RACK ---


def test_before_reordering_was_seen_three_sacks_are_enough__rfc8985_6_2() -> None:
    other = racked()
    take(other, 10)
    other.now += RTT
    ack(other, 0, (1, 2))
    ack(other, 0, (1, 3))
    assert ack(other, 0, (1, 4)) == [(".", 0, 1)]


def test_one_sack_and_a_quarter_of_a_round_trip_are_enough__rfc8985_6_2() -> None:
    other = racked()
    take(other, 2)
    other.now += RTT
    assert ack(other, 0, (1, 2)) == []
    assert other.stack.next_deadline() == pytest.approx(other.now + RTT / 4)
    assert segments(other.tick()) == [(".", 0, 1)]
    assert phase(other) is Phase.RECOVERY


def test_a_retransmission_that_is_lost_too_is_sent_again__rfc8985_6_2() -> None:
    other = racked()
    take(other, 10)
    other.now += RTT
    assert ack(other, 0, (1, 5)) == [(".", 0, 1)]
    take(other, 5)
    other.now += RTT
    sent = ack(other, 0, (1, 10))
    other.now += RTT
    assert (".", 0, 1) in sent + ack(other, 0, (1, 11))
    assert phase(other) is Phase.RECOVERY  # no timeout was needed


def test_reordering_once_seen_is_waited_for__rfc8985_6_2() -> None:
    other = racked()
    take(other, 4)
    other.now += RTT
    ack(other, 0, (2, 3))
    ack(other, 3)  # the first two were only late
    ack(other, 4)
    take(other, 10)
    other.now += RTT
    for end in range(6, 10):
        assert ack(other, 4, (5, end)) == []
    assert segments(other.tick()) == [(".", 4, 1)]


def test_a_d_sack_widens_the_window_for_reordering__rfc8985_6_2() -> None:
    def patience() -> float:
        take(other, 6)
        first = other.connection.sender.snd_una // MSS - other.iss // MSS
        other.now += RTT
        ack(other, first, (first + 1, first + 3))
        due = other.stack.next_deadline()
        assert due is not None
        return due - other.now

    other = racked()
    take(other, 4)
    other.now += RTT
    ack(other, 0, (2, 3))
    ack(other, 4)
    narrow = patience()
    other.tick()
    ack(other, 10, (4, 5))
    wide = patience()
    assert [narrow, wide] == pytest.approx([RTT / 4, 2 * RTT / 4])


def test_a_loss_at_the_end_of_a_super_segment_waits_for_the_probe() -> None:
    other = racked(tlp=True)
    take(other, 10)
    other.now += RTT
    assert ack(other, 8) == []
    assert segments(other.wait(3 * RTT)) == [(".", 9, 1)]
    other.now += RTT
    assert ack(other, 8, (9, 10)) == [(".", 8, 1)]
    assert flight(other) == (1, 1, 0)


def test_after_a_timeout_what_was_sent_lately_is_not_lost__rfc8985_6_3() -> None:
    other = racked()
    take(other, 5)
    other.now += RTT
    ack(other, 0, (1, 2))
    other.now += 0.19
    take(other, 2)
    due = other.connection.sender.timers[0]
    sent = segments(other.wait(due - other.now + 0.001))
    assert (".", 0, 1) in sent
    assert recovery(other).board.records[-1].marks == 0


def test_a_recovery_for_nothing_is_reordering_seen__rfc8985_6_2() -> None:
    other = troubled(rack=True, stamps=True)
    take(other, 10)
    other.now += RTT
    assert ack(other, 0, (1, 4)) == [(".", 0, 1)]
    other.now += 0.01
    ack(other, 4, ago=RTT + 0.01)  # of the first transmission: it was only late
    assert phase(other) is None
    take(other, 4)
    other.now += RTT
    assert ack(other, 4, (5, 8)) == []
    assert phase(other) is Phase.OPEN


def test_in_slow_start_a_loss_found_by_time_is_sent_again_and_costs_nothing_more() -> None:
    other = racked()
    take(other, 6)
    assert segments(other.tick()) == [(".", 0, 1)]
    other.now += RTT
    assert ack(other, 1, (0, 1)) == [(".", 1, 2)]  # the first came twice: reordering
    other.now += RTT
    ack(other, 1, (2, 3))
    cwnd = other.connection.sender.cc.cwnd
    assert segments(other.tick()) == [(".", 1, 1)]
    assert phase(other) is Phase.LOSS
    assert other.connection.sender.cc.cwnd == cwnd


def test_a_widened_window_lasts_for_sixteen_recoveries__rfc8985_6_2() -> None:
    rack, rtt = Rack(), RttEstimator(1.0, 0.2, 120.0)
    rtt.on_sample(RTT)
    rack.on_duplicate(1, 100)
    rack.on_duplicate(50, 100)  # in the same round trip
    for _ in range(15):
        rack.on_recovered()
    assert rack.window(rtt, True) == pytest.approx(2 * RTT / 4)
    rack.on_recovered()
    assert rack.window(rtt, True) == pytest.approx(RTT / 4)


def test_the_window_is_no_longer_than_a_round_trip__rfc8985_6_2() -> None:
    rack, rtt = Rack(), RttEstimator(1.0, 0.2, 120.0)
    rtt.on_sample(RTT)
    for number in range(20):
        rack.on_duplicate(100 * number, 100 * number + 100)
    assert rack.window(rtt, True) == pytest.approx(RTT)


def test_it_waits_for_the_last_of_those_that_may_be_lost__rfc8985_6_2() -> None:
    rack, rtt = Rack(), RttEstimator(1.0, 0.2, 120.0)
    times = [0.02, 0.01, 0.03]
    first, second, third = (Sent(n, n + 1, b"x", False, at) for n, at in enumerate(times))
    rack.on_delivered([third], 0, None, rtt, 0.13)
    lost, wait = rack.losses([first, second], 0.05, 0.13)
    assert lost == []
    assert wait == pytest.approx(0.04)


# --- tail loss probes ---


def probing(**settings: bool) -> Peer:
    return troubled(rack=True, tlp=True, **settings)


def test_the_last_segment_is_sent_again_after_two_round_trips__rfc8985_7_2() -> None:
    other = probing()
    take(other, 5)
    assert other.wait(2 * RTT - 0.001) == []
    assert segments(other.wait(0.002)) == [(".", 4, 1)]
    assert other.connection.sender.cc.cwnd == 10 * MSS


def test_a_probe_is_new_text_if_there_is_any__rfc8985_7_3() -> None:
    other = probing()
    take(other, 10)
    take(other, 3)
    assert segments(other.wait(2 * RTT + 0.001)) == [(".", 10, 1)]


def test_the_probe_waits_two_round_trips_from_the_last_transmission__rfc8985_7_2() -> None:
    other = probing()
    take(other, 2)
    other.now += 0.15
    take(other, 2)
    assert other.wait(2 * RTT - 0.06) == []
    sent = other.wait(0.1)
    assert segments(sent) == [(".", 3, 1)]


def test_a_single_segment_may_be_answered_late__rfc8985_7_2() -> None:
    other = probing()
    take(other, 1)
    assert other.wait(0.29) == []
    assert segments(other.wait(0.02)) == [(".", 0, 1)]  # no later than the RTO
    assert phase(other) is Phase.OPEN


def test_after_the_probe_comes_the_timeout__rfc8985_7_3() -> None:
    other = probing()
    take(other, 5)
    other.wait(2 * RTT + 0.001)
    assert other.wait(0.29) == []
    assert segments(other.wait(0.02)) == [(".", 0, 1)]
    assert phase(other) is Phase.LOSS


def test_a_probe_tells_of_the_losses_before_it__rfc8985_7() -> None:
    other = probing()
    take(other, 6)
    other.now += RTT
    ack(other, 2)
    assert segments(other.wait(2 * RTT + 0.05)) == [(".", 5, 1)]
    other.now += RTT
    assert ack(other, 2, (5, 6)) == [(".", 2, 1)]
    other.now += RTT
    assert ack(other, 3, (5, 6)) == [(".", 3, 2)]


def test_a_probe_that_repaired_the_loss_costs_a_reduction__rfc8985_7_4_2() -> None:
    other = probing()
    take(other, 5)
    other.wait(2 * RTT + 0.001)
    ack(other, 5)
    cc = other.connection.sender.cc
    assert cc.cwnd == 10 * MSS
    take(other, 1)
    ack(other, 6)
    assert cc.cwnd < 10 * MSS
    assert phase(other) is None


@pytest.mark.parametrize("told_by", ["d-sack", "repetition"])
def test_a_probe_for_nothing_costs_nothing__rfc8985_7_4_2(told_by: str) -> None:
    other = probing()
    take(other, 5)
    other.wait(2 * RTT + 0.001)
    ack(other, 5)
    ack(other, 5, *[(4, 5)] if told_by == "d-sack" else [])
    assert phase(other) is None
    take(other, 1)
    ack(other, 6)
    assert other.connection.sender.cc.cwnd >= 10 * MSS


def test_a_probe_of_new_text_costs_nothing__rfc8985_7_4_2() -> None:
    other = probing()
    take(other, 10)
    take(other, 1)
    other.wait(2 * RTT + 0.001)
    ack(other, 11)
    assert phase(other) is None
    assert other.connection.sender.cc.cwnd >= 10 * MSS


def test_the_probe_carries_the_fin() -> None:
    other = probing()
    other.connection.send(bytes(2 * MSS + 10), other.now, end=True)
    other.answers()
    (again,) = other.wait(2 * RTT + 0.001)
    assert (again.flags, len(again.data)) == ("F.", 10)


def test_an_ack_in_time_leaves_nothing_behind() -> None:
    other = probing()
    for number in range(1, 6):
        take(other, 3)
        other.now += 1.5 * RTT
        ack(other, 3 * number)
    assert other.connection.sender.recovery is None
    assert other.wait(10.0) == []


def test_a_window_probe_may_be_taken_while_a_tail_probe_is_not_answered() -> None:
    other = probing()
    take(other, 2)
    other.wait(2 * RTT + 0.001)
    other.send(".", 1, ack=1 + 2 * MSS, window=0)
    other.take(b"text")
    (probe,) = other.tick()
    assert (probe.seq, len(probe.data)) == (1 + 2 * MSS, 1)
    (rest,) = other.send(".", 1, ack=2 + 2 * MSS, window=1000)
    assert (rest.seq, rest.data) == (2 + 2 * MSS, b"ext")


# --- the switches ---


@pytest.mark.parametrize("switch", ["sack", "tlp"])
def test_without_sack_or_tlp_no_probe_is_sent(switch: str) -> None:
    other = troubled(rack=True, **{"tlp": True, switch: False})
    take(other, 5)
    assert other.wait(0.29) == []
    assert segments(other.wait(0.02)) == [(".", 0, 1)]


def test_without_rack_one_sack_waits_for_the_timeout() -> None:
    other = troubled()
    take(other, 2)
    other.now += RTT
    ack(other, 0, (1, 2))
    assert other.wait(RTT) == []
