"""How two flows share a bottleneck: one of ours beside one of the kernel's CUBIC, and each beside its like.

    python -m bench.fairness [--seconds 40] [--seeds 1 2 3] [--only 20/40/1 ...] [--json FILE]     as root

Both send to the same kernel, through one queue in front of one wire (bench/emulated.py). What they get
depends on who comes first and by how much: the second starts up to a second later, as the seed says, and
the two take turns in being second. Two kernels side by side show how much of an imbalance is only that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from bench.emulated import (
    FAR,
    OTHER_FAR,
    End,
    KernelEnd,
    StackEnd,
    carry,
    in_a_process,
    near_end,
)
from tunsmith.device.faulty import FaultyDevice
from tunsmith.stack.config import StackConfig
from tunsmith.testing.faults import Faults, Link


@dataclass(frozen=True)
class Cell:
    """A path: megabits a second, milliseconds of round trip, and a queue of so many times what is in flight then."""

    rate: int
    rtt: int
    queue: float

    @property
    def name(self) -> str:
        return f"{self.rate}/{self.rtt}/{self.queue:g}"


CELLS = [Cell(20, 40, 0.5), Cell(20, 40, 1), Cell(20, 40, 4), Cell(20, 100, 1)]
PAIRS = ("kernel kernel", "ours kernel", "ours ours")


@dataclass(frozen=True)
class Run:
    """One measurement: `rate` in bytes a second, `rtt` in seconds, `queue` in bytes. `pair`: who sends."""

    pair: str
    rate: float
    rtt: float
    queue: float
    seconds: float
    seed: int


def measure(run: Run) -> list[float]:
    """Megabits a second that each of the pair got."""
    head_start = Random(run.seed).random()
    began = time.monotonic()
    end = began + run.seconds
    near, near_result = near_end(False, end)
    path = Faults(Random(run.seed), rate=run.rate, queue=run.queue, delay=run.rtt / 2)
    wire = FaultyDevice(near, Link(Faults(Random(run.seed), delay=run.rtt / 2)), Link(path))
    ends: dict[str, End] = {}
    for place, (address, who) in enumerate(zip((FAR, OTHER_FAR), run.pair.split(), strict=True)):
        starts = [began + head_start * ((place + run.seed) % 2)]
        if who == "kernel":
            ends[address] = KernelEnd(address, starts, True, end, wire)
        else:
            ends[address] = StackEnd(address, starts, True, StackConfig(), wire)
    carry(wire, ends, end)
    received = near_result()
    return [
        sum(count for flow, count in received.items() if flow.startswith(f"{address}:"))
        * 8
        / run.seconds
        / 1e6
        for address in ends
    ]


def jain(speeds: list[float]) -> float:
    """Jain's index: 1 where all have the same, 1/n where one has all."""
    return float(sum(speeds) ** 2 / len(speeds) / sum(speed**2 for speed in speeds))


HEAD = """\
| Mbit/s | RTT ms | queue | ours : the kernel's, Mbit/s | the kernel's share | Jain's index | kernel beside kernel \
| ours beside ours | in use |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


def row(cell: Cell, runs: dict[str, list[list[float]]]) -> str:
    """A line of the table; medians over the seeds."""

    def index(pair: str) -> str:
        indices = [jain(speeds) for speeds in runs[pair]]
        return f"{statistics.median(indices):.3f} ({min(indices):.3f} to {max(indices):.3f})"

    mixed = runs["ours kernel"]
    shares = [kernel / (ours + kernel) for ours, kernel in mixed]
    ours, kernel = (statistics.median(speeds[place] for speeds in mixed) for place in (0, 1))
    used = statistics.median(sum(speeds) for speeds in mixed) / cell.rate
    return (
        f"| {cell.rate} | {cell.rtt} | {cell.queue:g} × | {ours:.1f} : {kernel:.1f} "
        f"| **{statistics.median(shares):.0%}** ({min(shares):.0%} to {max(shares):.0%}) | {index('ours kernel')} "
        f"| {index('kernel kernel')} | {index('ours ours')} | {used:.0%} |"
    )


def measure_cell(
    cell: Cell, seeds: Iterable[int], seconds: float, known: dict[str, list[list[float]]]
) -> None:
    """Add what all pairs get, for each seed, to `known`. Pairs are measured at once, each on a path of its own: they
    mostly wait."""
    rate = cell.rate * 1e6 / 8
    queue = cell.queue * rate * cell.rtt / 1000
    with ThreadPoolExecutor(len(PAIRS)) as pool:
        for seed in seeds:
            runs = [Run(pair, rate, cell.rtt / 1000, queue, seconds, seed) for pair in PAIRS]
            for run, speeds in zip(
                runs, pool.map(partial(in_a_process, "bench.fairness"), runs), strict=True
            ):
                known.setdefault(run.pair, []).append(speeds)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fairness", description="How two flows share a bottleneck."
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="of each run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="of who starts when")
    parser.add_argument("--only", nargs="*", metavar="MBIT/RTT/QUEUE", help="cells, as in the table")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="add the runs to those in FILE, and show all"
    )
    parser.add_argument("--run", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        print(json.dumps(measure(Run(**json.loads(asked.run)))))
        return
    known = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    print(HEAD)
    for cell in CELLS:
        runs = known.setdefault(cell.name, {})
        if not asked.only or cell.name in asked.only:
            measure_cell(cell, asked.seeds, asked.seconds, runs)
            if asked.json:
                asked.json.write_text(json.dumps(known))
        if runs:
            print(row(cell, runs), flush=True)


if __name__ == "__main__":
    main()
