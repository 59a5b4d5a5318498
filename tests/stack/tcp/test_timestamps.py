"""Timestamps of the peer: RFC 7323."""

from __future__ import annotations

import pytest

from tests.stack.tcp.peer import Peer, Segment, peer
from tests.stack.tcp.receiving import established
from tunsmith.wire.tcp import TcpOptions


def stamped() -> Peer:
    other = peer(timestamps=True)
    other.stamp = 100
    other.establish()
    return other


def echoed(segment: Segment) -> int:
    assert segment.options.timestamp is not None
    return segment.options.timestamp[1]


def test_an_older_timestamp_is_refused_with_an_ack__rfc7323_5_3() -> None:
    other = stamped()
    other.stamp = 200
    other.send(".", 1, b"new")
    other.wait(0.1)
    other.stamp = 150
    (ack,) = other.send(".", 4, b"old duplicate")
    assert (ack.ack, echoed(ack)) == (4, 200)
    (ack,) = other.send(".", 500, b"old duplicate")
    assert echoed(ack) == 200
    assert other.connection.readable_bytes == 3


def test_timestamps_wrap() -> None:
    other = peer(timestamps=True)
    other.stamp = 0xFFFFFFF0
    other.establish()
    other.stamp = 5
    other.send(".", 1, b"after the wrap")
    assert other.read() == b"after the wrap"


def test_an_old_timestamp_does_not_save_from_a_reset() -> None:
    other = stamped()
    other.stamp = 50
    other.send("R", 1)
    assert not other.stack.connections


def test_a_segment_without_the_timestamp_is_dropped__rfc7323_3_2() -> None:
    other = stamped()
    assert other.send(".", 1, b"naked", options=TcpOptions()) == []
    assert other.connection.readable_bytes == 0
    assert other.stack.drops["tcp_without_timestamp"] == 1


def test_a_timestamp_nobody_asked_for_is_ignored() -> None:
    other = established()
    other.stamp = 7
    other.send(".", 1, b"text")
    assert other.read() == b"text"


def test_the_echo_is_that_of_the_segment_the_ack_waits_for__rfc7323_4_3() -> None:
    other = stamped()
    other.stamp = 101
    other.send(".", 1, bytes(1448))
    other.stamp = 102
    (ack,) = other.send(".", 1449, bytes(1448))
    assert echoed(ack) == 101
    other.stamp = 103
    other.send(".", 2897, b"x")
    (ack,) = other.wait(0.1)
    assert echoed(ack) == 103


def test_the_echo_is_that_of_the_first_in_other_states_as_well() -> None:
    other = stamped()
    other.connection.shutdown(other.now)
    other.answers()
    other.stamp = 101
    other.send(".", 1, b"one", ack=2)
    other.stamp = 102
    other.send(".", 4, b"two", ack=2)
    (ack,) = other.wait(0.1)
    assert (ack.ack, echoed(ack)) == (7, 101)


def test_the_echo_is_that_of_the_segment_that_fills_the_gap__rfc7323_4_3() -> None:
    other = stamped()
    other.stamp = 101
    (ack,) = other.send(".", 11, bytes(10))
    assert echoed(ack) == 100
    other.stamp = 102
    (ack,) = other.send(".", 1, bytes(10))
    assert echoed(ack) == 102


def test_the_clock_ticks_in_milliseconds__rfc7323_5_4() -> None:
    other = stamped()
    (first,) = other.send(".", 500, b"gap")
    other.now += 2.5
    other.stamp = 101
    (second,) = other.send(".", 500, b"gap")
    assert first.options.timestamp is not None
    assert second.options.timestamp is not None
    assert second.options.timestamp[0] - first.options.timestamp[0] == 2500


def test_options_in_another_order_are_understood() -> None:
    other = stamped()
    raw = b"\x08\x0a" + (101).to_bytes(4, "big") + bytes(4) + b"\x01\x01"
    other.send(".", 1, b"text", raw_options=raw)
    assert other.read() == b"text"


HALF_A_TURN = (1 << 31) / 1000
"""Of our timestamp clock, in seconds: 24.8 days."""


@pytest.mark.parametrize("flags", [".", "U."])
def test_a_timestamp_is_not_believed_for_ever__rfc7323_5_5(flags: str) -> None:
    other = peer(timestamps=True)
    other.stamp = 1000
    synack = other.knock()
    assert synack.options.timestamp is not None
    other.echo = synack.options.timestamp[0]
    other.send(".", 1)
    other.now += HALF_A_TURN - 1.0
    other.stamp = 999
    other.send(flags, 1, b"too early")
    assert other.connection.readable_bytes == 0
    other.now += 1.0
    other.send(flags, 1, b"text")
    assert other.read() == b"text"
