"""Which process it is, and which boot of the machine: a number of a process is given again, both together are not."""

from __future__ import annotations

import os
from dataclasses import dataclass

_START_TIME = 22 - 3
"""Field 22 of /proc/PID/stat, counted from behind the name: proc(5)."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process: `started` is in clock ticks since the boot."""

    pid: int
    started: int

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(os.getpid(), _started(os.getpid()))

    def is_alive(self) -> bool:
        """Whether it runs, as far as /proc shows."""
        try:
            return _started(self.pid) == self.started
        except OSError:
            return False


def boot_id() -> str:
    """What the kernel calls this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _started(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return int(fields[_START_TIME])
