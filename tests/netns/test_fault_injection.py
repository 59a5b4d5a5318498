"""Killed at any step of set-up and tear-down, `tunsmith up` leaves the machine as it was (tests/netns/killing.py).

Links, addresses, routes of all tables, rules, nftables, every sysctl of net and resolv.conf are compared after each
kill; what the tries are about is said by the options.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.machine import ROOT, environment

pytestmark = pytest.mark.netns

RESTORED_WITHIN = 2.0
"""Seconds from a death by any signal to the end of the guard."""


def kill_at_every_step(directory: Path, *options: str) -> int:
    """How often it was killed."""
    command = [
        "unshare",
        "--net",
        "--mount",
        sys.executable,
        "-m",
        "tests.netns.killing",
        str(directory),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["slowest"] < RESTORED_WITHIN
    return int(found["killed"])


def test_killed_at_any_step_the_machine_is_as_it_was(tmp_path: Path) -> None:
    assert kill_at_every_step(tmp_path, "--", "up") > 150


@pytest.mark.parametrize("options", [["--both"], ["--restore"]], ids=["with its guard", "failing closed"])
def test_what_stays_is_taken_back_by_restore(tmp_path: Path, options: list[str]) -> None:
    """Where the guard is killed as well, and where traffic was to be kept in."""
    more = ["--fail-closed"] if "--restore" in options else []
    assert kill_at_every_step(tmp_path, "--every", "15", *options, "--", "up", *more) > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [["--both"], ["--restore"]], ids=["with its guard", "failing closed"])
def test_what_stays_is_taken_back_by_restore__at_any_step(tmp_path: Path, options: list[str]) -> None:
    more = ["--fail-closed"] if "--restore" in options else []
    assert kill_at_every_step(tmp_path, *options, "--", "up", *more) > 150


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "arguments",
    [["--strategy", "interface"], ["--strict"], ["--include", "203.0.113.0/24", "--exclude", "203.0.113.7"]],
    ids=" ".join,
)
def test_whatever_is_asked_for_the_machine_is_as_it_was(tmp_path: Path, arguments: list[str]) -> None:
    assert kill_at_every_step(tmp_path, "--every", "3", "--", "up", *arguments) > 30


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_system_call_the_machine_is_as_it_was(tmp_path: Path) -> None:
    """Another pair of eyes: strace(1) kills the program as it is installed."""
    assert kill_at_every_step(tmp_path, "--strace", "--every", "4", "--", "up") > 50
