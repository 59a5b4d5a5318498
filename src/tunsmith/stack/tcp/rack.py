"""RACK: loss detected by time, RFC 8985 §6.

A transmission is lost when one that left later has arrived and a round trip has passed since it left, plus
a window for packets that overtake each other. That window is zero until reordering has been seen, a
quarter of the shortest round trip from then on, and grows when a D-SACK says that what we sent again
had only been late (§6.2 step 4).
"""

from __future__ import annotations

from collections.abc import Iterable

from tunsmith.stack.tcp.rtt import RttEstimator
from tunsmith.stack.tcp.scoreboard import LOST, RETRANSMITTED, SACKED, Sent

DUPLICATE_ACKS = 3
"""DupThresh, RFC 5681 §3.2."""
PATIENT_RECOVERIES = 16
"""Recoveries that a widened window lasts."""
TICK = 0.001
"""Of the timestamp clock, in seconds."""


class Rack:
    """What the ACKs of one connection have told about the times of its transmissions; seconds."""

    __slots__ = (
        "_end",
        "_multiplier",
        "_recoveries_left",
        "_round_end",
        "_rtt",
        "_sent_at",
        "reordering_seen",
    )

    def __init__(self) -> None:
        self._sent_at = 0.0
        self._end = 0
        self._rtt = 0.0
        self.reordering_seen = False
        self._multiplier = 1
        self._recoveries_left = 0
        self._round_end = 0

    def on_delivered(
        self, delivered: list[Sent], highest: int, echoed_rtt: float | None, rtt: RttEstimator, now: float
    ) -> int:
        """Steps 1 to 3. `delivered`: records that an ACK newly covers, in the order of the stream;
        `highest`: the end of what was delivered before. Returns the new one."""
        for record in delivered:
            age = now - record.sent_at
            again = record.marks & RETRANSMITTED
            if record.end > highest:
                highest = record.end
            elif record.end < highest and not again:
                self.reordering_seen = True
            if again and (age < rtt.shortest or (echoed_rtt is not None and echoed_rtt > age + TICK)):
                continue  # an ACK of an earlier transmission
            self._rtt = age
            if (record.sent_at, record.end) > (self._sent_at, self._end):
                self._sent_at, self._end = record.sent_at, record.end
        return highest

    def on_duplicate(self, snd_una: int, snd_nxt: int) -> None:
        """A D-SACK arrived: wait a quarter of a round trip longer; once a round trip."""
        self.reordering_seen = True
        if snd_una >= self._round_end:
            self._round_end = snd_nxt
            self._multiplier += 1
            self._recoveries_left = PATIENT_RECOVERIES

    def on_recovered(self) -> None:
        """A recovery has ended."""
        self._recoveries_left -= 1
        if self._recoveries_left <= 0:
            self._multiplier = 1

    def window(self, rtt: RttEstimator, impatient: bool) -> float:
        """Step 4: how much later than expected a packet may come. `impatient`: in recovery, or DupThresh
        segments are SACKed."""
        if impatient and not self.reordering_seen:
            return 0.0
        return min(self._multiplier * rtt.shortest / 4, rtt.srtt or 0.0)

    def patience(self, rtt: RttEstimator) -> float:
        """How long after it left a transmission is still expected to be answered."""
        return self._rtt + self.window(rtt, True)

    def losses(self, records: Iterable[Sent], window: float, now: float) -> tuple[list[Sent], float]:
        """Step 5: those that are lost, and how long until another may be (0: none)."""
        lost = []
        wait = 0.0
        sent_at, end = self._sent_at, self._end
        patience = self._rtt + window
        for record in records:
            if record.marks & (SACKED | LOST):
                continue
            if record.sent_at > sent_at or (record.sent_at == sent_at and record.end >= end):
                if not record.marks:
                    break  # and so did all behind it
                continue
            remaining = record.sent_at + patience - now
            if remaining <= 0:
                lost.append(record)
            elif remaining > wait:
                wait = remaining
        return lost, wait
