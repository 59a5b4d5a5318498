"""What the numbers should be, and whether they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.runs import Results

US = "tunsmith"
SING_BOX = ("sing-box system", "sing-box gvisor")
STRONG_ON_CONNECTIONS = ("pasta", "slirp4netns")
PEERS = SING_BOX + STRONG_ON_CONNECTIONS
KERNEL = "no proxy"
EIGHT_STREAMS = ("tcp-up-8", "tcp-down-8")
MOST_MEMORY = 60.0
"""MiB, with 8 streams."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`measured` should be at least `wanted` (or at most, where less is better)."""

    text: str
    measured: float
    wanted: float
    unit: str = "×"
    less_is_better: bool = False

    @property
    def holds(self) -> bool:
        return self.measured <= self.wanted if self.less_is_better else self.measured >= self.wanted


AGAINST_ALL = {
    "tcp-up-1": 1.2, "tcp-down-1": 1.2, "tcp-up-8": 1.0, "tcp-down-8": 1.0,
    "udp-up": 1.0, "udp-down": 1.0, "gso-up": 3.0, "gso-down": 3.0,
}  # fmt: skip
"""Times the best of all peers, direct."""


def goals(results: Results) -> Iterator[Goal]:
    """Every goal the results can speak about."""
    for mode in results.plan.modes:
        for workload in results.plan.workloads:
            yield from ratio(results, mode, workload.name, SING_BOX, "sing-box", 1.3)
        yield from sparing(results, mode)
    for workload_name, wanted in AGAINST_ALL.items():
        yield from ratio(results, "direct", workload_name, PEERS, "the best peer", wanted)
    for workload_name in ("connections", "requests"):
        better = "the better of pasta and slirp4netns"
        yield from ratio(results, "direct", workload_name, STRONG_ON_CONNECTIONS, better, 0.8)
    for workload_name in ("tcp-up-1", "tcp-down-1"):
        yield from ratio(results, "direct", workload_name, (KERNEL,), "no proxy", 0.5)


def ratio(
    results: Results, mode: str, workload: str, others: Iterable[str], label: str, wanted: float
) -> Iterator[Goal]:
    """tunsmith over the best of `others` that were measured."""
    ours = results.value(mode, workload, US)
    theirs = [value for name in others if (value := results.value(mode, workload, name))]
    if ours is not None and theirs:
        yield Goal(f"{mode} {workload} against {label}", ours / max(theirs), wanted)


def sparing(results: Results, mode: str) -> Iterator[Goal]:
    """Less is better: memory with 8 streams, and processor time per byte with one."""
    ours = results.peak_memory(mode, EIGHT_STREAMS, US)
    theirs = [peak for name in SING_BOX if (peak := results.peak_memory(mode, EIGHT_STREAMS, name))]
    if ours:
        yield Goal(f"{mode} peak memory with 8 streams", ours / (1 << 20), MOST_MEMORY, "MiB", True)
        if theirs:
            yield Goal(f"{mode} memory of sing-box over ours", min(theirs) / ours, 1.3)
    for workload in ("tcp-up-1", "tcp-down-1"):
        spent = results.cpu_per_unit(mode, workload, US)
        others = [cpu for name in SING_BOX if (cpu := results.cpu_per_unit(mode, workload, name))]
        if spent and others:
            least = min(sum(cpu) for cpu in others)
            yield Goal(f"{mode} {workload} processor time of sing-box over ours", least / sum(spent), 1.3)
