"""The caller's machine C: how a test runs a program there, with tunsmith and without.

Each program gets a private mount namespace in which C looks like a stock Debian: /dev/net/tun has mode 0666,
/etc/resolv.conf names C's resolver, an ordinary user exists. Unless a test says otherwise it runs as that
user.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.netns.topology import SERVER, Topology

ROOT = Path(__file__).parents[2]
WITNESS = Path(__file__).with_name("witness")
ORDINARY = 12345
TUNSMITH = [sys.executable, "-m", "tunsmith", "run"]
CLIENT = [sys.executable, "-S", "-m", "tests.netns.client"]

PRELUDE = """\
set -e
mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200; chmod 666 /dev/net/tun
mount --bind {files}/passwd /etc/passwd
mount --bind {files}/group /etc/group
mount --bind {resolv_conf} /etc/resolv.conf
{extra}
exec "$@"
"""


@dataclass
class Done:
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def json(self) -> Any:
        """What client.py printed; its error where there is none."""
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout)


@dataclass
class Caller:
    """Runs programs on C. `home` is a directory that belongs to the user."""

    topology: Topology
    home: Path
    user: int = ORDINARY
    resolvers: tuple[str, ...] = (SERVER[4],)
    extra: str = ""
    """Shell commands, run as root before the program, that change the machine further."""
    captures: bool = True
    """Whether each `tunsmith run` writes a capture, to be looked at if the test fails."""
    runs: int = field(default=0, init=False)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on C; the process is the one that is started."""
        resolv_conf = self.home / "resolv.conf"
        resolv_conf.write_text("".join(f"nameserver {address}\n" for address in self.resolvers))
        prelude = PRELUDE.format(files=self.topology.files, resolv_conf=resolv_conf, extra=self.extra)
        who = [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if self.user else []
        become = ["setpriv", *who, "--pdeathsig", "KILL"]
        return self.topology.caller.command(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", prelude, "sh", *become, *argv]
        )

    def tunsmith(self, argv: Sequence[str], *options: str) -> list[str]:
        """The command line of `tunsmith run OPTIONS -- argv` on C."""
        self.runs += 1
        capture = ["--capture", str(self.home / f"run-{self.runs}.pcapng")] if self.captures else []
        return self.command([*TUNSMITH, *capture, *options, "--", *argv])

    def plain(self, *argv: str, timeout: float = 60.0) -> Done:
        """Run on C without tunsmith, to the end."""
        return self.finish(self.command(argv), timeout)

    def run(self, *argv: str, options: Sequence[str] = (), timeout: float = 60.0, stdin: str = "") -> Done:
        """`tunsmith run OPTIONS -- argv` on C, to the end."""
        return self.finish(self.tunsmith(argv, *options), timeout, stdin)

    def client(self, *argv: object, options: Sequence[str] = (), timeout: float = 60.0) -> Any:
        """What client.py prints under `tunsmith run OPTIONS`."""
        return self.run(*CLIENT, *map(str, argv), options=options, timeout=timeout).json

    def plain_client(self, *argv: object) -> Any:
        """What client.py prints without tunsmith."""
        return self.plain(*CLIENT, *map(str, argv)).json

    @contextmanager
    def running(self, *argv: str, options: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
        """`tunsmith run OPTIONS -- argv` for as long as the context lasts; the process is tunsmith."""
        with self.start(self.tunsmith(argv, *options)) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.home, env=self._environment(), start_new_session=True,
        )  # fmt: skip

    def finish(self, command: list[str], timeout: float, stdin: str = "") -> Done:
        began = time.monotonic()
        with self.start(command) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # the program as well, which would live on
                raise
        return Done(process.returncode, out, err, time.monotonic() - began)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{WITNESS}:{ROOT}/src:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TUNSMITH_WITNESS": str(self.testimony),
        }

    @property
    def testimony(self) -> Path:
        """What each tunsmith had open at its end; see witness/sitecustomize.py."""
        return self.home / "witness"
