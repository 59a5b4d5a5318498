"""A reduction of the window that may turn out to have been for nothing: what was thought lost was only late.

Two things can tell. A timestamp, with the first ACK of anything new: it echoes one from before the first
retransmission (Eifel, RFC 3522 §3.2). And without timestamps, after a timeout, the next two ACKs (F-RTO, RFC 5682):

    1  the timeout sends the first segment again, and that only
    2  an ACK of something new: what comes next is new text, two segments of it, instead of what is thought lost
    3  an ACK of what has not been sent again: that was not lost. Anything else: it was

A sender that has nothing new to send, or no window for it, goes on as after any timeout.
"""

from __future__ import annotations

from enum import Enum

from tunsmith.stack.tcp.congestion import Congestion
from tunsmith.stack.tcp.rack import TICK
from tunsmith.stack.tcp.scoreboard import RETRANSMITTED, Sent
from tunsmith.stack.tcp.timers import NEVER

NEW_SEGMENTS = 2
"""What is sent in step 2, RFC 5682 §2.1."""


class Step(Enum):
    """Of F-RTO."""

    OFF = "off"
    """Not after a timeout, or it has not found out."""
    EXPECTED = "expected"
    """An ACK of anything new."""
    DUE = "due"
    """New text."""
    AWAITED = "awaited"
    """The ACK that tells."""


class Reduction:
    """What the window was before it, and what has been heard since. `at`: when something was sent again first.
    `forward`: a timeout has begun it, for which F-RTO may be tried."""

    __slots__ = ("at", "cwnd", "ssthresh", "step")

    def __init__(self, cc: Congestion, at: float, forward: bool) -> None:
        self.cwnd = cc.cwnd
        self.ssthresh = cc.ssthresh
        self.at = at
        self.step = Step.EXPECTED if forward else Step.OFF

    def is_refuted(
        self,
        delivered: list[Sent],
        advance: int,
        repeated: bool,
        echoed_rtt: float | None,
        point: int,
        now: float,
    ) -> bool:
        """Whether an ACK says so. It newly covers `delivered`, and `advance` bytes in order; `repeated`: it is a
        duplicate, of a peer without SACK. `point`: what lies behind it was not sent before the timeout."""
        if advance and echoed_rtt is not None:
            late = echoed_rtt > now - self.at + TICK
            self.at, self.step = -NEVER, Step.OFF  # any later echo is of what was sent since
            return late
        if self.step is Step.EXPECTED:
            if advance:
                self.step = Step.DUE
            elif repeated:
                self.step = Step.OFF
        elif self.step is Step.AWAITED:
            if any(record.end <= point and not record.marks & RETRANSMITTED for record in delivered):
                return True
            if advance or delivered or repeated:
                self.step = Step.OFF
        return False
