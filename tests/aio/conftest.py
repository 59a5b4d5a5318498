from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.aio.pair import Pair, two_stacks


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Two stacks on one wire; what they leave open is closed, and no task may be left."""
    async with two_stacks() as both:
        yield both
