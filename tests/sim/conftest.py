"""A failed simulation leaves its packets and its seed in .artifacts/, and says how to run it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tunsmith.testing.network import Network

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / ".artifacts"
NETWORKS = pytest.StashKey[list[Network]]()


@pytest.fixture
def new_network(request: pytest.FixtureRequest) -> Callable[[int], Network]:
    """Makes networks by seed; what went over their wires is saved if the test fails."""
    made = request.node.stash.setdefault(NETWORKS, [])

    def make(seed: int) -> Network:
        network = Network(seed)
        made.append(network)
        return network

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when == "call":
        for network in item.stash.get(NETWORKS, [])[-1:]:
            folder = ARTIFACTS / re.sub(r"[^\w.=-]+", "_", item.nodeid.removeprefix("tests/"))
            folder.mkdir(parents=True, exist_ok=True)
            network.save(folder / "capture.pcapng")
            again = f".venv/bin/python -m pytest {shlex.quote(item.nodeid)}"
            (folder / "seed").write_text(f"{network.seed}\n{again}\n")
            where = folder.relative_to(ROOT)
            report.sections.append(
                (
                    "simulated network",
                    f"seed {network.seed}, packets in {where}/capture.pcapng\nagain: {again}",
                )
            )
    return report
