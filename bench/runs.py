"""The order of things: which runs are made, and what each of them gave.

Contenders take turns run by run, so that a machine that slows down slows all of them down alike; medians
of the repeats count.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from bench.contenders import Contender, sing_box_program
from bench.cost import Cost
from bench.namespaces import BenchError, Lab, wait_until
from bench.probes import Finding, Probe
from bench.workloads import Load, Outcome, Workload

MODES = ("direct", "socks5")
SOCKS_PORT = 1080


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    contenders: tuple[Contender, ...]
    workloads: tuple[Workload, ...]
    probes: tuple[Probe, ...]
    modes: tuple[str, ...]
    seconds: float
    repeat: int
    family: int
    congestion: str

    def cells(self) -> Iterator[tuple[str, Workload, Contender]]:
        """One round: every mode, workload and contender that go together."""
        for mode in self.modes:
            for workload in self.workloads:
                for contender in self.contenders:
                    if mode == "direct" or contender.speaks_socks:
                        yield mode, workload, contender


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one cell. `outcome` is None where it failed, and `failure` says why."""

    mode: str
    workload: str
    contender: str
    outcome: Outcome | None
    cost: Cost = field(default_factory=Cost)
    failure: str = ""


@dataclass(slots=True)
class Results:
    """All runs so far."""

    plan: Plan
    runs: list[Run] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def good(self, mode: str, workload: str, contender: str) -> list[tuple[Outcome, Cost]]:
        """The runs of a cell that gave a number."""
        cell = (mode, workload, contender)
        return [
            (run.outcome, run.cost)
            for run in self.runs
            if (run.mode, run.workload, run.contender) == cell and run.outcome
        ]

    def failures(self, mode: str, workload: str, contender: str) -> int:
        """How many runs of a cell gave no number."""
        cell = (mode, workload, contender)
        return sum((run.mode, run.workload, run.contender) == cell and not run.outcome for run in self.runs)

    def value(self, mode: str, workload: str, contender: str) -> float | None:
        """The median of a cell, None where no run gave a number."""
        values = [outcome.value for outcome, _ in self.good(mode, workload, contender)]
        return statistics.median(values) if values else None

    def cpu_per_unit(self, mode: str, workload: str, contender: str) -> tuple[float, float] | None:
        """Seconds of processor time in user space and in the kernel per unit of work, medians."""
        good = [(outcome, cost) for outcome, cost in self.good(mode, workload, contender) if outcome.units]
        if not good or not any(cost.cpu for _, cost in good):
            return None
        return (
            statistics.median(cost.user / outcome.units for outcome, cost in good),
            statistics.median(cost.system / outcome.units for outcome, cost in good),
        )

    def peak_memory(self, mode: str, workloads: tuple[str, ...], contender: str) -> int | None:
        """The highest resident size in any run of `workloads`, in bytes."""
        peaks = [cost.peak_rss for name in workloads for _, cost in self.good(mode, name, contender)]
        return max(peaks, default=0) or None


@contextmanager
def socks_server(lab: Lab, address: str) -> Iterator[str]:
    """A SOCKS5 server on the server machine, TCP and UDP; yields `host:port`.

    It is sing-box, as the fastest at hand that carries both; every contender has the same one."""
    config = lab.directory / "socks-server.json"
    inbound = {"type": "socks", "listen": "::", "listen_port": SOCKS_PORT}
    settings = {"log": {"level": "error"}, "inbounds": [inbound], "outbounds": [{"type": "direct"}]}
    config.write_text(json.dumps(settings))
    with lab.running(lab.server, str(sing_box_program()), "run", "-c", str(config)):
        wait_until(lambda: lab.server.listens(SOCKS_PORT), "SOCKS5 server")
        yield f"[{address}]:{SOCKS_PORT}" if ":" in address else f"{address}:{SOCKS_PORT}"


def run_once(lab: Lab, plan: Plan, mode: str, workload: Workload, contender: Contender) -> Run:
    """One run of one cell, from opening the contender to closing it. A failure is a result too."""
    server = lab.server_address[plan.family]
    try:
        with (
            socks_server(lab, server) if mode == "socks5" else nullcontext() as upstream,
            contender.open(lab, upstream) as running,
        ):
            before = running.cost()
            outcome = workload.run(Load(lab, running.namespace, server, plan.seconds))
            cost = running.cost().since(before)
    except BenchError as error:
        return Run(mode, workload.name, contender.name, None, failure=str(error))
    return Run(mode, workload.name, contender.name, outcome, cost)


def measure(lab: Lab, plan: Plan, results: Results) -> None:
    """Carry out `plan`; `results` grows run by run, and holds what there is when it is interrupted."""
    cells = list(plan.cells())
    width = max((len(contender.name) for contender in plan.contenders), default=0)
    for repeat in range(plan.repeat):
        for number, (mode, workload, contender) in enumerate(cells, 1):
            run = run_once(lab, plan, mode, workload, contender)
            results.runs.append(run)
            said = f"{run.outcome.value:9.2f} {workload.unit}" if run.outcome else f"failed: {run.failure}"
            place = f"{repeat * len(cells) + number}/{plan.repeat * len(cells)}"
            progress(f"{place:>8} {mode:6} {workload.name:12} {contender.name:{width}} {said}")
    for probe in plan.probes:
        try:
            found = probe.run(lab, plan.seconds, plan.repeat)
        except BenchError as error:
            progress(f"probe {probe.name} failed: {error}")
            continue
        for finding in found:
            results.findings.append(finding)
            progress(f"probe {probe.name}: {finding.title}: {finding.value:.4g} {finding.unit}")


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
