"""Results for people (a screen, a Markdown page) and for machines (JSON)."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import ROOT, sing_box_program
from bench.goals import EIGHT_STREAMS, US, goals
from bench.namespaces import BenchError
from bench.runs import Results

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns; the first column is the row's title."""

    title: str
    header: list[str]
    rows: list[list[str]]


def tables(results: Results) -> Iterator[Table]:
    """All that is to be shown, in order."""
    for mode in results.plan.modes:
        names = [each.name for each in results.plan.contenders if mode == "direct" or each.speaks_socks]
        if not any(run.mode == mode for run in results.runs):
            continue
        yield Table(
            f"{mode}: medians (times tunsmith's); † some runs failed",
            ["", *names],
            speed_rows(results, mode, names),
        )
        yield Table(f"{mode}: what it costs the proxy", ["", *names], cost_rows(results, mode, names))
    if results.findings:
        rows = [
            [
                found.title,
                f"{found.value:.3g} {found.unit}",
                bound(found.at_most, found.at_least),
                verdict(found.holds) if found.has_goal else "",
            ]
            for found in results.findings
        ]
        yield Table("tunsmith alone", ["", "measured", "goal", ""], rows)
    met = [
        [
            goal.text,
            f"{goal.measured:.2f} {goal.unit}",
            bound_of(goal.wanted, goal.less_is_better),
            verdict(goal.holds),
        ]
        for goal in goals(results)
    ]
    if met:
        yield Table("goals", ["", "measured", "goal", ""], met)


def bound_of(wanted: float, less_is_better: bool) -> str:
    return bound(wanted, None) if less_is_better else bound(None, wanted)


def bound(at_most: float | None, at_least: float | None) -> str:
    if at_most is not None:
        return f"≤ {at_most:.3g}"
    return f"≥ {at_least:.3g}" if at_least is not None else ""


def verdict(holds: bool) -> str:
    return "yes" if holds else "NO"


def speed_rows(results: Results, mode: str, names: list[str]) -> list[list[str]]:
    rows = []
    for workload in results.plan.workloads:
        ours = results.value(mode, workload.name, US)
        row = [f"{workload.title}, {workload.unit}"]
        for name in names:
            value = results.value(mode, workload.name, name)
            failed = results.failures(mode, workload.name, name)
            if value is None:
                row.append("failed" if failed else "")
                continue
            compared = f" ({value / ours:.2f})" if ours and name != US else ""
            row.append(f"{value:.3g}{compared}{' †' if failed else ''}")
        rows.append(row)
    return rows


def cost_rows(results: Results, mode: str, names: list[str]) -> list[list[str]]:
    rows = []
    if any(workload.name in EIGHT_STREAMS for workload in results.plan.workloads):
        peaks = [results.peak_memory(mode, EIGHT_STREAMS, name) for name in names]
        rows.append(
            ["peak memory, 8 streams, MiB", *(f"{peak / (1 << 20):.0f}" if peak else "–" for peak in peaks)]
        )
    for workload in results.plan.workloads:
        spent = [results.cpu_per_unit(mode, workload.name, name) for name in names]
        # Seconds per gigabyte of a stream, microseconds of anything that is counted; user + kernel.
        scale, unit = (1e9, "s per GB") if workload.work == "byte" else (1e6, f"µs per {workload.work}")
        cells = [f"{user * scale:.2f} + {system * scale:.2f}" if (user, system) != (0, 0) else "–"
                 for user, system in (cpu or (0.0, 0.0) for cpu in spent)]  # fmt: skip
        rows.append([f"{workload.title}, CPU {unit}, user + kernel", *cells])
    return rows


def surroundings(results: Results) -> str:
    """One paragraph: which machine, which versions, which commit, how long each run."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = [f"Python {platform.python_version()}"]
    try:
        versions.append("sing-box " + said(str(sing_box_program()), "version").split()[2])
    except (BenchError, IndexError):
        pass
    versions += [
        f"{package} {version}"
        for package in ("passt", "slirp4netns", "iperf3", "wrk", "nginx-light")
        if (version := said("dpkg-query", "-W", "-f", "${Version}", package))
    ]
    commit = said("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "unknown"
    processor = f"{os.cpu_count()} × {model[1] if model else platform.machine()}"
    plan = results.plan
    return (
        f"{time.strftime('%Y-%m-%d')}, commit {commit}; Linux {platform.release()}, {processor}; "
        f"{', '.join(versions)}. Runs of {plan.seconds:g} s, median of {plan.repeat}, IPv{plan.family}, "
        f"congestion control {plan.congestion}."
    )


def said(*argv: str) -> str:
    """What a program prints, empty where it cannot be asked."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def print_report(results: Results) -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console(width=None if os.isatty(1) else 160)
    for table in tables(results):
        console.print(f"\n[bold]{table.title}[/bold]", highlight=False)
        grid = Grid()
        grid.add_column(table.header[0])
        for name in table.header[1:]:
            grid.add_column(name, justify="right")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
    console.print(surroundings(results), highlight=False)


def markdown(results: Results) -> str:
    parts = [surroundings(results)]
    for table in tables(results):
        lines = [f"### {table.title}", "", "| " + " | ".join(table.header) + " |"]
        lines.append("|" + "|".join(["---", *["--:"] * (len(table.header) - 1)]) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_markdown(results: Results, path: Path) -> None:
    """Put the tables between the markers of an existing page, or write a page of them."""
    text = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"{path}: lacks the markers {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n{END}{after}")


def write_json(results: Results, path: Path) -> None:
    """Every single run and finding, with the seconds, bytes and units they were measured in."""
    document = {
        "surroundings": surroundings(results),
        "runs": [dataclasses.asdict(run) for run in results.runs],
        "findings": [dataclasses.asdict(found) for found in results.findings],
        "goals": [dataclasses.asdict(goal) | {"holds": goal.holds} for goal in goals(results)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
