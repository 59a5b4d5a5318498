"""Reductions of the window that were for nothing: Eifel (RFC 3522), F-RTO (RFC 5682), and the way back (RFC 4015)."""

from __future__ import annotations

import pytest

from tests.stack.tcp.losses import MSS, RTT, ack, flight, phase, segments, take, troubled
from tests.stack.tcp.peer import Peer
from tunsmith.stack.tcp.recovery import Phase


def window(other: Peer) -> tuple[int, int]:
    """cwnd and ssthresh, in segments."""
    cc = other.connection.sender.cc
    return cc.cwnd // MSS, cc.ssthresh // MSS


# --- Eifel ---


def test_a_recovery_that_was_for_nothing_is_undone__rfc3522_3_2() -> None:
    other = troubled(stamps=True)
    take(other, 10)
    ack(other, 0, (1, 4))
    assert phase(other) is Phase.RECOVERY
    other.now += 0.01
    ack(other, 4, ago=0.05)  # of the first transmission: it was only late
    assert phase(other) is None
    assert other.connection.sender.cc.cwnd == 10 * MSS


def test_a_recovery_that_was_needed_is_not_undone__rfc3522_3_2() -> None:
    other = troubled(stamps=True)
    take(other, 10)
    ack(other, 0, (1, 4))
    other.now += 0.1
    ack(other, 4, ago=0.1)
    assert phase(other) is Phase.RECOVERY


def test_a_timeout_that_was_for_nothing_is_undone__rfc4015() -> None:
    other = troubled(stamps=True)
    take(other, 10)
    sent_at = other.now
    other.tick()
    assert phase(other) is Phase.LOSS
    other.now += 0.01
    assert ack(other, 2, ago=other.now - sent_at) == []  # nothing more is sent again
    sender = other.connection.sender
    assert (phase(other), sender.cc.cwnd >= 10 * MSS, sender.away) == (None, True, 0)


def test_what_a_recovery_before_has_sent_again_proves_nothing__rfc3522_3_2() -> None:
    other = troubled(stamps=True, initial_window=20)
    take(other, 20)
    take(other, 10)
    assert ack(other, 0, (1, 20)) == [(".", 0, 1), (".", 20, 9)]
    other.now += RTT
    assert (".", 20, 1) in ack(other, 0, (1, 20), (21, 25))
    ack(other, 20, (21, 25))
    other.now += 0.01
    assert (".", 25, 1) in ack(other, 20, (26, 29), (21, 25))
    assert phase(other) is Phase.RECOVERY
    other.now += 0.05
    ack(other, 25, (26, 29), ago=0.06)  # of segment 20, which was sent again before this recovery
    assert phase(other) is Phase.RECOVERY


def test_a_tail_probe_before_the_timeout_does_not_hide_that_it_was_for_nothing__rfc3522_3_2() -> None:
    other = troubled(stamps=True, tlp=True)
    take(other, 10)
    sent_at = other.now
    assert segments(other.wait(0.25)) == [(".", 9, 1)]
    other.tick()
    assert phase(other) is Phase.LOSS
    other.now += 0.01
    assert ack(other, 2, ago=other.now - sent_at) == []
    assert (phase(other), other.connection.sender.away) == (None, 0)


def test_a_head_that_was_sent_again_before_the_timeout_proves_nothing__rfc3522_3_2() -> None:
    other = troubled(stamps=True, tlp=True)
    take(other, 1)
    sent_at = other.now
    assert segments(other.wait(0.5)) == [(".", 0, 1)]  # a tail probe
    other.tick()
    assert phase(other) is Phase.LOSS
    take(other, 3)
    ack(other, 1, ago=other.now - sent_at)
    assert other.connection.sender.cc.ssthresh == 2 * MSS


