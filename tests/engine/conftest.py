"""An engine for each test that asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import tunsmith.engine
from tests.engine.bench import Bench, Clock, Notes, descriptors
from tests.inside import Inside, Upstream, until
from tunsmith.config import Limits, Settings
from tunsmith.device.memory import MemoryDevice
from tunsmith.engine import Engine


@pytest_asyncio.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """An engine at work. Afterwards it has left nothing in the event loop, and no descriptor."""
    before = descriptors()
    clock, notes, upstream = Clock(), Notes(), Upstream()
    monkeypatch.setattr(tunsmith.engine, "SWEEP", 0.001)
    ours, theirs = MemoryDevice.pair()
    engine = Engine(
        ours, upstream, Settings(limits=Limits(flows=8), resolvers=("192.0.2.53",)), notes, clock=clock
    )
    await engine.start()
    inside = Inside(theirs)
    yield Bench(engine, inside, upstream, notes, clock, ours)
    engine.close()
    inside.close()
    upstream.close()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "the end of all tasks")
    assert descriptors() == before
