"""Congestion control algorithms by themselves: RFC 5681, RFC 9438, and how one is chosen."""

from __future__ import annotations

import pytest

from tests.stack.tcp.peer import peer
from tunsmith.stack.config import StackConfig
from tunsmith.stack.tcp.congestion import UNLIMITED, Congestion
from tunsmith.stack.tcp.cubic import Cubic
from tunsmith.stack.tcp.reno import Reno

MSS = 1000
RTT = 0.1


def grow(cc: Congestion, seconds: float, rtt: float = RTT, now: float = 0.0) -> None:
    """Have every segment of every window acknowledged for `seconds`."""
    for round_trip in range(round(seconds / rtt)):
        window = cc.cwnd // MSS
        for number in range(window):
            cc.on_ack(MSS, rtt, rtt, now + rtt * (round_trip + number / window))


@pytest.mark.parametrize("algorithm", [Reno, Cubic])
def test_slow_start_doubles_each_round_trip__rfc5681_3_1(algorithm: type[Reno | Cubic]) -> None:
    cc = algorithm(MSS, 10 * MSS)
    grow(cc, 3 * RTT)
    assert (cc.cwnd, cc.ssthresh) == (80 * MSS, UNLIMITED)


def test_reno_grows_by_a_segment_a_round_trip__rfc5681_3_1() -> None:
    cc = Reno(MSS, 20 * MSS)
    cc.on_congestion(20 * MSS, 0.0)
    assert cc.ssthresh == 10 * MSS
    cc.cwnd = cc.ssthresh
    grow(cc, 10 * RTT)
    assert cc.cwnd == pytest.approx(20 * MSS, abs=MSS)


@pytest.mark.parametrize("algorithm", [Reno, Cubic])
def test_the_threshold_is_two_segments_at_least__rfc5681_3_1(algorithm: type[Reno | Cubic]) -> None:
    cc = algorithm(MSS, MSS)
    cc.on_congestion(MSS, 0.0)
    assert cc.ssthresh == 2 * MSS
    cc.on_timeout(MSS, 0.0)
    assert cc.ssthresh == 2 * MSS


@pytest.mark.parametrize("algorithm", [Reno, Cubic])
def test_the_window_holds_a_segment_of_the_new_size(algorithm: type[Reno | Cubic]) -> None:
    cc = algorithm(MSS, MSS)
    cc.on_mss(3 * MSS)
    assert (cc.mss, cc.cwnd) == (3 * MSS, 3 * MSS)


def reduced(window: int = 1000) -> Cubic:
    cc = Cubic(MSS, window * MSS)
    cc.on_congestion(window * MSS, 0.0)
    cc.cwnd = cc.ssthresh
    return cc


def test_cubic_keeps_seven_tenths__rfc9438_4_6() -> None:
    assert reduced().cwnd == 700 * MSS


def test_cubic_is_back_where_it_was_after_k_seconds__rfc9438_4_2() -> None:
    cc = reduced()
    k = (1000 * (1 - 0.7) / 0.4) ** (1 / 3)
    grow(cc, k / 2)
    half = cc.cwnd
    grow(cc, k / 2, now=k / 2)
    assert cc.cwnd == pytest.approx(1000 * MSS, rel=0.01)
    assert half > 950 * MSS  # concave: most of it at the beginning
    before = cc.cwnd
    grow(cc, 2.0, now=k)
    plateau = cc.cwnd - before
    grow(cc, 2.0, now=k + 2)
    assert cc.cwnd - before - plateau > 2 * plateau  # convex: it looks for more, ever faster


def test_cubic_does_not_grow_by_more_than_half_a_window_a_round_trip__rfc9438_4_4() -> None:
    cc = reduced(10)
    cc.on_ack(MSS, RTT, RTT, 0.0)
    cc.on_ack(cc.cwnd, 1000.0, 1000.0, 1.0)
    assert cc.cwnd <= 1.5 * 8 * MSS


def test_cubic_is_not_slower_than_reno__rfc9438_4_3() -> None:
    cubic, reno = reduced(20), Reno(MSS, 20 * MSS)
    reno.on_congestion(20 * MSS, 0.0)
    reno.cwnd = reno.ssthresh
    grow(cubic, 2.0, rtt=0.01)
    grow(reno, 2.0, rtt=0.01)
    assert cubic.cwnd > 0.9 * reno.cwnd


def test_cubic_gives_way_when_it_loses_before_it_was_back__rfc9438_4_7() -> None:
    cc = reduced()
    cc.cwnd = 800 * MSS
    cc.on_congestion(cc.cwnd, 0.0)
    cc.cwnd = cc.ssthresh
    k = ((800 * 0.85 - 800 * 0.7) / 0.4) ** (1 / 3)
    grow(cc, k)
    assert cc.cwnd == pytest.approx(800 * 0.85 * MSS, rel=0.01)


def test_time_without_use_does_not_open_the_window__rfc9438_5_8() -> None:
    cc = reduced()
    grow(cc, 1.0)
    window = cc.cwnd
    cc.on_ack(MSS, RTT, RTT, 1000.0)
    assert cc.cwnd - window < MSS


def test_after_a_timeout_the_next_stage_begins_where_slow_start_ends__rfc9438_4_8() -> None:
    cc = Cubic(MSS, 1000 * MSS)
    cc.on_timeout(1000 * MSS, 0.0)
    assert cc.ssthresh == 700 * MSS
    cc.cwnd = MSS
    grow(cc, 1.0)
    assert cc.cwnd == pytest.approx(700 * MSS, rel=0.5)
    at = cc.cwnd
    grow(cc, 3 * RTT, now=1.0)
    assert at <= cc.cwnd < 1.05 * at


# --- the choice ---


@pytest.mark.parametrize(("choice", "made"), [("cubic", Cubic), ("reno", Reno), (Reno, Reno)])
def test_an_algorithm_is_chosen_by_name_or_brought_along(
    choice: str | type[Reno], made: type[object]
) -> None:
    other = peer(congestion=choice)
    other.establish()
    assert isinstance(other.connection.sender.cc, made)


def test_cubic_is_the_default() -> None:
    other = peer()
    other.establish()
    assert isinstance(other.connection.sender.cc, Cubic)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"congestion is 'vegas', not one of cubic, reno"):
        StackConfig(congestion="vegas")
