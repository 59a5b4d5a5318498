"""Every script below this folder, on our stack, in both families; what is marked so also on Linux.

IPv6 runs with initial sequence numbers close to the end of their space, so that all of them wrap.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tunsmith.testing.script.parser import parse_file
from tunsmith.testing.script.run import run_on_stack
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
CAPTURES = ROOT / ".artifacts" / "scripts"
SCRIPTS = {str(path.relative_to(FOLDER).with_suffix("")): path for path in sorted(FOLDER.rglob("*.script"))}
FOR_LINUX = [path for path in SCRIPTS.values() if "\nkernel\n" in path.read_text()]
ATTEMPTS = 3
"""In real time a busy machine may be late; what fails each time is no accident."""
BENCHES = 8
"""Linux is waited for most of the time, so several of its namespaces are at work at once."""


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["v4", "v6"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, family: IpFamily) -> None:
    capture = CAPTURES / f"{name.replace('/', '_')}_v{family.version}.pcapng"
    run_on_stack(parse_file(SCRIPTS[name]), family, capture=capture)


def test_every_script_says_which_rule_it_holds() -> None:
    for name, path in SCRIPTS.items():
        assert parse_file(path).clauses, name


def test_there_are_scripts_for_linux() -> None:
    assert len(FOR_LINUX) > 200


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare(1)")
def test_scripts_on_linux() -> None:
    parts = [FOR_LINUX[number::BENCHES] for number in range(BENCHES)]
    for _ in range(ATTEMPTS):
        failed = _failures(parts)
        if not failed:
            break
        parts = [list(failed)]
    assert not failed, "\n\n".join(failed.values())


def _failures(parts: list[list[Path]]) -> dict[Path, str]:
    """Run each part in a namespace of its own, all at once; the scripts that failed, and how."""
    benches = [
        subprocess.Popen(
            ["unshare", "--net", sys.executable, "-B", "-m", "tunsmith.testing.script", "--kernel", *part],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for part in parts
    ]
    found = {}
    for bench in benches:
        report = bench.communicate(timeout=90)[0]
        assert report.splitlines()[-1].endswith(" failed"), report
        for failure in re.findall(r"(?m)^failed ((?:.+\n)+)", report):
            found[Path(failure.partition(":")[0])] = failure
    return found
