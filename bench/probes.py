"""What only tunsmith is asked: idle flows, idle processor time, start-up."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import TUNSMITH, Running, tunsmith
from bench.namespaces import BenchError, Lab, wait_until
from bench.workloads import Load, iperf

IDLE_FLOWS = str(Path(__file__).with_name("idle_flows.py"))
FEW, MANY = 10, 5000
STARTS = 11
IDLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One number of a probe. `at_most` and `at_least` are what it should be, where there is a goal."""

    title: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def has_goal(self) -> bool:
        return self.at_most is not None or self.at_least is not None

    @property
    def holds(self) -> bool:
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to tunsmith alone; `run` takes the lab, the seconds of one measurement and the repeats."""

    name: str
    run: Callable[[Lab, float, int], list[Finding]]


@contextmanager
def idle_flows(lab: Lab, running: Running, number: int) -> Iterator[None]:
    """`number` open TCP flows on which nothing is said."""
    port, server = lab.free_port(), lab.server_address[4]
    program = [sys.executable, "-S", "-E", IDLE_FLOWS]
    with lab.running(lab.server, *program, "hold", server, str(port)):
        wait_until(lambda: lab.server.listens(port), "idle flows: server")
        with lab.running(running.namespace, *program, "open", server, str(port), str(number)) as client:
            assert client.stdout
            if client.stdout.readline().strip() != "open":
                raise BenchError(f"idle flows: {lab.last_words()}")
            yield


def many_flows(lab: Lab, seconds: float, repeat: int) -> list[Finding]:
    """Memory of 5,000 idle flows, and what is left of the throughput beside them."""
    runs: dict[tuple[int, bool], list[float]] = {(n, down): [] for n in (FEW, MANY) for down in (False, True)}
    memory = 0.0
    for number in (FEW, MANY) * repeat:
        with tunsmith(lab, None) as running, idle_flows(lab, running, number):
            if number == MANY:
                memory = max(memory, running.cost().peak_rss / (1 << 20))
            load = Load(lab, running.namespace, lab.server_address[4], seconds)
            for down in (False, True):
                runs[number, down].append(iperf(1, down)(load).value)
    throughput = {cell: statistics.median(values) for cell, values in runs.items()}
    return [Finding(f"peak memory with {MANY:,} idle flows", memory, "MiB", at_most=120.0)] + [
        Finding(
            f"TCP {'down' if down else 'up'} with {MANY:,} idle flows, of that with {FEW}",
            100 * throughput[MANY, down] / throughput[FEW, down], "%", at_least=80.0,
        )
        for down in (False, True)
    ]  # fmt: skip


def idle_processor(lab: Lab, seconds: float, repeat: int) -> list[Finding]:
    """Processor time of tunsmith with ten flows open and nothing to do."""
    with tunsmith(lab, None) as running, idle_flows(lab, running, FEW):
        time.sleep(1.0)  # past the delayed acknowledgements and timers of opening them
        before = running.cost()
        time.sleep(IDLE_SECONDS)
        spent = running.cost().since(before)
    return [Finding("processor time when idle", 100 * spent.cpu / IDLE_SECONDS, "%", at_most=0.5)]


def start_up(lab: Lab, seconds: float, repeat: int) -> list[Finding]:
    """Wall time of `tunsmith run -- true`, beside that of Python importing asyncio."""
    bare = [sys.executable, "-c", "import asyncio"]
    whole = [str(TUNSMITH), "run", "--", "true"]
    times: dict[str, list[float]] = {"bare": [], "whole": []}
    for _ in range(STARTS):
        times["bare"].append(wall_time(lab.client.command(bare)))
        times["whole"].append(wall_time(lab.client.command(whole)))
    reference = 1000 * statistics.median(times["bare"])
    return [
        Finding("python -c 'import asyncio'", reference, "ms"),
        Finding(
            "tunsmith run -- true", 1000 * statistics.median(times["whole"]), "ms",
            at_most=max(300.0, 5 * reference),
        ),
    ]  # fmt: skip


def wall_time(argv: Sequence[str]) -> float:
    begin = time.perf_counter()
    ended = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
    )
    if ended.returncode:
        raise BenchError(f"{' '.join(argv[3:])}: {(ended.stderr.strip().splitlines() or ['failed'])[-1]}")
    return time.perf_counter() - begin


PROBES = (
    Probe("idle-flows", many_flows),
    Probe("idle-cpu", idle_processor),
    Probe("start-up", start_up),
)