def test_after_several_timeouts_likewise__rfc3522_3_2() -> None:
    other = troubled(stamps=True)
    take(other, 10)
    sent_at = other.now
    for _ in range(3):
        assert segments(other.tick()) == [(".", 0, 1)]
    other.now += 0.01
    assert ack(other, 2, ago=other.now - sent_at) == []
    assert (phase(other), window(other)) == (None, (12, (1 << 62) // MSS))  # slow start goes on


def test_after_several_timeouts_an_echo_of_the_first_repetition_proves_nothing__rfc3522_3_2() -> None:
    other = troubled(stamps=True)
    take(other, 10)
    other.tick()
    sent_again_at = other.now
    other.tick()
    other.now += 0.01
    ack(other, 1, ago=other.now - sent_again_at)
    assert (phase(other), window(other)[1]) == (Phase.LOSS, 5)


def test_a_timeout_in_a_recovery_is_taken_for_a_loss__rfc3522() -> None:
    other = troubled(stamps=True)
    take(other, 10)
    sent_at = other.now
    ack(other, 0, (1, 4))
    other.tick()
    assert phase(other) is Phase.LOSS
    ack(other, 1, (1, 4), ago=other.now - sent_at)
    assert phase(other) is Phase.LOSS


# --- F-RTO ---

either = pytest.mark.parametrize("sack", [True, False], ids=["sack", "no sack"])


def delayed(sack: bool, queued: int = 10, flying: int = 5) -> Peer:
    """Segments have left, as many wait, and the timeout has sent the first again: perhaps there was only a delay."""
    other = troubled(sack=sack, initial_window=flying)
    take(other, flying + queued)
    assert segments(other.tick()) == [(".", 0, 1)]
    assert phase(other) is Phase.LOSS
    other.now += 0.05
    return other


@either
def test_a_timeout_after_which_acks_go_on_was_for_nothing__rfc5682_2_1(sack: bool) -> None:
    other = delayed(sack)
    before = (5, (1 << 62) // MSS)
    assert ack(other, 1) == [(".", 5, 1), (".", 6, 1)]  # new, and nothing again
    assert phase(other) is Phase.LOSS
    other.now += 0.01
    assert ack(other, 2) == []
    assert phase(other) is None
    assert window(other) >= before
    assert [number for _, number, _ in ack(other, 3)] == [7]
    assert other.connection.sender.away == 0
    assert other.connection.sender.retransmits == 1


@either
def test_so_were_several_if_the_delay_was_long__rfc5682_2_1(sack: bool) -> None:
    other = delayed(sack)
    assert segments(other.tick()) == [(".", 0, 1)]
    assert segments(other.tick()) == [(".", 0, 1)]
    assert ack(other, 1) == [(".", 5, 1), (".", 6, 1)]
    ack(other, 2)
    assert phase(other) is None
    assert window(other)[0] >= 5


@either
def test_what_was_really_lost_is_sent_again_after_all__rfc5682_2_1(sack: bool) -> None:
    other = delayed(sack)
    assert ack(other, 1) == [(".", 5, 1), (".", 6, 1)]
    other.now += RTT
    sent = ack(other, 1, (5, 6)) if sack else ack(other, 1)
    assert sent[0][:2] == (".", 1)
    assert sum(count for _, _, count in sent) <= 2
    assert window(other)[0] <= 3
    assert (phase(other), window(other)[1]) == (Phase.LOSS, 2)
    for upto in range(2, 20):
        other.now += 0.02
        ack(other, min(upto, 15))
    assert phase(other) is None


def test_a_duplicate_after_the_timeout_says_that_the_first_is_lost__rfc5682_2_1() -> None:
    other = delayed(sack=False)
    assert ack(other, 0) == []
    assert [number for _, number, _ in ack(other, 1)] == [1]


def test_with_sack_it_is_waited_for_the_first_all_the_same__rfc5682_3_1() -> None:
    other = delayed(sack=True)
    assert ack(other, 0, (2, 3)) == []
    assert ack(other, 1, (2, 3)) == [(".", 5, 1), (".", 6, 1)]


def test_a_sack_of_what_was_not_sent_again_says_that_it_was_late__rfc5682_3_1() -> None:
    other = delayed(sack=True)
    assert ack(other, 1) == [(".", 5, 1), (".", 6, 1)]
    ack(other, 1, (2, 3))
    assert (phase(other), flight(other)[2]) == (Phase.OPEN, 0)
    assert window(other)[0] >= 5


def test_a_second_ack_that_says_nothing_new_decides_nothing__rfc5682_3_1() -> None:
    other = delayed(sack=True)
    assert ack(other, 1) == [(".", 5, 1), (".", 6, 1)]
    assert ack(other, 1) == []
    ack(other, 2)
    assert phase(other) is None


@either
def test_without_new_text_what_is_lost_is_sent_again_at_once__rfc5682_2_1(sack: bool) -> None:
    other = delayed(sack, queued=0)
    assert [number for _, number, _ in ack(other, 1)] == [1]


@either
def test_without_window_for_new_text_likewise__rfc5682_2_1(sack: bool) -> None:
    other = delayed(sack)
    sent = other.send(".", 1, ack=1 + MSS, window=4 * MSS)
    assert [number for _, number, _ in segments(sent)] == [1]


@either
def test_an_ack_of_all_that_was_sent_ends_it__rfc5682_2_1(sack: bool) -> None:
    other = delayed(sack)
    ack(other, 5)
    assert phase(other) is None
    assert window(other)[1] == 2  # it cannot be told


@either
def test_a_second_timeout_gives_up__rfc5682_2_1(sack: bool) -> None:
    other = delayed(sack)
    assert ack(other, 1) == [(".", 5, 1), (".", 6, 1)]
    assert segments(other.tick()) == [(".", 1, 1)]
    assert [number for _, number, _ in ack(other, 2)] == [2]


def test_a_path_that_turns_out_narrower_ends_it__rfc5682() -> None:
    other = delayed(sack=True)
    assert ack(other, 1) == [(".", 5, 1), (".", 6, 1)]
    recovery = other.connection.sender.trouble
    recovery.send_all_again(other.now)
    assert segments(other.answers()) != []
