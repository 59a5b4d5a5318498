"""The estimator by itself: RFC 6298 §2, and samples that cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.stack.tcp.rtt import RttEstimator


def estimator() -> RttEstimator:
    return RttEstimator(initial_rto=1.0, min_rto=0.2, max_rto=120.0)


def test_the_first_sample_begins_the_estimate__rfc6298_2_2() -> None:
    rtt = estimator()
    rtt.on_sample(0.4)
    assert (rtt.srtt, rtt.rttvar) == (0.4, 0.2)
    assert rtt.rto == pytest.approx(1.2)


def test_later_samples_move_it__rfc6298_2_3() -> None:
    rtt = estimator()
    rtt.on_sample(0.4)
    rtt.on_sample(0.8)
    assert rtt.rttvar == pytest.approx(0.75 * 0.2 + 0.25 * 0.4)
    assert rtt.srtt == pytest.approx(0.875 * 0.4 + 0.125 * 0.8)
    assert rtt.shortest == 0.4


@given(st.lists(st.floats(-1.0, 200.0), min_size=1))
def test_an_estimate_is_never_negative_though_a_clock_goes_back(samples: list[float]) -> None:
    """A segment that leaves in the middle of a batch may be stamped later than the ACK of it that the batch brings."""
    rtt = estimator()
    for sample in samples:
        rtt.on_sample(sample)
        assert rtt.srtt is not None
        assert rtt.srtt >= 0.0 <= rtt.shortest
        assert 0.2 <= rtt.rto <= 120.0
        assert 0.0 < rtt.wait <= rtt.rto


def test_a_round_trip_that_ends_before_it_began_counts_as_none() -> None:
    rtt = estimator()
    rtt.on_sample(-0.5)
    assert (rtt.srtt, rtt.rttvar, rtt.shortest, rtt.rto) == (0.0, 0.0, 0.0, 0.2)
