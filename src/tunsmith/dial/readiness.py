"""Wait for one descriptor, once. Not loop.sock_connect and the like: uvloop's loses the scope of an address."""

from __future__ import annotations

import asyncio


async def readable(descriptor: int) -> None:
    """Return when `descriptor` has something to read, or an error."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def writable(descriptor: int) -> None:
    """Return when `descriptor` takes something, is connected, or has an error."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
