from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.device import rigs
from tunsmith.testing.conformance import CHECKS, Rig, check_device

ROOT = Path(__file__).parents[2]
each = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))


@each
def test_memory(check: Callable[[Rig], None]) -> None:
    with rigs.memory() as rig:
        check(rig)


@each
def test_captured(check: Callable[[Rig], None], tmp_path: Path) -> None:
    with rigs.captured(tmp_path / "capture") as rig:
        check(rig)


@each
def test_delayed(check: Callable[[Rig], None]) -> None:
    with rigs.delayed() as rig:
        check(rig)


def test_all_at_once() -> None:
    check_device(rigs.memory)


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare(1)")
def test_tun() -> None:
    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-B", "-m", "tests.device.rigs"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("conforms\n", "")
