"""What a connection tells of itself."""

from __future__ import annotations

import pytest

from tests.stack.tcp.losses import MSS, RTT, ack, take, troubled


def test_a_connection_without_losses() -> None:
    other = troubled()
    take(other, 4)
    found = other.connection.statistics()
    assert (found.mss, found.cwnd, found.ssthresh) == (MSS, 10 * MSS, None)
    assert (found.packets_out, found.sacked, found.lost, found.retransmitted) == (4, 0, 0, 0)
    assert (found.srtt, found.rttvar, found.rto) == pytest.approx((RTT, RTT / 2, 3 * RTT))
    assert found.phase == "open"


def test_a_connection_in_trouble() -> None:
    other = troubled()
    take(other, 10)
    ack(other, 0, (7, 10))
    found = other.connection.statistics()
    assert (found.packets_out, found.sacked, found.lost, found.retransmitted) == (10, 3, 4, 3)
    assert (found.phase, found.ssthresh) == ("recovery", 5 * MSS)
