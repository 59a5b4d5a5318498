"""Python imports this first in every `tunsmith` of these tests: at the end of the process (not of its guard, which has
let go of what is its parent's) it writes down, in the file $TUNSMITH_WITNESS, what is still open or under way that
should not be, one line each."""

from __future__ import annotations

import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing here may make the start slower than it is
    from collections.abc import Iterator
    from typing import NoReturn

_leave = os._exit
_witnessed = os.getpid()
_OURS = ("/dev/net/tun", ".pcapng", "[pidfd]", "[signalfd]")


def _tasks() -> Iterator[str]:
    """Those that nobody has told to end."""
    from asyncio import tasks

    for task in [*getattr(tasks, "_all_tasks", ()), *getattr(tasks, "_scheduled_tasks", ())]:
        if not task.done() and not task.cancelling():
            yield f"task {task!r}"


def _descriptors() -> Iterator[str]:
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            place = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # that of the listing itself
            continue
        if place.endswith(_OURS) or (place.startswith("socket:") and _is_of_the_network(number)):
            yield f"descriptor {number}: {place}"


def _is_of_the_network(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)


def _leave_and_tell(status: int) -> NoReturn:
    if "tunsmith.engine" in sys.modules and os.getpid() == _witnessed:
        with open(os.environ["TUNSMITH_WITNESS"], "a") as file:
            file.writelines(f"{line}\n" for line in (*_tasks(), *_descriptors()))
    _leave(status)


if "TUNSMITH_WITNESS" in os.environ:
    os._exit = _leave_and_tell
