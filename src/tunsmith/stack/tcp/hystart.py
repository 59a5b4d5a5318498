"""HyStart++, RFC 9406: slow start that ends before the queue of a router is full.

Round trips that get longer say that a queue is building up. Slow start then goes on at a quarter of its pace, for five
rounds (Conservative Slow Start); if they get shorter again it was only noise. A round is over when as much has been
acknowledged as the window was when it began.
"""

from __future__ import annotations

from tunsmith.stack.tcp.timers import NEVER

MIN_RTT_THRESH, MAX_RTT_THRESH = 0.004, 0.016
"""Seconds that a round trip must be longer by, between these two; within them an eighth of it (MIN_RTT_DIVISOR)."""
MIN_RTT_DIVISOR = 8
N_RTT_SAMPLE = 8
"""Samples that a round must have before it is judged."""
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5


class HyStart:
    """The slow start of one connection, until its first loss. Names are those of RFC 9406 §4.2; seconds and bytes."""

    __slots__ = ("_baseline", "_css_rounds", "_current", "_last", "_left", "_samples")

    def __init__(self, cwnd: int) -> None:
        self._left = cwnd
        """To be acknowledged before the next round begins."""
        self._last = self._current = NEVER
        """The shortest round trip of the last round, and of this one so far."""
        self._samples = 0
        self._baseline = NEVER
        """What made slow start conservative: a shorter round trip makes it what it was. NEVER: it is not."""
        self._css_rounds = 0

    @property
    def is_over(self) -> bool:
        """Whether congestion avoidance is to begin."""
        return self._css_rounds >= CSS_ROUNDS

    def growth(self, acked: int, rtt: float, cwnd: int) -> int:
        """By how much `cwnd` grows with an ACK of `acked` bytes that has taken `rtt`."""
        self._samples += 1
        if rtt < self._current:
            self._current = rtt
        if self._samples >= N_RTT_SAMPLE:
            self._judge()
        self._left -= acked
        if self._left <= 0:
            if self._baseline != NEVER:
                self._css_rounds += 1
            self._left = cwnd
            self._last, self._current, self._samples = self._current, NEVER, 0
        return acked if self._baseline == NEVER else acked // CSS_GROWTH_DIVISOR

    def _judge(self) -> None:
        if self._baseline == NEVER:
            threshold = min(max(self._last / MIN_RTT_DIVISOR, MIN_RTT_THRESH), MAX_RTT_THRESH)
            if self._current >= self._last + threshold:
                self._baseline = self._current
                self._css_rounds = 0
        elif self._current < self._baseline:
            self._baseline = NEVER
