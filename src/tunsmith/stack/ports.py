"""Ephemeral ports that nobody outside can guess: RFC 6056 §3.3.3, with the random steps of §3.3.5.

A keyed hash of the other three parts of the connection's ends gives a place in the range, a counter goes on
from there: ports towards one destination are not used again for long, and say nothing about those towards
another.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

LARGEST_STEP = 16
"""The counter grows by up to this much at a time, so that it does not tell how many connections were made."""


class EphemeralPorts:
    """Chooses ports in [first, last]. `random(n)` gives n random bytes."""

    __slots__ = ("_count", "_first", "_next", "_random", "_secret")

    def __init__(self, first: int, last: int, secret: bytes, random: Callable[[int], bytes]) -> None:
        self._first = first
        self._count = last - first + 1
        self._secret = secret
        self._random = random
        self._next = int.from_bytes(random(2), "big")

    def choose(
        self, local: bytes, remote: bytes, remote_port: int, taken: Callable[[int], bool]
    ) -> int | None:
        """A port on `local` towards `remote` that is not `taken`; None when all are."""
        ends = local + remote + remote_port.to_bytes(2, "big")
        digest = blake2b(ends, key=self._secret, digest_size=4, person=b"port").digest()
        start = int.from_bytes(digest, "big") + self._next
        for step in range(self._count):
            port = self._first + (start + step) % self._count
            if not taken(port):
                self._next += step + 1 + self._random(1)[0] % LARGEST_STEP
                return port
        return None


class KeyedRandom:
    """Random bytes out of a secret: for stacks whose owner gave a secret but no source of randomness."""

    __slots__ = ("_drawn", "_secret")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._drawn = 0

    def __call__(self, count: int) -> bytes:
        """`count` bytes, 64 at most, never those of an earlier call but by chance."""
        self._drawn += 1
        number = self._drawn.to_bytes(8, "big")
        return blake2b(number, key=self._secret, digest_size=count, person=b"random").digest()
