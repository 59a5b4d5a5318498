"""Bytes that tell when some were lost, doubled or swapped: numbered blocks, the same at both ends."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

BLOCK = 1 << 16


def blocks(size: int) -> Iterator[bytes]:
    """`size` bytes in blocks, each with its number at its head."""
    body = random.Random(7).randbytes(BLOCK - 8)
    for number in range(-(-size // BLOCK)):
        block = number.to_bytes(8, "big") + body
        yield block[: min(BLOCK, size - number * BLOCK)]


def digest(size: int) -> str:
    """The sha256 of all of it."""
    sha = hashlib.sha256()
    for block in blocks(size):
        sha.update(block)
    return sha.hexdigest()
