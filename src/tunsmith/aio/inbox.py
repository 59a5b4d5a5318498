"""What has arrived and waits to be taken: bounded, for any number of takers, with an end."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """A queue of at most `limit` items; what does not fit is not taken, and counted in `lost`. Iteration ends with
    `close`, or raises the error that `close` was given."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._error: Exception | None = None
        self.closed = False
        self.lost = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> bool:
        """Add `item`; whether there was room."""
        if self.closed or len(self._items) >= self._limit:
            self.lost += 1
            return False
        self._items.append(item)
        self._wake_one()
        return True

    async def get(self) -> Item:
        """The oldest item, once there is one. Raises StopAsyncIteration, or the error given to `close`, when there
        will be none any more."""
        while not self._items:
            if self.closed:
                raise self._error or StopAsyncIteration
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except BaseException:
                if taker in self._takers:
                    self._takers.remove(taker)
                elif self._items:
                    self._wake_one()  # it was our turn, and we are not going to take it
                raise
        return self._items.popleft()

    def close(self, error: Exception | None = None) -> list[Item]:
        """No more items. Returns those that nobody has taken; they are the caller's now."""
        left = list(self._items)
        self._items.clear()
        if not self.closed:
            self.closed = True
            self._error = error
            while self._takers:
                self._wake_one()
        return left

    def _wake_one(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        return await self.get()
