"""An engine at work, between an application and an upstream that are both scripted."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from tests.inside import Inside, Upstream, until
from tunsmith.device.memory import MemoryDevice
from tunsmith.engine import Engine
from tunsmith.relay.report import FlowRecord

QUERY = bytes.fromhex("123401000001000000000000") + b"\3www\7example\4test\0" + bytes((0, 1, 0, 1))
"""www.example.test, type A."""


class Clock:
    """The engine's time: the real one, moved on by the test."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Notes:
    """What was reported."""

    def __init__(self) -> None:
        self.flows: list[FlowRecord] = []
        self.notices: list[str] = []

    def flow_ended(self, record: FlowRecord) -> None:
        self.flows.append(record)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    @property
    def outcomes(self) -> list[str]:
        return [record.outcome for record in self.flows]


@dataclass
class Bench:
    engine: Engine
    inside: Inside
    upstream: Upstream
    notes: Notes
    clock: Clock
    device: MemoryDevice


def descriptors() -> list[str]:
    """What the open descriptors of this process lead to."""
    places = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(place) for place in places if os.path.islink(place))


async def swept(bench: Bench, ahead: float) -> None:
    """Move time on and wait until the sweeper has seen it."""
    bench.clock.ahead += ahead
    handle = bench.engine._sweeper
    await until(lambda: bench.engine._sweeper is not handle)
    handle = bench.engine._sweeper
    await until(lambda: bench.engine._sweeper is not handle)
