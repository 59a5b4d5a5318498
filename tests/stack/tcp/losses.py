"""A peer that loses segments on purpose: the other end for tests of loss recovery."""

from __future__ import annotations

from typing import Any

from tests.stack.tcp.peer import Peer, Segment, peer
from tunsmith.stack.tcp.recovery import Phase, Recovery
from tunsmith.wire.tcp import TcpOptions

MSS = 1460
RTT = 0.1
Brief = tuple[str, int, int]
"""Flags, first segment and length in segments of MSS, of what was sent."""


def troubled(*, sack: bool = True, stamps: bool = False, **settings: Any) -> Peer:
    """A peer RTT away, with a window that is never the limit. Without RACK and TLP unless asked for."""
    settings = {"congestion": "reno", "rack": False, "tlp": False, **settings}
    other = peer(sack=sack, timestamps=stamps, window_scaling=False, mtu=1500 + 12 * stamps, **settings)
    if stamps:
        other.stamp = 1
    other.knock(
        options=TcpOptions(mss=MSS + 12 * stamps, sack_permitted=sack, timestamp=(1, 0) if stamps else None)
    )
    other.now += RTT
    if stamps:
        other.stamp, other.echo = 2, echo(other)
    assert other.send(".", 1) == []
    other.events()
    return other


def echo(other: Peer, ago: float = RTT) -> int:
    """The timestamp of what the stack sent `ago` seconds ago."""
    return other.connection.ts_now(other.now - ago)


def segments(sent: list[Segment]) -> list[Brief]:
    """`sent` in segments: the first is number 0."""
    assert all((segment.seq - 1) % MSS == 0 for segment in sent)
    return [(segment.flags, (segment.seq - 1) // MSS, -(-len(segment.data) // MSS)) for segment in sent]


def ack(other: Peer, upto: int, *blocks: tuple[int, int], ago: float = RTT) -> list[Brief]:
    """Acknowledge segments below `upto`, SACK `blocks` of segments; returns what is sent at once."""
    sack = tuple(
        ((other.iss + 1 + start * MSS) & 0xFFFFFFFF, (other.iss + 1 + end * MSS) & 0xFFFFFFFF)
        for start, end in blocks
    )
    stamp = None
    if other.stamp is not None:
        other.stamp += 1
        stamp = (other.stamp, echo(other, ago))
    options = TcpOptions(sack=sack, timestamp=stamp)
    return segments(other.send(".", 1, ack=1 + upto * MSS, options=options))


def take(other: Peer, count: int) -> list[Brief]:
    """Have `count` segments sent."""
    return segments(other.take(bytes(count * MSS)))


def recovery(other: Peer) -> Recovery:
    found = other.connection.sender.recovery
    assert found is not None
    return found


def phase(other: Peer) -> Phase | None:
    """None on the quiet path."""
    sender = other.connection.sender
    return recovery(other).phase if sender.troubled else None


def flight(other: Peer) -> tuple[int, int, int]:
    """Segments in the network, SACKed, lost."""
    board = recovery(other).board
    return recovery(other).pipe // MSS, board.sacked // MSS, board.lost // MSS
