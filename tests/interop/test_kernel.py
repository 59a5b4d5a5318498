"""Nothing is lost between our stack and Linux either, however bad the path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare(1)"),
]


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("offload", ["offload", "plain"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_path_to_the_kernel(seed: int, offload: str, direction: str) -> None:
    result = subprocess.run(
        [
            "unshare",
            "--net",
            sys.executable,
            "-B",
            "-m",
            "tests.interop.kernel",
            str(seed),
            offload,
            direction,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.stderr == ""
    report = json.loads(result.stdout)
    assert report["failures"] == []
    assert report["servers"] == 2
    assert min(report["lost"], report["duplicated"], report["reordered"], report["corrupted"]) > 3
