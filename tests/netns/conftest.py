from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.netns.caller import ORDINARY, Caller
from tests.netns.leaks import Snapshot, adopt_orphans, network
from tests.netns.servers import Peers, Servers
from tests.netns.static_programs import StaticPrograms
from tests.netns.topology import Topology

PROGRAMS = ("unshare", "nsenter", "setpriv", "nft", "ip", "nginx", "unbound", "iperf3", "git", "ssh-keygen")
FAILED = pytest.StashKey[bool]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {' '.join(missing) or 'nothing else'}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def world() -> Iterator[tuple[Topology, Servers]]:
    """The machines of topology.py and the servers on S."""
    adopt_orphans()
    files = Path(tempfile.mkdtemp(prefix="tunsmith-netns-"))
    files.chmod(0o755)
    try:
        topology = Topology(files)
        with closing(topology), closing(Servers(topology.server, files)) as servers:
            others = (topology.router, topology.server)
            before = [network(namespace) for namespace in others]
            yield topology, servers
            assert [network(namespace) for namespace in others] == before
    finally:
        shutil.rmtree(files)


@pytest.fixture(scope="session")
def static_programs(world: tuple[Topology, Servers]) -> StaticPrograms:
    """Built once, where every user can run them."""
    return StaticPrograms(world[0].files)


@pytest.fixture
def peers(world: tuple[Topology, Servers]) -> Peers:
    """The odd servers; what they noticed before is forgotten."""
    world[1].peers.forget()
    return world[1].peers


@pytest.fixture
def caller(world: tuple[Topology, Servers], request: pytest.FixtureRequest) -> Iterator[Caller]:
    """The caller's machine. Afterwards everything must be as it was; captures stay where the test failed."""
    home = Path(tempfile.mkdtemp(prefix="tunsmith-caller-"))
    os.chown(home, ORDINARY, ORDINARY)
    home.chmod(0o755)
    machine = Caller(world[0], home)
    before = Snapshot(machine)
    yield machine
    try:
        before.check()
    except AssertionError:
        request.node.stash[FAILED] = True
        raise
    finally:
        captures = list(home.glob("*.pcapng"))
        if request.node.stash.get(FAILED, False) and captures:
            print("captures:", *captures)
        else:
            shutil.rmtree(home)
