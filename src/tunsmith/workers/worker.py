"""A worker: one queue of the TUN, one engine, one process. workers/crew.py starts it, and it lives for the crew.

    python -P -m tunsmith.workers.worker CONTROL NAMES QUEUE      three descriptors

CONTROL brings the job and orders (workers/orders.py), one word goes back, READY or why not, and its end is the worker's
end. Over NAMES the keeper of the fake addresses is asked (workers/slots.py).
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING

from tunsmith.errors import TunsmithError
from tunsmith.workers import orders
from tunsmith.workers.slots import KeeperGone, LeasedSlots

if TYPE_CHECKING:
    from tunsmith.engine import Engine
    from tunsmith.workers.orders import Job

READY = b"ready"
DEVICE_LOST = 3
"""The exit code of a worker whose queue has ended."""
_NOT_MEANT_FOR_US = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal and systemd send these to every process; the crew is told by its keeper."""


def main(control: int, names: int, queue: int) -> None:
    """Work until the keeper ends."""
    from tunsmith.host.syscalls import keep_freed_memory, set_parent_death_signal
    from tunsmith.relay.event_loop import new_event_loop

    for number in _NOT_MEANT_FOR_US:
        signal.signal(number, signal.SIG_IGN)
    set_parent_death_signal(signal.SIGKILL)
    keep_freed_memory(trim=32 << 20, mmap=1 << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.socket(fileno=control) as channel, socket.socket(fileno=names) as keeper:
        channel.setblocking(True)
        try:
            job = orders.receive(channel)
        except EOFError:
            return
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_work(job, channel, LeasedSlots(keeper), queue))


async def _work(job: Job, channel: socket.socket, slots: LeasedSlots, queue: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_leave_without_keeper)
    try:
        engine = job(queue, slots)
        engine.on_device_lost = lambda: os._exit(DEVICE_LOST)
        await engine.start()
    except TunsmithError as error:
        channel.send(str(error).encode())
        return
    gc.collect()
    gc.set_threshold(50_000, 20, 20)  # as in cli/run.py
    gc.freeze()
    channel.send(READY)
    dismissed = asyncio.Event()
    loop.add_reader(channel.fileno(), _obey, channel, engine, dismissed)
    try:
        await dismissed.wait()
    finally:
        loop.remove_reader(channel.fileno())
        engine.close()


def _obey(channel: socket.socket, engine: Engine, dismissed: asyncio.Event) -> None:
    try:
        order = orders.receive(channel)
    except EOFError:
        dismissed.set()
    else:
        order(engine)


def _leave_without_keeper(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    if isinstance(context.get("exception"), KeeperGone):
        os._exit(1)
    loop.default_exception_handler(context)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
