"""Descriptors with an error queue, under either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def watch_again(
    loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[..., None], *args: object
) -> None:
    """Go on watching `fd` for reading, after an error on it was read.

    libuv takes POLLERR for the end of a descriptor and, having called back once, polls it no longer; for a
    socket with an error queue it only means that the queue has something."""
    loop.remove_reader(fd)
    loop.add_reader(fd, callback, *args)
