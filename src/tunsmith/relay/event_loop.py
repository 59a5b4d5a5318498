"""The event loop of a process that runs an engine: uvloop's where it is installed."""

from __future__ import annotations

from asyncio import AbstractEventLoop


def new_event_loop() -> AbstractEventLoop:
    """A fresh one, for asyncio.Runner or `run_until_complete`."""
    try:
        import uvloop
    except ImportError:
        import asyncio

        return asyncio.new_event_loop()
    loop: AbstractEventLoop = uvloop.new_event_loop()
    return loop
