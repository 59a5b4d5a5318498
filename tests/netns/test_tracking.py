"""The network of C changes under `tunsmith up`: what is new works within seconds, what cannot go on ends honestly."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, Caller
from tests.netns.machine import up
from tests.netns.servers import eventually
from tests.netns.topology import CALLER, ROUTER, SERVER

pytestmark = pytest.mark.netns

STRATEGIES = pytest.mark.parametrize("strategy", ["mark", "interface", "cover"])
FAMILIES = pytest.mark.parametrize("family", [4, 6])
ELSEWHERE = {4: "10.81.1.77", 6: "fd81:1::77"}
LENGTH = {4: 24, 6: 64}

Ip = Callable[..., None]


@pytest.fixture
def root(caller: Caller) -> Caller:
    """C, with root at the keyboard."""
    caller.user = 0
    return caller


@pytest.fixture
def ip(root: Caller) -> Iterator[Ip]:
    """Changes the network of C, line by line, until the end of the test."""
    caller = root.topology.caller

    def change(*lines: str) -> None:
        for line in lines:
            caller.run("ip", *line.split())

    yield change
    lines = [
        "link set c0 up",
        "link set c1 up",
        "address flush dev c0 scope global",
        *(f"address replace {CALLER[family]}/{LENGTH[family]} dev c0 nodad" for family in (4, 6)),
        "address replace 10.81.3.2/24 dev c1",
        "address replace fd81:3::2/64 dev c1 nodad",
        f"route replace default via {ROUTER[4]} dev c0 metric 10",
        f"-6 route replace default via {ROUTER[6]} dev c0 metric 10",
        "route replace default via 10.81.3.1 dev c1 metric 900",
        "-6 route replace default via fd81:3::1 dev c1 metric 9000",
    ]
    caller.run(
        "sh", "-c", "\n".join(f"ip {line.replace(' nodad', '') if '.' in line else line}" for line in lines)
    )


def works(root: Caller, family: int = 4) -> None:
    """A new flow works, within seconds."""
    eventually(
        lambda: root.plain_client("connect", SERVER[family], ports.ECHO, 1) == "open", "a connection", 3.0
    )


def seen_from(root: Caller, family: int = 4) -> str:
    """The address by which S knows C."""
    said = root.plain_client("udp_ask", SERVER[family], ports.WHO, 1)
    return str(said).split()[0]


@STRATEGIES
@FAMILIES
def test_another_default_route_is_followed(root: Caller, ip: Ip, strategy: str, family: int) -> None:
    second = {4: "10.81.3.2", 6: "fd81:3::2"}[family]
    with up(root, "--strategy", strategy):
        assert seen_from(root, family) == CALLER[family]
        ip(
            f"route delete default via {ROUTER[4]} dev c0 metric 10",
            f"-6 route delete default via {ROUTER[6]} dev c0 metric 10",
        )
        eventually(lambda: seen_from(root, family) == second, "the other way", 3.0)
        works(root, family)


@STRATEGIES
def test_another_address_is_followed_and_flows_from_the_old_one_are_reset(
    root: Caller, ip: Ip, strategy: str
) -> None:
    with (
        up(root, "--strategy", strategy) as running,
        root.start(root.command([*CLIENT, "wait", SERVER[4], str(ports.DEAF)])) as held,
    ):
        eventually(lambda: running_flows(root), "a connection")
        ip(
            f"address delete {CALLER[4]}/24 dev c0",
            f"address add {ELSEWHERE[4]}/24 dev c0",
            f"route replace default via {ROUTER[4]} dev c0 metric 10",
        )
        eventually(lambda: seen_from(root) == ELSEWHERE[4], "the new address", 3.0)
        works(root)
        out, _ = held.communicate(timeout=5)
        assert json.loads(out)["end"] in ("ECONNRESET", "ECONNABORTED")
        assert "network changed" in [flow["outcome"] for flow in running.told("flow")]


def running_flows(root: Caller) -> list[str]:
    shown = root.topology.caller.run("ss", "-Hnt", "state", "established", f"dport = :{ports.DEAF}")
    return shown.splitlines()[1:]


@STRATEGIES
def test_an_uplink_that_goes_and_comes_back_works_again(root: Caller, ip: Ip, strategy: str) -> None:
    with up(root, "--strategy", strategy) as running:
        ip("link set c1 down", "link set c0 down")
        eventually(lambda: any("no way out" in text for text in running.notices()), "a word", 3.0)
        assert root.plain_client("connect", SERVER[4], ports.ECHO, 1) != "open"
        ip(
            "link set c0 up",
            f"route replace default via {ROUTER[4]} dev c0 metric 10",
            f"address replace {CALLER[6]}/64 dev c0 nodad",
            f"-6 route replace default via {ROUTER[6]} dev c0 metric 10",
        )
        works(root)
        works(root, 6)


@STRATEGIES
def test_no_way_out_at_the_start_is_none_at_all(root: Caller, ip: Ip, strategy: str) -> None:
    ip("link set c1 down", "link set c0 down")
    with up(root, "--strategy", strategy):
        ip("link set c0 up", f"route replace default via {ROUTER[4]} dev c0 metric 10")
        works(root)


def test_rules_that_somebody_wiped_are_set_again(root: Caller, ip: Ip) -> None:
    def ours() -> list[str]:
        lines = root.topology.caller.run("ip", "rule").splitlines()
        return [line for line in lines if line.endswith("proto 125")]

    with up(root, "--via", "block"):
        before = ours()
        assert before
        ip(*(f"rule delete priority {line.partition(':')[0]}" for line in before))
        eventually(lambda: ours() == before, "our rules", 3.0)
        assert root.plain_client("connect", SERVER[4], ports.ECHO, 1) == "ECONNREFUSED"


@pytest.mark.parametrize("ours_first", [True, False])
def test_another_vpn_stays_reachable_whoever_comes_first(root: Caller, ip: Ip, ours_first: bool) -> None:
    """As wg-quick sets it up: its own packets bear a mark, all else goes into its table."""
    vpn = (
        "link add wg9 type veth peer name wg9-far",
        "address add 10.99.0.1/24 dev wg9",
        "link set wg9 up",
        "link set wg9-far up",
        "route add 10.99.7.0/24 dev wg9",
    )
    try:
        if not ours_first:
            ip(*vpn)
        with up(root, "--via", "block"):
            if ours_first:
                ip(*vpn)
            way = root.topology.caller.run("ip", "route", "get", "10.99.7.7")
            assert "dev wg9" in way
            assert root.plain_client("connect", SERVER[4], ports.ECHO, 1) == "ECONNREFUSED"
    finally:
        ip("link delete wg9")


@pytest.mark.slow
def test_after_a_freeze_new_flows_work_and_dead_ones_end(root: Caller) -> None:
    """SIGSTOP stands for a suspend; the other ends forget meanwhile."""
    with (
        up(root) as running,
        root.start(root.command([*CLIENT, "wait", SERVER[4], str(ports.DEAF)])) as held,
    ):
        eventually(lambda: running_flows(root), "a connection")
        running.process.send_signal(signal.SIGSTOP)
        root.topology.router.run("ip", "route", "add", "blackhole", f"{CALLER[4]}/32")
        try:
            time.sleep(7)
            running.process.send_signal(signal.SIGCONT)
            out, _ = held.communicate(timeout=15)
        finally:
            root.topology.router.run("ip", "route", "delete", "blackhole", f"{CALLER[4]}/32")
        assert json.loads(out)["end"] in ("ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH")
        works(root)
        assert any("has slept for" in text for text in running.notices())
