"""`tunsmith up --workers N`: several processes serve one TUN, and one that dies costs its own flows alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, Caller
from tests.netns.machine import Up, fails, up
from tests.netns.servers import Peers, eventually
from tests.netns.topology import SERVER

pytestmark = pytest.mark.netns

SOCKS = f"socks5://{SERVER[4]}:{ports.SOCKS}"
FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def root(caller: Caller) -> Caller:
    """C, with root at the keyboard."""
    caller.user = 0
    return caller


def workers(running: Up) -> list[int]:
    """The workers of an instance: its children that are Python. The guard is one, too, but has left."""
    pid = running.process.pid
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in children if b"tunsmith.workers" in Path(f"/proc/{child}/cmdline").read_bytes()]


def upstreams(root: Caller, pid: int) -> int:
    """Connections to the echo server that a process has."""
    shown = root.topology.caller.run("ss", "-Hntp", "state", "established", f"dport = :{ports.ECHO}")
    return sum(f"pid={pid}," in line for line in shown.splitlines())


@FAMILIES
def test_flows_of_every_kind_are_served_by_several_workers(root: Caller, family: int) -> None:
    host = SERVER[family]
    with (
        up(root, "--workers", "3") as running,
        root.start(root.command([*CLIENT, "hold", host, str(ports.ECHO), "60"])) as held,
    ):
        eventually(lambda: sum(upstreams(root, pid) for pid in workers(running)) == 60, "60 connections")
        assert all(upstreams(root, pid) > 5 for pid in workers(running))
        assert root.plain_client("udp_echo", host, ports.ECHO, 1200, 8000) == [True, True]
        assert root.plain("ping", "-c1", "-W2", host).returncode == 0
        held.kill()


def test_one_port_keeps_one_mapping_whoever_it_talks_to__rfc4787_4_1(root: Caller) -> None:
    with up(root, "--workers", "4"):
        for _ in range(5):
            targets = SERVER[4], ports.WHO, SERVER[4], ports.WHO_ELSE, SERVER[4], ports.WHO
            seen = root.plain_client("udp_from_one_port", *targets)
            assert len({mapping for mapping, *_ in seen}) == 1, seen


def test_workers_agree_on_what_a_fake_address_means(root: Caller, peers: Peers) -> None:
    """The query reaches one of them, the connection another."""
    names = [f"{number}.example.test" for number in range(12)]
    with up(root, "--workers", "4", "--via", SOCKS) as running:
        for name in names:
            root.plain("curl", "-sS", "-m", "2", "--connect-timeout", "1", f"http://{name}/")
        assert len(running.told("flow")) >= 2 * len(names)
    assert {seen["target"] for seen in peers.forget()} == {f"{name}:80" for name in names}


def test_a_worker_that_dies_is_replaced_and_costs_only_its_flows(root: Caller) -> None:
    with (
        up(root, "--workers", "3") as running,
        root.start(root.command([*CLIENT, "hold", SERVER[4], str(ports.ECHO), "60"])) as held,
    ):
        eventually(lambda: sum(upstreams(root, pid) for pid in workers(running)) == 60, "60 connections")
        first, *others = workers(running)
        before = [upstreams(root, pid) for pid in others]
        os.kill(first, signal.SIGKILL)
        eventually(lambda: len(workers(running)) == 3, "another worker")
        eventually(lambda: any("another takes its place" in text for text in running.notices()), "a word")
        for _ in range(20):
            assert root.plain_client("connect", SERVER[4], ports.ECHO) == "open"
        assert first not in workers(running)
        assert [upstreams(root, pid) for pid in others] == before
        held.kill()


def test_no_worker_outlives_the_one_that_keeps_them(root: Caller) -> None:
    with up(root, "--workers", "2") as running:
        crew = workers(running)
        assert len(crew) == 2
        running.process.kill()
        running.process.wait()
        eventually(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in crew), "their end")
        eventually(lambda: not list(running.state.iterdir()), "the guard")


def test_packets_are_captured_by_one_process_only(root: Caller) -> None:
    code, said = fails(root, "--workers", "2", "--capture", "packets.pcapng")
    assert (code, "--workers" in said) == (2, True), said
