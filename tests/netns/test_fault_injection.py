"""Killed at any step of set-up and tear-down, `tunsmith up` leaves the machine as it was.

Links, addresses, routes of all tables, rules, nftables, every sysctl of net and resolv.conf are compared after each
kill (tests/netns/whole_machine.py); who is killed, and how, is told in tests/netns/killing.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.machine import ROOT, environment

pytestmark = [pytest.mark.netns, pytest.mark.timeout(900)]

RESTORED_WITHIN = 2.0
"""Seconds from a death by any signal to the end of the guard."""


def kill_at_every_step(directory: Path, *options: str) -> int:
    """How many were killed; after each of them everything was as before."""
    program = [sys.executable, "-m", "tests.netns.killing", str(directory), *options]
    done = subprocess.run(
        ["unshare", "--net", "--mount", *program],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["slowest"] < RESTORED_WITHIN
    return int(found["killed"])


def test_an_instance_that_is_killed_at_any_step_leaves_nothing(tmp_path: Path) -> None:
    assert kill_at_every_step(tmp_path, "--", "up") > 100


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_what_an_instance_leaves_that_is_killed_with_its_guard_is_restored(
    tmp_path: Path, every: int
) -> None:
    assert kill_at_every_step(tmp_path, "--every", str(every), "--who", "both", "--", "up") > 100 // every


@pytest.mark.parametrize("every", [15, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("who", ["guard", "restore"])
def test_what_a_restore_leaves_that_is_killed_itself_is_restored(
    tmp_path: Path, who: str, every: int
) -> None:
    assert kill_at_every_step(tmp_path, "--every", str(every), "--who", who, "--", "up") > 50 // every


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_what_stays_to_keep_traffic_in_is_lifted_by_restore(tmp_path: Path, every: int) -> None:
    assert (
        kill_at_every_step(tmp_path, "--every", str(every), "--lift", "--", "up", "--fail-closed")
        > 100 // every
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "asked",
    [
        "--strategy interface",
        "--strict",
        "--include 203.0.113.0/24 --exclude 203.0.113.7",
        "--interface uplink",
    ],
)
def test_whatever_is_asked_for_nothing_is_left(tmp_path: Path, asked: str) -> None:
    assert kill_at_every_step(tmp_path, "--every", "3", "--", "up", *asked.split()) > 25


@pytest.mark.exhaustive
def test_an_instance_that_is_killed_at_any_system_call_leaves_nothing(tmp_path: Path) -> None:
    """Another pair of eyes: the real program and strace(1)."""
    assert kill_at_every_step(tmp_path, "--strace", "--every", "2", "--", "up") > 100
