"""What a contender costs: processor time and memory of its processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of processor time in user space and in the kernel; memory in bytes.

    The kernel's share is what it spends in the name of these processes: the work of soft interrupts
    (receiving from the veth, say) lands on whoever runs at that moment, and is not in here."""

    user: float = 0.0
    system: float = 0.0
    peak_rss: int = 0
    """Highest resident size since each process began, summed."""
    pss: int = 0
    """Proportional size now: shared pages count by their share."""

    @property
    def cpu(self) -> float:
        return self.user + self.system

    def since(self, earlier: Cost) -> Cost:
        """Processor time since `earlier`, memory as of now."""
        return Cost(self.user - earlier.user, self.system - earlier.system, self.peak_rss, self.pss)


def cost_of(pids: Iterable[int]) -> Cost:
    """The cost so far of those of `pids` that live."""
    user = system = 0.0
    peak = pss = 0
    for pid in pids:
        try:
            # The name may hold blanks and brackets; fields count from behind it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        user += int(fields[11]) * TICK
        system += int(fields[12]) * TICK
        peak += kibibytes(status, "VmHWM")
        pss += kibibytes(rollup, "Pss")
    return Cost(user, system, peak, pss)


def kibibytes(text: str, name: str) -> int:
    """The field `name` of a /proc file whose lines read `Name:  123 kB`, in bytes; 0 where it is absent."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return 0


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`, parents first."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (int(child), *descendants(int(child)))]


def name_of(pid: int) -> str:
    """The name of a process (`comm`), empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
