from __future__ import annotations

import asyncio
from itertools import count

from tunsmith.aio.pump import Pump
from tunsmith.device.memory import MemoryDevice
from tunsmith.stack.stack import Stack


async def test_time_stands_still_during_a_turn__rfc7323_5() -> None:
    """Else a frame that a handler sends in the middle would have a later timestamp than the stack's own after it."""
    near, far = MemoryDevice.pair()
    clock = map(float, count())
    stack, done = Stack(), asyncio.Event()
    seen: list[tuple[float, float]] = []

    def receive(frame: memoryview, length: int, now: float) -> None:
        seen.append((now, pump.now()))
        if len(seen) == 3:
            done.set()

    pump = Pump(lambda: next(clock), lambda error: None, lambda: None)
    pump.start(stack, [(near, receive)])
    for _ in range(3):
        far.write((bytes(60),))
    await done.wait()
    assert len({time for pair in seen for time in pair}) == 1
    assert pump.now() < pump.now()
    pump.stop()
    pump.stop()
    near.close()
    far.close()
