"""Fair comparisons: all contenders meet the same losses, and shares are reckoned as Jain did."""

from __future__ import annotations

import pytest

from bench.fairness import jain
from bench.lossy import FlowLosses

PORT = 22


def packet(port: int, number: int) -> bytes:
    """A frame whose TCP destination port is `port`; `number` tells it from others."""
    frame = bytearray(10 + 20 + 20)
    frame[10] = 0x45
    frame[10 + PORT : 10 + PORT + 2] = port.to_bytes(2, "big")
    return bytes(frame) + number.to_bytes(4, "big")


def arrived(seed: str, ports: list[int], packets: int = 200) -> dict[int, list[bytes]]:
    """What gets through, by flow, when flows take turns."""
    losses = FlowLosses(seed, PORT, 0.1, 0.01)
    for number in range(packets):
        for port in ports:
            losses.send(packet(port, number), 0.0)
    frames = losses.receive(1.0)
    at = slice(10 + PORT, 10 + PORT + 2)
    return {port: [frame for frame in frames if frame[at] == port.to_bytes(2, "big")] for port in ports}


def test_what_a_flow_loses_depends_on_nothing_but_seed_flow_and_number() -> None:
    alone, beside = arrived("1", [40000]), arrived("1", [40001, 40000])
    assert alone[40000] == beside[40000]
    assert 0 < len(alone[40000]) < 200
    assert [frame[-4:] for frame in beside[40001]] != [frame[-4:] for frame in beside[40000]]
    assert arrived("2", [40000])[40000] != alone[40000]


def test_packets_arrive_after_the_delay_and_lateness_is_counted() -> None:
    losses = FlowLosses("1", PORT, 0.0, 0.01)
    losses.send(packet(40000, 0), 5.0)
    assert losses.next_deadline() == pytest.approx(5.01)
    assert losses.receive(5.0) == []
    assert len(losses.receive(5.03)) == 1
    assert losses.lateness == pytest.approx(0.02)
    assert losses.next_deadline() is None


def test_jains_index() -> None:
    assert jain([5.0, 5.0]) == 1.0
    assert jain([10.0, 0.0]) == 0.5
    assert jain([3.0, 1.0]) == pytest.approx(0.8)
