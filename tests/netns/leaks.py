"""What a test must leave as it was: the machine it ran on, C, and this process; and what tunsmith must not have
open when it ends.

Other programs of the real machine are none of our business and may come and go. Ours are all descendants of
this process, which adopts orphans (PR_SET_CHILD_SUBREAPER); a namespace nobody of them lives in and no
descriptor of ours holds has ended.
"""

from __future__ import annotations

import ctypes
import difflib
import os
import re
import subprocess
from pathlib import Path

from tests.netns.caller import Caller
from tests.netns.servers import eventually
from tests.netns.topology import Namespace

_PR_SET_CHILD_SUBREAPER = 36
_SHOW_NETWORK = [
    "sh", "-c",
    "printf 'link show\\naddress show\\nroute show table all\\n' | ip -oneline -batch -;"
    "ip rule; ip -6 rule; nft list ruleset",
]  # fmt: skip
_MOVING = re.compile(r"\b(expires|valid_lft|preferred_lft|packets|bytes) \S+")


def adopt_orphans() -> None:
    """Become the parent of descendants whose parents end."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def descendants() -> dict[int, str]:
    """Processes below this one, and what they are; adopted ones that have ended are buried."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        pid, rest = int(text.split(" ", 1)[0]), text.rpartition(")")[2].split()
        names[pid] = f"{text[text.index('(') + 1 : text.rindex(')')]} {rest[0]}"
        parents[pid] = int(rest[1])
    found = {}
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid() and pid != ancestor:
            found[pid] = names[pid]
    return {pid: name for pid, name in found.items() if not (name.endswith(" Z") and _bury(pid))}


def _bury(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


class Snapshot:
    """The state to come back to."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._processes = set(descendants())
        self._machine = self._read_machine()

    def _read_machine(self) -> dict[str, object]:
        state: dict[str, object] = {
            "descriptors": {fd: _link(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")},
            "TUN devices of the machine": sorted(
                link.name for link in Path("/sys/class/net").iterdir() if (link / "tun_flags").exists()
            ),
            "mounts": [
                line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "tun" in line
            ],
        }
        state["network of C"] = network(self._caller.topology.caller)
        state["network of the machine"] = network(None)
        return state

    def check(self) -> None:
        """Fail with what is different; processes that are about to end get the time to."""
        left: dict[int, str] = {}

        def gone() -> bool:
            left.clear()
            left.update({pid: name for pid, name in descendants().items() if pid not in self._processes})
            return not left

        try:
            eventually(gone, "the end of all processes", 5.0)
        except AssertionError:
            raise AssertionError(f"processes left: {left}") from None
        now = self._read_machine()
        for what, before in self._machine.items():
            if _comparable(now[what]) != _comparable(before):
                lines = difflib.unified_diff(_lines(before), _lines(now[what]), lineterm="", n=0)
                raise AssertionError(f"{what} changed:\n" + "\n".join(lines))
        testimony = self._caller.testimony
        assert not testimony.exists() or testimony.read_text() == "", "tunsmith left something open"


def _lines(state: object) -> list[str]:
    return [str(line) for line in state] if isinstance(state, list) else [str(state)]


def network(of: Namespace | None) -> list[str]:
    """Links, addresses, routes of all tables, rules of routing and of filters; of this machine where `of` is None."""
    command = of.command(_SHOW_NETWORK) if of is not None else _SHOW_NETWORK
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    return _MOVING.sub(r"\1", shown).splitlines()


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _comparable(value: object) -> object:
    """Descriptors are compared by what they lead to: numbers may be used again."""
    if isinstance(value, dict):
        return sorted(link for link in value.values() if not link.startswith(("/proc/", "")) or link)
    return value
