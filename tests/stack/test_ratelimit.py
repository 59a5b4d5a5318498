from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.stack.ratelimit import BlurredLimit, RateLimit


def test_burst_passes_at_once_and_no_more() -> None:
    limit = RateLimit(rate=10, burst=5)
    assert [limit.allow(100.0) for _ in range(7)] == [True] * 5 + [False] * 2


def test_tokens_come_back_at_the_rate() -> None:
    limit = RateLimit(rate=10, burst=1)
    assert limit.allow(0.0)
    assert not limit.allow(0.05)
    assert limit.allow(0.15)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    limit = RateLimit(rate=1000, burst=1)
    assert limit.allow(10.0)
    assert not limit.allow(10.0)
    assert not limit.allow(9.0)


@given(st.lists(st.floats(0, 0.5), max_size=200), st.integers(1, 50), st.integers(1, 10))
def test_never_more_than_burst_plus_rate_times_time(steps: list[float], rate: int, burst: int) -> None:
    limit, now, allowed = RateLimit(rate, burst), 1000.0, 0
    for step in steps:
        now += step
        allowed += limit.allow(now)
    assert allowed <= burst + rate * sum(steps) + 1e-6


@given(rate=st.integers(0, 1000), seed=st.integers(), starts=st.lists(st.floats(0, 100), max_size=20))
def test_a_blurred_limit_is_never_less_and_at_most_a_quarter_more(
    rate: int, seed: int, starts: list[float]
) -> None:
    limit = BlurredLimit(rate, Random(seed).randbytes)
    now = 0.0
    for pause in starts:
        now += 1.0 + pause
        allowed = sum(limit.allow(now + 0.999 * step / 2000) for step in range(2000))
        assert rate <= allowed <= rate + rate // 4
