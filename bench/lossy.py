"""Speed under loss: our stack beside the kernel's, over the same path.

    python -m bench.lossy [--seconds 20] [--seeds 1 2 3] [--only 20/1 ...] [--json FILE]     as root

Linux sends to Linux, our stack sends to Linux, and Linux sends to our stack (bench/emulated.py). A path loses
packets both ways; whether it loses the n-th packet that a flow sends one way depends on the seed, the flow and n
only, so that all contenders meet the same losses. Many flows at once, each with losses of its own, make a number
out of a few seconds. What counts is what the receiving programs got.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.emulated import (
    FAR,
    KernelEnd,
    Received,
    StackEnd,
    carry,
    in_a_process,
    near_end,
)
from tunsmith.device.faulty import FaultyDevice
from tunsmith.stack.config import StackConfig
from tunsmith.testing.faults import Faults
from tunsmith.wire.checksum import Buffer
from tunsmith.wire.vnet import VNET_HDR_LEN


@dataclass(frozen=True)
class Cell:
    """A path: milliseconds of round trip, percent lost each way; and how many flows it carries at once: as
    many as a path made of Python can."""

    rtt: int
    loss: float
    flows: int

    @property
    def name(self) -> str:
        return f"{self.rtt}/{self.loss:g}"


CELLS = [
    Cell(20, 0.1, 4),
    Cell(20, 1, 12),
    Cell(20, 3, 16),
    Cell(100, 0.1, 5),
    Cell(100, 1, 24),
    Cell(100, 3, 24),
]
CONTENDERS = {
    "kernel sends": ("kernel", True),
    "ours sends": ("ours", True),
    "kernel receives": ("kernel", False),
    "ours receives": ("ours", False),
}
"""Who is at the far end, and whether he sends."""


@dataclass(frozen=True)
class Run:
    """One measurement of `flows` flows for `seconds`; `rtt` in seconds, `loss` a probability."""

    far: str
    sends: bool
    rtt: float
    loss: float
    flows: int
    seconds: float
    seed: int


class FlowLosses:
    """One direction of a path, with losses for each flow of its own. `port`: where the packets of this direction
    have the far end's port."""

    def __init__(self, seed: str, port: int, loss: float, delay: float) -> None:
        self._seed = seed
        self._port = slice(VNET_HDR_LEN + port, VNET_HDR_LEN + port + 2)
        self._loss = loss
        self._delay = delay
        self._faults: dict[bytes, Faults] = {}
        self._on_the_way: deque[tuple[float, bytes]] = deque()
        self.arrived = 0
        self.lateness = 0.0
        """Seconds, summed."""

    def send(self, frame: Buffer, now: float) -> None:
        port = bytes(frame[self._port])
        faults = self._faults.get(port)
        if faults is None:
            random = Random(f"{self._seed} {int.from_bytes(port, 'big')}")
            faults = self._faults[port] = Faults(random, loss=self._loss, delay=self._delay)
        self._on_the_way.extend(faults.decide(frame, now))

    def next_deadline(self) -> float | None:
        return self._on_the_way[0][0] if self._on_the_way else None

    def receive(self, now: float) -> list[bytes]:
        arrived = []
        while self._on_the_way and self._on_the_way[0][0] <= now:
            when, frame = self._on_the_way.popleft()
            self.lateness += now - when
            arrived.append(frame)
        self.arrived += len(arrived)
        return arrived


Results = dict[str, dict[str, float]]
"""What `measure` says, by contender."""
_SOURCE_PORT, _DESTINATION_PORT = 20, 22
"""Offsets in an IPv4 packet without options."""


def measure(run: Run) -> dict[str, float]:
    """Megabits a second, and by how many milliseconds packets were late, on average."""
    began = time.monotonic()
    end = began + run.seconds
    near, near_result = near_end(not run.sends, end)
    to_far = FlowLosses(f"{run.seed} to far", _DESTINATION_PORT, run.loss, run.rtt / 2)
    to_near = FlowLosses(f"{run.seed} to near", _SOURCE_PORT, run.loss, run.rtt / 2)
    wire = FaultyDevice(near, to_far, to_near)
    starts = [began + run.rtt * number / run.flows for number in range(run.flows)]
    received: Received
    if run.far == "kernel":
        far = KernelEnd(FAR, starts, run.sends, end, wire)
        carry(wire, {FAR: far}, end)
        received = far.result()
    else:
        ours = StackEnd(FAR, starts, run.sends, StackConfig(), wire)
        carry(wire, {FAR: ours}, end)
        received = ours.received
    if run.sends:
        received = near_result()
    late = (to_far.lateness + to_near.lateness) / max(to_far.arrived + to_near.arrived, 1)
    return {"speed": sum(received.values()) * 8 / run.seconds / 1e6, "late": late * 1000}


def row(cell: Cell, runs: list[Results]) -> str:
    """A line of the table: medians over the seeds, ratios being those of runs with the same seed."""

    def speed(contender: str) -> str:
        return f"{statistics.median(run[contender]['speed'] for run in runs):.1f}"

    def ratio(role: str) -> str:
        ratios = [run[f"ours {role}"]["speed"] / run[f"kernel {role}"]["speed"] for run in runs]
        return f"**{statistics.median(ratios):.0%}** ({min(ratios):.0%} to {max(ratios):.0%})"

    late = max(run[contender]["late"] for run in runs for contender in CONTENDERS)
    return (
        f"| {cell.rtt} | {cell.loss:g} | {cell.flows} "
        f"| {speed('kernel sends')} | {speed('ours sends')} | {ratio('sends')} "
        f"| {speed('kernel receives')} | {speed('ours receives')} | {ratio('receives')} | {late:.1f} |"
    )


HEAD = """\
| RTT ms | loss % | flows | kernel to kernel | our sender | of the kernel's | kernel to kernel | our receiver \
| of the kernel's | late ms |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


def measure_cell(cell: Cell, seeds: Iterable[int], seconds: float) -> list[Results]:
    """What all contenders reach, for each seed."""
    runs = []
    for seed in seeds:
        results = {}
        for name, (far, sends) in CONTENDERS.items():
            run = Run(far, sends, cell.rtt / 1000, cell.loss / 100, cell.flows, seconds, seed)
            results[name] = in_a_process("bench.lossy", run)
        runs.append(results)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.lossy", description="Speed under loss, beside the kernel."
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="of the losses")
    parser.add_argument("--only", nargs="*", metavar="RTT/LOSS", help="cells: milliseconds and percent")
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
        runs = known.setdefault(cell.name, [])
        if not asked.only or cell.name in asked.only:
            runs += measure_cell(cell, asked.seeds, asked.seconds)
            if asked.json:
                asked.json.write_text(json.dumps(known))
        if runs:
            print(row(cell, runs), flush=True)


if __name__ == "__main__":
    main()
