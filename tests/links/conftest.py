"""Machines for links: our stack (tests/links/station.py) on one side, Linux and its programs on the other.

             A                                          B
+--------------------------+            +--------------------------+
| the first interface      |            | the second interface     |
|        (TUN or TAP)      |            |                          |
+------------|-------------+            +------------|-------------+
             |            +---------+                |
             +------------| station |----------------+
                          +---------+
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.netns.topology import Namespace

ROOT = Path(__file__).parents[2]
PROGRAMS = ("unshare", "nsenter", "ip", "arping", "ping", "nc")
MAC = "02:00:5e:10:00:01"


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {' '.join(missing) or 'nothing else'}")


class Station:
    """station.py at work in `namespace`; its interfaces are there until somebody moves them."""

    def __init__(self, namespace: Namespace, **wish: Any) -> None:
        self._process = subprocess.Popen(
            namespace.command([sys.executable, "-B", "-m", "tests.links.station", json.dumps(wish)]),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict[str, Any]] = []
        self.interfaces: list[str] = self.hear("opened")

    def hear(self, what: str) -> Any:
        """Wait until it says `what`; what it says before is kept in `said`."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = json.loads(line)
            if what in words:
                return words[what]
            self.said.append(words)
        raise AssertionError(f"the station ended without a word of {what!r}: {self.said}")

    def begin(self) -> list[str]:
        """The other end is ready; returns the addresses that the station uses, when it does."""
        self._say()
        ready: list[str] = self.hear("ready")
        return ready

    def counts(self) -> dict[str, int]:
        """End it; what it has dropped."""
        self._say()
        drops: dict[str, int] = self.hear("drops")
        return drops

    def _say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def close(self) -> None:
        with self._process:
            self._process.kill()


@pytest.fixture
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """A and B, with a loopback and addresses that are usable at once."""
    with closing(Namespace()) as a, closing(Namespace()) as b:
        for namespace in (a, b):
            namespace.tune({"net/ipv6/conf/default/accept_dad": "0", "net/ipv4/icmp_ratelimit": "0"})
            namespace.run("ip", "link", "set", "lo", "up")
        yield a, b


@pytest.fixture
def station(namespaces: tuple[Namespace, Namespace]) -> Iterator[Callable[..., Station]]:
    """Makes a Station in A."""
    with ExitStack() as stack:
        yield lambda **wish: stack.enter_context(closing(Station(namespaces[0], **wish)))


def configure(namespace: Namespace, interface: str, *addresses: str, mtu: int | None = None) -> None:
    """Give the kernel's end its addresses, and set it up."""
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        namespace.run("ip", "address", "add", address, "dev", interface, *nodad)
    if mtu is not None:
        namespace.run("ip", "link", "set", interface, "mtu", str(mtu))
    namespace.run("ip", "link", "set", interface, "up")


def output(namespace: Namespace, *command: str) -> str:
    """What a program says, whether it succeeds or not."""
    done = subprocess.run(namespace.command(command), capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr
