"""Two stacks and the wire between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import tunsmith
from tunsmith.device.memory import MemoryDevice
from tunsmith.stack.config import StackConfig

LEFT = {4: "10.7.0.1", 6: "fd07::1"}
RIGHT = {4: "10.7.0.2", 6: "fd07::2"}
NOBODY = {4: "10.7.0.9", 6: "fd07::9"}
ELSEWHERE = {4: "203.0.113.5", 6: "2001:db8::5"}

Pair = tuple[tunsmith.Stack, tunsmith.Stack]


@asynccontextmanager
async def two_stacks(
    config: StackConfig | None = None, *, offload: int = 0x6F, limit: int = 1024
) -> AsyncIterator[Pair]:
    """LEFT and RIGHT, started; closed without patience."""
    near, far = MemoryDevice.pair(offload=offload, limit=limit)
    left = tunsmith.Stack(near, [f"{LEFT[4]}/24", f"{LEFT[6]}/64"], config=config)
    right = tunsmith.Stack(far, [f"{RIGHT[4]}/24", f"{RIGHT[6]}/64"], config=config)
    try:
        left.start()
        right.start()
        yield left, right
    finally:  # neither waits for what the other, gone first, would have acknowledged
        await left.close(linger=0)
        await right.close(linger=0)
