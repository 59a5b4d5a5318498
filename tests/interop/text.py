"""What is said, from a seed; and what was heard. Both are hashed on the way, so that neither has to be kept."""

from __future__ import annotations

import time
from hashlib import sha256
from random import Random

BLOCK = 64 << 10


class Text:
    """`size` bytes that differ wherever one looks; fewer if `until` (monotonic time) comes first."""

    def __init__(self, seed: int, size: int, until: float) -> None:
        self._random = Random(seed)
        self._left = size
        self._until = until
        self._hash = sha256()
        self.length = 0
        self.rest = memoryview(b"")
        """Of the last block, what nobody has taken yet."""

    def more(self) -> memoryview:
        """What is to be said next; empty at the end."""
        if not self.rest and self._left and (not self.length or time.monotonic() < self._until):
            block = self._random.randbytes(min(BLOCK, self._left))
            self._left -= len(block)
            self._hash.update(block)
            self.length += len(block)
            self.rest = memoryview(block)
        return self.rest

    def taken(self, number: int) -> None:
        """So many bytes of `rest` are on their way."""
        self.rest = self.rest[number:]

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Heard:
    """What arrived."""

    def __init__(self) -> None:
        self._hash = sha256()
        self.length = 0

    def add(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.length += len(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
