"""Who has a TUN or TAP interface open: the processes whose descriptors of /dev/net/tun say its name.

The same name may exist in many network namespaces, and a descriptor of one can be held by a process in another. So
the descriptor is asked for its namespace, by a copy of it (pidfd_getfd(2)); where that is not granted, the process's
own namespace has to do.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from tunsmith.host.syscalls import pidfd_getfd
from tunsmith.host.tun import CLONE_DEVICE

_TUNGETDEVNETNS = 0x54E3
_NAME = re.compile(r"^iff:\s*(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, and what ps calls it."""

    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program} (process {self.pid})"


def holders(name: str) -> list[Holder]:
    """The processes that have the interface `name` of this network namespace open, as far as we may look: root
    may everywhere, others at their own."""
    here = os.stat("/proc/thread-self/ns/net").st_ino
    found = []
    for pid in sorted(int(each) for each in os.listdir("/proc") if each.isdecimal()):
        with suppress(OSError):
            if any(_namespace(pid, fd) == here for fd in _descriptors(pid, name)):
                found.append(Holder(pid, _program(pid)))
    return found


def _descriptors(pid: int, name: str) -> Iterator[int]:
    """Those of process `pid` for an interface called `name`, in whatever namespace."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if not os.readlink(f"/proc/{pid}/fd/{fd}").endswith(CLONE_DEVICE):
                continue
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="utf-8", errors="replace") as file:
                if name in _NAME.findall(file.read()):
                    yield int(fd)


def _namespace(pid: int, fd: int) -> int:
    """The inode of the network namespace of the interface behind descriptor `fd` of process `pid`."""
    try:
        with ExitStack() as opened:
            process = _opened(opened, os.pidfd_open(pid))
            copy = _opened(opened, pidfd_getfd(process, fd))
            return os.fstat(_opened(opened, fcntl.ioctl(copy, _TUNGETDEVNETNS))).st_ino
    except OSError:
        return os.stat(f"/proc/{pid}/ns/net").st_ino


def _opened(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _program(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
