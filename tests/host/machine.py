"""A machine for one test: this one, seen through a private mount namespace.

It has a `/dev/net/tun` of its own with the usual mode 0666, and whatever else a test's `prelude` (shell
commands run as root) changes. Nothing of it is visible to, or remains on, the real machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAUNCH = Path(__file__).with_name("launch.py")
ORDINARY_ID = 12345

TUN_NODE = "mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200; chmod 666 /dev/net/tun\n"
WRITABLE_ETC = (
    "mount -t tmpfs none /mnt; mkdir /mnt/upper /mnt/work\n"
    "mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work none /etc\n"
)
OWN_NETWORK = "ip link set lo up; ip address add 192.0.2.1/32 dev lo\n"
"""With `network=True`: an address that a program in a sandbox can only reach through us."""
EMPTY_RUN = "mount -t tmpfs -o mode=0755 none /run\n"


@dataclass(frozen=True)
class User:
    """Who runs the command."""

    name: str
    uid: int

    def become(self) -> list[str]:
        if self.uid == 0:
            return []
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]


USERS = (User("root", 0), User("ordinary", ORDINARY_ID))


def on_machine(command: list[str], user: User, prelude: str = "", network: bool = False) -> list[str]:
    """The command line that runs `command` there; in a network of its own where `network` is true."""
    flags = ["--mount", "--propagation=private", *(["--net"] if network else [])]
    script = f'set -e\n{OWN_NETWORK if network else ""}{TUN_NODE}{prelude}\nexec "$@"'
    return ["unshare", *flags, "sh", "-c", script, "sh", *user.become(), *command]


def sandboxed(command: list[str], unreleased: bool = False) -> list[str]:
    """The command line that runs `command` in a sandbox."""
    flags = ["--unreleased"] if unreleased else []
    return [sys.executable, "-B", str(LAUNCH), *flags, *command]


def launch(command: list[str], user: User, prelude: str = "", unreleased: bool = False) -> list[str]:
    """The command line that runs `command` in a sandbox there."""
    return on_machine(sandboxed(command, unreleased), user, prelude)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run to the end; text output is captured."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, text=True, env=environment(), timeout=30, check=False, **options
    )
