"""`tunsmith up` beside `tunsmith run`, and one worker beside several.

    python -m bench.up [--seconds 2] [--repeat 3] [--workers 1 2 4] [--markdown docs/benchmarks.md]     as root

The same loads as in scripts/bench, direct. `up` runs on the client machine, with routes for the server's addresses.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

from bench.contenders import CONTENDERS, Contender, tunsmith_up
from bench.namespaces import CONGESTION, Lab
from bench.runs import Plan, Results, measure
from bench.workloads import WORKLOADS

LOADS = ("tcp-up-1", "tcp-down-1", "tcp-up-8", "tcp-down-8", "connections", "requests", "udp-up", "udp-down")
BEGIN, END = "<!-- up: begin -->", "<!-- up: end -->"


def table(results: Results) -> list[str]:
    """Rows of Markdown: medians, and times those of `tunsmith run`."""
    names = [contender.name for contender in results.plan.contenders]
    rows = ["| | " + " | ".join(["`run`", *names[1:]]) + " |", "|---|" + "---|" * len(names)]
    for workload in results.plan.workloads:
        base = results.value("direct", workload.name, names[0])
        cells = []
        for name in names:
            value = results.value("direct", workload.name, name)
            ratio = f" ({value / base:.2f})" if value and base and name != names[0] else ""
            cells.append("-" if value is None else f"{value:.3g}{ratio}")
        rows.append(f"| {workload.title}, {workload.unit} | " + " | ".join(cells) + " |")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.up", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--only", nargs="+", default=LOADS, metavar="WORKLOAD")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ours = tuple(
        Contender("`up`" if count == 1 else f"`up`, {count} workers", tunsmith_up(count))
        for count in options.workers
    )
    plan = Plan(
        contenders=(CONTENDERS[0], *ours),
        workloads=tuple(each for each in WORKLOADS if each.name in options.only),
        probes=(),
        modes=("direct",),
        seconds=options.seconds,
        repeat=options.repeat,
        family=4,
        congestion=Path("/proc/sys", CONGESTION).read_text().strip(),
    )
    results = Results(plan)
    with Lab() as lab:
        measure(lab, plan, results)
    for failed in (run for run in results.runs if run.failure):
        print(f"{failed.contender}, {failed.workload}: {failed.failure}", file=sys.stderr)
    text = "\n".join(table(results)) + "\n"
    print(text)
    if options.markdown:
        page = options.markdown.read_text()
        head, tail = page.partition(BEGIN)[0], page.partition(END)[2]
        options.markdown.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
