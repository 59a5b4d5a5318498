"""What one connection's sender has measured, as `ss -i` shows it for the kernel's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunsmith.stack.tcp.congestion import UNLIMITED
from tunsmith.stack.tcp.scoreboard import LOST, SACKED

if TYPE_CHECKING:
    from tunsmith.stack.tcp.sender import Sender


@dataclass(frozen=True, slots=True)
class Statistics:
    """A moment of a connection. Windows are bytes, times seconds; what is out, SACKed, lost and sent again is
    counted in packets of `mss`."""

    mss: int
    cwnd: int
    ssthresh: int | None
    """None before the first loss."""
    packets_out: int
    """Sent and not acknowledged, SACKed and lost ones included."""
    sacked: int
    lost: int
    """Taken for lost and not sent again yet."""
    retransmitted: int
    """Of all that was sent so far."""
    rto: float
    srtt: float | None
    """None before the first sample."""
    rttvar: float
    phase: str
    """`open`, `reduction`, `recovery` or `loss` (recovery.py)."""


def statistics_of(sender: Sender) -> Statistics:
    """The present state of `sender`."""
    counts = {0: 0, SACKED: 0, LOST: 0}
    for record in sender.inflight:
        counts[record.marks & (SACKED | LOST)] += -(-len(record) // sender.mss)
    rtt, cc = sender.rtt, sender.cc
    return Statistics(
        mss=sender.mss,
        cwnd=cc.cwnd,
        ssthresh=None if cc.ssthresh >= UNLIMITED else cc.ssthresh,
        packets_out=sum(counts.values()),
        sacked=counts[SACKED],
        lost=counts[LOST],
        retransmitted=sender.retransmits,
        rto=rtt.rto,
        srtt=rtt.srtt,
        rttvar=rtt.rttvar,
        phase="open" if sender.recovery is None else sender.recovery.phase.value,
    )
