"""Losses found by counting, and what follows: RFC 6675, RFC 5681 §3.2, RFC 6582, RFC 3042, RFC 2018, RFC 9937."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack.tcp.losses import MSS, RTT, ack, flight, phase, segments, take, troubled
from tests.stack.tcp.peer import Peer
from tunsmith.stack.tcp.recovery import Phase
from tunsmith.wire.tcp import TcpOptions


def test_limited_transmit_sends_new_text_for_the_first_two_sacks__rfc3042_2() -> None:
    other = troubled()
    take(other, 10)
    assert take(other, 3) == []
    assert ack(other, 0, (1, 2)) == [(".", 10, 1)]
    assert ack(other, 0, (1, 3)) == [(".", 11, 1)]
    assert other.connection.sender.cc.cwnd == 10 * MSS


def test_limited_transmit_without_sack__rfc3042_2() -> None:
    other = troubled(sack=False)
    take(other, 10)
    take(other, 3)
    assert [ack(other, 0), ack(other, 0)] == [[(".", 10, 1)], [(".", 11, 1)]]


def test_three_segments_sacked_above_it_a_segment_is_lost__rfc6675_4() -> None:
    other = troubled()
    take(other, 10)
    ack(other, 0, (1, 2))
    ack(other, 0, (1, 3))
    assert ack(other, 0, (1, 4)) == [(".", 0, 1)]
    assert phase(other) is Phase.RECOVERY
    assert other.connection.sender.cc.ssthresh == 5 * MSS
    assert flight(other) == (7, 3, 0)


def test_three_pieces_of_any_size_are_enough__rfc6675_4() -> None:
    other = troubled()
    take(other, 1)
    for _ in range(5):
        other.take(b"x")
    seqs = [1 + MSS, 2 + MSS, 3 + MSS]
    for end in seqs:
        sent = other.send(".", 1, options=sack(other, (1 + MSS, end + 1)))
    assert [(segment.seq, len(segment.data)) for segment in sent] == [(1, MSS)]


def sack(other: Peer, *blocks: tuple[int, int]) -> TcpOptions:
    return TcpOptions(sack=tuple((other.iss + start, other.iss + end) for start, end in blocks))


def test_a_loss_in_the_middle_of_a_super_segment_brings_only_what_was_lost__rfc6675_3() -> None:
    other = troubled()
    assert take(other, 10) == [(".", 0, 10)]
    assert ack(other, 3, (4, 6), (7, 10)) == [(".", 3, 1), (".", 6, 1)]


def test_all_holes_are_filled_before_new_text_is_sent__rfc6675_5() -> None:
    other = troubled(initial_window=20)
    take(other, 20)
    take(other, 10)
    sent = ack(other, 0, (1, 2), (3, 4), (5, 20))
    for upto in (1, 3, 5):
        sent += ack(other, upto, (5, 20)) if upto < 5 else ack(other, 20)
    assert [number for _, number, _ in sent][:4] == [0, 2, 4, 20]


def test_a_duplicate_ack_that_sacks_nothing_is_no_sign__rfc6675_2() -> None:
    other = troubled()
    take(other, 10)
    for _ in range(5):
        assert ack(other, 0) == []
    assert phase(other) is None


def test_sack_blocks_outside_of_the_flight_are_ignored__rfc2018() -> None:
    other = troubled()
    take(other, 4)
    for blocks in (((5, 9),), ((2, 1),), ((3, 5),), ((2, 2),)):
        assert ack(other, 0, *blocks) == []
    assert phase(other) is None


def test_a_block_around_what_is_known_adds_what_is_new_at_both_ends__rfc2018_4() -> None:
    other = troubled()
    take(other, 8)
    ack(other, 0, (4, 5))
    ack(other, 0, (3, 6))
    in_network, sacked, lost = flight(other)
    assert (sacked, in_network + lost) == (3, 5)


def test_recovery_ends_when_all_before_it_is_acknowledged__rfc6675_5() -> None:
    other = troubled()
    take(other, 10)
    take(other, 2)
    ack(other, 0, (1, 5))
    ack(other, 5, (6, 9))
    assert phase(other) is Phase.RECOVERY
    ack(other, 12)
    assert phase(other) is None
    assert other.connection.sender.cc.cwnd == other.connection.sender.cc.ssthresh


def test_a_second_loss_in_one_window_is_no_second_reduction__rfc6675_5() -> None:
    other = troubled(initial_window=20)
    take(other, 20)
    ack(other, 0, (1, 5))
    ssthresh = other.connection.sender.cc.ssthresh
    ack(other, 8, (9, 14))
    assert phase(other) is Phase.RECOVERY
    assert other.connection.sender.cc.ssthresh == ssthresh


@pytest.mark.parametrize("rack", [False, True])
def test_the_first_loss_behind_a_recovery_is_a_new_one__rfc6675_5_1(rack: bool) -> None:
    other = troubled(rack=rack)
    take(other, 10)
    ack(other, 0, (1, 5))
    ack(other, 10)
    take(other, 5)
    other.now += RTT
    ssthresh = other.connection.sender.cc.ssthresh
    assert ack(other, 10, (11, 14)) == [(".", 10, 1)]
    assert phase(other) is Phase.RECOVERY
    assert other.connection.sender.cc.ssthresh < ssthresh


def test_the_window_shrinks_in_proportion__rfc6937_3() -> None:
    other = troubled(initial_window=20)
    take(other, 20)
    take(other, 20)
    sent = 0
    for end in range(2, 20):
        sent += sum(count for _, _, count in ack(other, 0, (1, end)))
    assert sent == 2 + 7  # limited transmit, then one for two that arrived until ten are in the network
    ack(other, 20)
    assert other.connection.sender.cc.cwnd == 10 * MSS


def test_a_fast_retransmission_starts_the_timer_again() -> None:
    other = troubled()
    take(other, 10)
    other.now += 0.2
    ack(other, 0, (1, 4))
    assert other.stack.next_deadline() == pytest.approx(other.now + other.connection.sender.rtt.rto)


def test_after_a_timeout_only_what_was_not_sacked_is_sent_again__rfc6675_5_1() -> None:
    other = troubled()
    take(other, 8)
    ack(other, 0, (2, 3))
    ack(other, 0, (6, 7), (2, 3))
    assert segments(other.tick()) == [(".", 0, 1)]
    assert phase(other) is Phase.LOSS
    assert flight(other) == (1, 2, 5)
    assert ack(other, 1, (2, 3), (6, 7)) == [(".", 1, 1), (".", 3, 1)]
    assert ack(other, 4, (6, 7)) == [(".", 4, 2), (".", 7, 1)]
    ack(other, 8)
    assert phase(other) is None
    assert other.connection.sender.retransmits == 6


def test_a_peer_that_takes_a_sack_back_gets_it_again__rfc2018_8() -> None:
    other = troubled()
    take(other, 5)
    ack(other, 0, (1, 5))
    assert ack(other, 1) == [(".", 1, 1)]
    assert phase(other) is Phase.LOSS
    assert ack(other, 2) == [(".", 2, 2)]
    ack(other, 5)
    assert phase(other) is None


def test_a_peer_that_takes_back_half_of_a_sack_gets_that_again__rfc2018_8() -> None:
    other = troubled()
    take(other, 8)
    ack(other, 0, (2, 6))
    assert ack(other, 4) == [(".", 4, 1)]
    assert phase(other) is Phase.LOSS
    assert flight(other)[1] == 0
    assert sum(count for _, _, count in ack(other, 5) + ack(other, 6) + ack(other, 7)) == 3


def test_lost_pieces_that_fit_into_one_segment_are_sent_as_one() -> None:
    other = troubled()
    for letter in b"abcde":
        other.take(bytes((letter,)))
    other.connection.shutdown(other.now)
    other.answers()
    (again,) = other.tick()
    assert (again.flags, again.data) == ("F.", b"abcde")


def test_the_peers_window_bounds_what_is_sent_again__rfc9293_3_8_6() -> None:
    other = troubled()
    take(other, 4)
    other.tick()
    (again,) = other.send(".", 1, ack=1 + MSS, window=100)
    assert (again.seq, len(again.data)) == (1 + MSS, 100)


# --- without SACK: RFC 6582 ---


def test_the_third_duplicate_ack_brings_the_first_segment_again__rfc5681_3_2() -> None:
    other = troubled(sack=False)
    take(other, 10)
    assert [ack(other, 0) for _ in range(3)] == [[], [], [(".", 0, 1)]]
    assert phase(other) is Phase.RECOVERY
    assert other.connection.sender.cc.ssthresh == 5 * MSS


def test_more_duplicates_let_new_text_out() -> None:
    other = troubled(sack=False)
    take(other, 10)
    take(other, 10)
    sent = [count for _ in range(9) for _, _, count in ack(other, 0)]
    assert sum(sent) == 2 + 1 + 2  # limited transmit, the retransmission, one for two


def test_a_partial_ack_brings_the_next_hole__rfc6582_3_2() -> None:
    other = troubled(sack=False)
    take(other, 10)
    for _ in range(3):
        ack(other, 0)
    assert ack(other, 4) == [(".", 4, 1)]
    assert phase(other) is Phase.RECOVERY


def test_a_full_ack_ends_the_recovery__rfc6582_3_2() -> None:
    other = troubled(sack=False)
    take(other, 10)
    for _ in range(3):
        ack(other, 0)
    ack(other, 10)
    assert phase(other) is None
    assert other.connection.sender.cc.cwnd == 5 * MSS


def test_duplicates_right_after_a_recovery_start_no_other__rfc6582_3_2_2() -> None:
    other = troubled(sack=False)
    take(other, 10)
    for _ in range(3):
        ack(other, 0)
    ack(other, 10)
    take(other, 5)
    for _ in range(4):
        assert ack(other, 10) == []
    assert other.connection.sender.retransmits == 1


def test_after_a_timeout_duplicates_of_the_old_flight_start_no_recovery__rfc6582_3_2_4() -> None:
    other = troubled(sack=False)
    take(other, 10)
    other.tick()
    ack(other, 1)
    for _ in range(5):
        assert ack(other, 1) == []
    assert phase(other) is Phase.LOSS


@pytest.mark.parametrize(
    "fields",
    [{"data": b"x"}, {"window": 60_000}, {"flags": "F."}],
    ids=["text", "window", "fin"],
)
def test_what_carries_something_is_no_duplicate_ack__rfc5681_2(fields: dict[str, Any]) -> None:
    other = troubled(sack=False)
    take(other, 10)
    for number in range(3):
        varied = dict(fields)
        if "window" in varied:
            varied["window"] += number
        other.send(varied.pop("flags", "."), 1, **varied)
    assert phase(other) is None
    assert other.connection.sender.retransmits == 0


# --- after idle: RFC 5681 §4.1 ---


@pytest.mark.parametrize(("restart", "first"), [(True, 10), (False, 20)])
def test_after_an_idle_time_the_window_is_the_initial_one__rfc5681_4_1(restart: bool, first: int) -> None:
    other = troubled(restart_after_idle=restart)
    take(other, 10)
    ack(other, 10)
    other.now += 0.4
    assert sum(count for _, _, count in take(other, 40)) == first
