from __future__ import annotations

import asyncio

import pytest

from tunsmith.aio.inbox import Inbox


async def test_order_is_kept_and_the_bound_held() -> None:
    inbox: Inbox[int] = Inbox(2)
    assert [inbox.put(number) for number in range(3)] == [True, True, False]
    assert (len(inbox), inbox.lost) == (2, 1)
    assert [await inbox.get(), await inbox.get()] == [0, 1]


async def test_each_taker_gets_one() -> None:
    inbox: Inbox[int] = Inbox(9)
    takers = [asyncio.create_task(inbox.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(3):
        inbox.put(number)
    assert await asyncio.gather(*takers) == [0, 1, 2]


async def test_what_a_cancelled_taker_was_woken_for_goes_to_the_next() -> None:
    inbox: Inbox[int] = Inbox(9)
    first, second = asyncio.create_task(inbox.get()), asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put(1)
    first.cancel()
    assert await second == 1
    third = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    inbox.put(2)
    assert await inbox.get() == 2


async def test_the_end_is_told_to_all_and_gives_back_what_nobody_took() -> None:
    inbox: Inbox[int] = Inbox(9)
    takers = [asyncio.create_task(anext(inbox, None)) for _ in range(2)]
    await asyncio.sleep(0)
    assert inbox.close() == []
    assert await asyncio.gather(*takers) == [None, None]
    assert not inbox.put(1)
    assert [item async for item in inbox] == []
    other: Inbox[int] = Inbox(9)
    other.put(1)
    assert other.close(ValueError("why")) == [1]
    assert other.close() == []
    with pytest.raises(ValueError, match="why"):
        await other.get()
