"""A machine in a namespace of its own, and `tunsmith echo` and `connect` on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.host.machine import environment
from tests.netns.servers import eventually
from tests.netns.topology import Namespace

STACK = {4: "10.7.0.2", 6: "fd07::2"}
MACHINE = {4: "10.7.0.1", 6: "fd07::1"}
TUNSMITH = [sys.executable, "-B", "-m", "tunsmith"]
PROGRAMS = Path(__file__).with_name("link_programs.py")


class Machine(Namespace):
    """Has a loopback, and nothing else until somebody makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.run("ip", "link", "set", "lo", "up")

    def state(self) -> dict[str, str]:
        """Interfaces, addresses, routes and rules."""
        words = ("-o link", "-o address", "route show table all", "-6 route show table all", "rule")
        return {each: self.run("ip", *each.split()) for each in words}

    def has(self, interface: str) -> bool:
        return f": {interface}: " in self.state()["-o link"]

    def popen(self, *command: str, **options: object) -> subprocess.Popen[str]:
        """A program, with text pipes."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            self.command(command), text=True, env=environment(), **pipes
        )

    @contextmanager
    def program(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """One of link_programs.py, once it says that it is ready."""
        with self.popen(sys.executable, "-B", str(PROGRAMS), name, *arguments) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process
            finally:
                process.kill()

    @contextmanager
    def echo(self, *arguments: str, port: int = 7) -> Iterator[subprocess.Popen[str]]:
        """`tunsmith echo ARGUMENTS PORT`, listening."""
        with self.popen(*TUNSMITH, "echo", "--json", *arguments, str(port)) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if json.loads(line)["event"] == "listening":
                        break
                assert process.poll() is None
                yield process
            finally:
                process.kill()

    def connect(
        self, *arguments: str, stdin: bytes = b"", timeout: float = 30
    ) -> subprocess.CompletedProcess[bytes]:
        """`tunsmith connect ARGUMENTS`, to its end."""
        return subprocess.run(
            self.command([*TUNSMITH, "connect", *arguments]),
            input=stdin,
            capture_output=True,
            env=environment(),
            timeout=timeout,
            check=False,
        )


@contextmanager
def machine() -> Iterator[Machine]:
    """A fresh one. Interfaces made for a command must not outlive it."""
    fresh = Machine()
    try:
        yield fresh
        eventually(lambda: not fresh.has("tun0"), "the end of tun0")
    finally:
        fresh.close()
