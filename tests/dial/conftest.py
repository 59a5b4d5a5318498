from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
import uvloop

_CLONE_NEWNET = 0x40000000


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both loops an engine may run on: they differ in how they wait for sockets."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def private_network() -> Iterator[Callable[..., None]]:
    """This thread, and so the sockets it opens, in a network of its own, which ends with the test.

    Gives a function that runs `ip` there, one command a line, with options."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET):
            pytest.skip("needs root")

        def ip(commands: str, *options: str) -> None:
            subprocess.run(["ip", *options, "-batch", "-"], input=commands, text=True, check=True)

        ip("link set lo up")
        yield ip
        if libc.setns(home, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(home)
