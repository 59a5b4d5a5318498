"""The whole matrix, by hand: our stack against this machine's kernel. As root:

    python -m tests.interop.matrix --size 100M --seconds-per-cell 10 --minutes 30

Cells come in random order (`--seed`), so that a run which is stopped has still seen a fair part. Each runs in a
network namespace of its own; senders end after `--seconds-per-cell` where the path is too slow for all of
`--size`. What fails is told with the cell and a capture, and can be had again alone: `--cell '{...}'`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from random import Random

from tests.interop.cell import AXES, Cell
from tests.interop.run import Outcome, run_case

UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.interop.matrix", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", default="100M", help="bytes of a transfer")
    parser.add_argument(
        "--seconds-per-cell", type=float, default=10.0, help="after these a sender ends early"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no cell begins after these")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--seed", type=int, default=1, help="of the order, and of the cells")
    parser.add_argument("--captures", type=Path, default=Path("/tmp"), help="where those of failed cells go")
    parser.add_argument("--cell", help="this cell alone")
    return parser.parse_args(arguments)


def number(text: str) -> int:
    """A number of bytes: 100M and the like."""
    return int(float(text.rstrip("KMG")) * UNITS.get(text[-1], 1))


def matrix(seed: int, size: int, seconds: float) -> Iterator[Cell]:
    """All cells, in random order."""
    points = list(itertools.product(*AXES.values()))
    Random(seed).shuffle(points)
    for index, point in enumerate(points):
        cell = Cell.of(seed * 1_000_000 + index, dict(zip(AXES, point, strict=True)))
        yield replace(cell, size=size, seconds=seconds)


def run(asked: argparse.Namespace) -> list[Outcome]:
    """Run cells until there are none left or the time is over; says how far it is."""
    cells = matrix(asked.seed, number(asked.size), asked.seconds_per_cell)
    if asked.cell:
        cells = iter([Cell.loads(asked.cell)])
    end = time.monotonic() + asked.minutes * 60
    outcomes: list[Outcome] = []
    running: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(asked.jobs) as pool:
        while True:
            while len(running) < asked.jobs and time.monotonic() < end and (cell := next(cells, None)):
                running.add(pool.submit(run_case, cell, asked.captures))
            if not running:
                return outcomes
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                outcomes.append(outcome)
                row = f"{len(outcomes):5} {outcome.bytes:>11,} B {outcome.seconds:6.1f} s  {outcome.case}"
                print(row, flush=True)
                if outcome.failures:
                    print(f"FAILED {outcome}", flush=True)


def table(outcomes: list[Outcome]) -> str:
    """What was run, in Markdown: along each axis, cells, bytes and failures."""
    lines = ["| axis | value | cells | GB | failed |", "|---|---|--:|--:|--:|"]
    for axis in (*AXES, ""):
        cells, sizes, failed = Counter[str](), Counter[str](), Counter[str]()
        for outcome in outcomes:
            value = str(getattr(outcome.case, axis)) if axis else "all"
            cells[value] += 1
            sizes[value] += outcome.bytes
            failed[value] += bool(outcome.failures)
        lines += [
            f"| {axis} | {value} | {cells[value]} | {sizes[value] / 1e9:.1f} | {failed[value]} |"
            for value in sorted(cells)
        ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    outcomes = run(parse(arguments))
    print(table(outcomes))
    return any(outcome.failures for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
