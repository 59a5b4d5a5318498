"""Standard input and output in an event loop: pipes, terminals, files and sockets, in whatever mode they came.

They are shared with other programs, so their mode is not ours to change: instead of O_NONBLOCK there is a look
before each call. A pipe that is ready takes PIPE_BUF bytes without blocking, pipe(7). Files are always ready.
"""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator

from tunsmith.dial.readiness import readable, writable

PIPE_BUF = select.PIPE_BUF


async def read_chunks(fd: int, most: int) -> AsyncIterator[bytes]:
    """What comes out of `fd`, as it comes, at most `most` bytes at a time, until its end."""
    while True:
        await _ready(fd, select.POLLIN)
        try:
            data = os.read(fd, most)
        except BlockingIOError:
            continue
        if not data:
            return
        yield data


async def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, as fast as it is taken. Raises OSError: EPIPE where nobody reads any more."""
    rest = memoryview(data)
    while rest:
        await _ready(fd, select.POLLOUT)
        try:
            rest = rest[os.write(fd, rest[:PIPE_BUF]) :]
        except BlockingIOError:
            continue


async def _ready(fd: int, event: int) -> None:
    """Return when `fd` can be read or written without blocking, or has an error to tell."""
    look = select.poll()
    look.register(fd, event)
    if not look.poll(0):
        await (readable(fd) if event == select.POLLIN else writable(fd))
