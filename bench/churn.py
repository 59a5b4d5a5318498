"""Many flows that come and go, and many that stay: does anything grow?

    python -m bench.churn [--seconds 600] [--open 5000] [--rate 200] [--contender NAME]     as root

A client behind tunsmith holds connections open and begins new flows all the time (bench/churning.py); memory and
descriptors of tunsmith are read when it has been at it for a while, and at the end. The memory is the resident size
of all its processes, without what they share with others.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench.contenders import CONTENDERS, Contender, Running, tunsmith_up
from bench.namespaces import Lab, wait_until

CHURNING = Path(__file__).with_name("churning.py")
SETTLED = 0.25
"""Of the time: after it the first reading is taken. UDP flows are kept for two minutes after their last word, so of a
run of ten, descriptors have stopped growing by then."""


UP = Contender("tunsmith up", tunsmith_up())


def reading(running: Running) -> tuple[int, int]:
    """Memory in bytes and open descriptors, now."""
    pids = running.pids()
    return running.cost().pss, sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def line(what: str, seconds: float, memory: int, descriptors: int) -> str:
    return f"{what:<8} {seconds:6.0f} s {memory / (1 << 20):8.1f} MiB {descriptors:7d} descriptors"


def churn(lab: Lab, running: Running, options: argparse.Namespace) -> int:
    port = lab.free_port()
    address = lab.server_address[4]
    lab.start(lab.server, sys.executable, str(CHURNING), "serve", address, str(port))
    wait_until(lambda: lab.server.listens(port), "the server")
    argv = [sys.executable, str(CHURNING), "churn", address, str(port), str(options.open), str(options.rate)]
    with subprocess.Popen(
        running.namespace.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        if client.stdout.readline() != "open\n":
            return 1
        began = time.monotonic()
        time.sleep(options.seconds * SETTLED)
        first = reading(running)
        print(line("settled", time.monotonic() - began, *first), flush=True)
        while (left := began + options.seconds - time.monotonic()) > 0:
            time.sleep(min(left, max(1.0, options.seconds / 10)))
            last = reading(running)
            print(line("", time.monotonic() - began, *last), flush=True)
        client.stdin.close()
        well, badly, lost = map(int, client.stdout.readline().split())
    print(f"{well} flows well, {badly} badly; {lost} of {options.open} open connections lost")
    for name, before, after in zip(("memory", "descriptors"), first, last, strict=True):
        print(f"{name}: {after / before - 1:+.1%} since it was settled")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.churn", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--open", type=int, default=5000)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--contender", default=UP.name)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    contender = next(each for each in (UP, *CONTENDERS) if each.name == options.contender)
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        running = stack.enter_context(contender.open(lab, None))
        return churn(lab, running, options)


if __name__ == "__main__":
    sys.exit(main())
