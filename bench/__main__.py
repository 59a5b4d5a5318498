"""The command line: choose, measure, print.

scripts/bench                                    everything, about half an hour
scripts/bench --quick                            one run each, two seconds
scripts/bench --only tcp,connections --contender tunsmith,pasta --mode direct
scripts/bench --markdown docs/benchmarks.md      put the table into that page
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import TypeVar

from bench.contenders import CONTENDERS, Contender
from bench.namespaces import CONGESTION, BenchError, Lab
from bench.probes import PROBES, Probe
from bench.report import print_report, write_json, write_markdown
from bench.runs import MODES, Plan, Results, measure
from bench.workloads import WORKLOADS, Workload

Named = TypeVar("Named", Contender, Workload, Probe)


def chosen(wanted: str | None, among: Iterable[Named]) -> tuple[Named, ...]:
    """Those whose name begins with one of the comma-separated words; all without words."""
    candidates = tuple(among)
    if wanted is None:
        return candidates
    words = [word.strip() for word in wanted.split(",") if word.strip()]
    return tuple(each for each in candidates if any(each.name.startswith(word) for word in words))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure tunsmith beside its peers.")
    parser.add_argument("--only", metavar="WORKLOAD,...", help="workloads and probes whose names begin so")
    parser.add_argument("--contender", metavar="NAME,...", help="contenders whose names begin so")
    parser.add_argument("--mode", choices=MODES, action="append", help="direct, socks5; both by default")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each cell; the median counts")
    parser.add_argument("--quick", action="store_true", help="one run each, of two seconds")
    parser.add_argument("--ipv6", action="store_true", help="reach the server by IPv6")
    parser.add_argument("--congestion", metavar="NAME", help="congestion control; by default this machine's")
    parser.add_argument("--no-probes", action="store_true", help="leave out what only tunsmith is asked")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every single run, for machines")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables between its markers")
    parser.add_argument("--list", action="store_true", help="name workloads, probes and contenders")
    return parser.parse_args(arguments)


def stop(number: int, frame: FrameType | None) -> None:
    """On SIGTERM, unwind as on Ctrl-C, so that the lab is taken down."""
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    asked = parse(arguments)
    if asked.list:
        for each in (*WORKLOADS, *PROBES, *CONTENDERS):
            print(f"{type(each).__name__.lower():10} {each.name}")
        return 0
    if os.geteuid() != 0:
        print("bench: it makes network namespaces; run it as root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, stop)
    # Inherited by every program of the lab: 5,000 flows are as many descriptors.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    plan = Plan(
        contenders=chosen(asked.contender, CONTENDERS),
        workloads=chosen(asked.only, WORKLOADS),
        probes=() if asked.no_probes else chosen(asked.only, PROBES),
        modes=tuple(asked.mode or MODES),
        seconds=2.0 if asked.quick else asked.seconds,
        repeat=1 if asked.quick else asked.repeat,
        family=6 if asked.ipv6 else 4,
        congestion=asked.congestion or Path("/proc/sys", CONGESTION).read_text().strip(),
    )
    results = Results(plan)
    try:
        with Lab(asked.congestion) as lab:
            measure(lab, plan, results)
    except KeyboardInterrupt:
        print("bench: stopped; what there is so far:", file=sys.stderr)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print_report(results)
    if asked.json:
        write_json(results, asked.json)
    if asked.markdown:
        write_markdown(results, asked.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
