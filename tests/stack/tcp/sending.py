"""A connection that is going to send: for tests of what leaves, when, and again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack.tcp.peer import Peer, Segment, peer

MSS = 1460


def established(**settings: Any) -> Peer:
    """With an RTT of 0.1 s measured on the handshake, so an RTO of 0.3 s."""
    window = settings.pop("window", 65535)
    other = peer(**settings)
    other.window = window
    other.knock()
    other.now += 0.1
    assert other.send(".", 1) == []
    other.events()
    assert other.connection.sender.rtt.rto == pytest.approx(0.3)
    return other


def brief(segments: list[Segment]) -> list[tuple[str, int, int]]:
    """Flags, seq and length of each."""
    return [(segment.flags, segment.seq, len(segment.data)) for segment in segments]
