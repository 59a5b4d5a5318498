"""ping(8) under `tunsmith run`: the answers it would get without, from whoever gives them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import pytest

from tests.netns.caller import Caller, Done
from tests.netns.topology import BLACK_HOLE, NO_HOST, NO_NETWORK, PROHIBITED, ROUTER, SERVER
from tunsmith.config import Network

GATEWAY = {4: str(Network().gateway), 6: str(Network().gateway6)}
PING = ("ping", "-n", "-c1", "-W5")
"""Of several (-c), ping waits for the last answers only twice as long as for those before, unless told to (-w)."""

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("ping") is None, reason="needs ping (iputils-ping)"),
]


@pytest.fixture(params=[4, 6])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def forbidding(caller: Caller) -> Iterator[Caller]:
    """A machine like a stock Debian 12, where no group may open ping sockets."""
    sysctl = "net/ipv4/ping_group_range"
    caller.topology.caller.tune({sysctl: "1 0"})
    yield caller
    caller.topology.caller.tune({sysctl: "0 2147483647"})


def ttl_of(done: Done) -> int:
    match = re.search(r"ttl=(\d+)", done.stdout)
    assert match, done
    return int(match[1])


def error_of(done: Done) -> str:
    """What ping was told: the words behind "From ADDRESS icmp_seq=N"."""
    match = re.search(r"^From \S+ icmp_seq=\d+ (.+)$", done.stdout, re.MULTILINE)
    assert match, done
    return match[1]


def offender_of(done: Done) -> str:
    match = re.search(r"^From (\S+) icmp_seq=\d+ ", done.stdout, re.MULTILINE)
    assert match, done
    return match[1]


def test_a_host_answers_with_what_it_was_sent(caller: Caller, version: int) -> None:
    done = caller.run(*PING, "-w20", "-c3", "-i0.05", "-s", "333", "-p", "a5", SERVER[version])
    assert done.returncode == 0
    assert "3 received" in done.stdout
    assert "wrong" not in done.stdout
    assert done.stderr == ""


def test_tunsmith_is_one_hop_each_way(caller: Caller, version: int) -> None:
    assert ttl_of(caller.run(*PING, SERVER[version])) == ttl_of(caller.plain(*PING, SERVER[version])) - 1


@pytest.mark.parametrize("size", [0, 8000])
def test_empty_and_fragmented_pings_pass(caller: Caller, version: int, size: int) -> None:
    assert caller.run(*PING, "-s", str(size), SERVER[version]).returncode == 0


def test_each_hop_reports_from_its_own_address(caller: Caller, version: int) -> None:
    for ttl, hop in enumerate((GATEWAY[version], ROUTER[version]), start=1):
        done = caller.run(*PING, "-t", str(ttl), SERVER[version])
        assert offender_of(done) == hop
        assert "exceeded" in error_of(done)
    assert caller.run(*PING, "-t", "3", SERVER[version]).returncode == 0


@pytest.mark.parametrize("where", [NO_HOST, NO_NETWORK, PROHIBITED], ids=["host", "network", "prohibited"])
def test_errors_are_those_of_the_network(caller: Caller, version: int, where: dict[int, str]) -> None:
    # Linux routers send an error a second: ask until told.
    until_told = ("ping", "-n", "-c1", "-w8", "-i0.4", where[version])
    done, plain = caller.run(*until_told), caller.plain(*until_told)
    assert done.returncode == plain.returncode == 1
    assert (offender_of(done), error_of(done)) == (offender_of(plain), error_of(plain))


def test_silence_stays_silence(caller: Caller, version: int) -> None:
    done = caller.run("ping", "-n", "-c1", "-W0.5", BLACK_HOLE[version])
    assert done.returncode == 1
    assert "From" not in done.stdout


@pytest.mark.parametrize("via", ["direct", "block"])
def test_the_gateway_answers_whatever_the_upstream(caller: Caller, version: int, via: str) -> None:
    assert caller.run(*PING, GATEWAY[version], options=["--via", via]).returncode == 0


def test_an_upstream_without_ping_is_unreachable_at_once(caller: Caller, version: int) -> None:
    done = caller.run(*PING, "-W60", SERVER[version], options=["--via", "block"])
    assert done.returncode == 1
    assert offender_of(done) == GATEWAY[version]
    assert "nreachable" in error_of(done)


def test_pings_leave_by_the_pinned_interface(caller: Caller, version: int) -> None:
    def received(link: str) -> int:
        shown = json.loads(caller.topology.router.run("ip", "-j", "-s", "link", "show", link))
        return int(shown[0]["stats64"]["rx"]["packets"])

    before = received("rc0"), received("rc1")
    done = caller.run(*PING, "-w20", "-c20", "-i0.01", SERVER[version], options=["--interface", "c1"])
    assert "20 received" in done.stdout
    assert received("rc1") - before[1] >= 20 > received("rc0") - before[0]


def test_root_needs_no_sysctl(forbidding: Caller, version: int) -> None:
    forbidding.user = 0
    assert "2 received" in forbidding.run(*PING, "-w20", "-c2", "-i0.05", SERVER[version]).stdout
    done = forbidding.run(*PING, "-t", "2", SERVER[version])
    assert offender_of(done) == ROUTER[version]


def test_others_need_only_a_ping_program_that_may(forbidding: Caller, version: int) -> None:
    done = forbidding.run(*PING, "-w20", "-c2", "-i0.05", "-s", "333", "-p", "a5", SERVER[version])
    assert "2 received" in done.stdout
    assert "wrong" not in done.stdout
    assert ttl_of(done) == ttl_of(forbidding.plain(*PING, SERVER[version])) - 1
    assert forbidding.run(*PING, "-s", "0", SERVER[version]).returncode == 0
    for ttl, hop in enumerate((GATEWAY[version], ROUTER[version]), start=1):
        assert offender_of(forbidding.run(*PING, "-t", str(ttl), SERVER[version])) == hop
    done = forbidding.run("ping", "-n", "-c1", "-W0.5", BLACK_HOLE[version])
    assert (done.returncode, done.stderr) == (1, "")
    assert "From" not in done.stdout


@pytest.mark.parametrize("where", [NO_HOST, NO_NETWORK, PROHIBITED], ids=["host", "network", "prohibited"])
def test_errors_by_that_program_are_the_same(forbidding: Caller, version: int, where: dict[int, str]) -> None:
    until_told = ("ping", "-n", "-c1", "-w8", "-i0.4", where[version])
    done, plain = forbidding.run(*until_told), forbidding.plain(*until_told)
    assert (offender_of(done), error_of(done)) == (offender_of(plain), error_of(plain))


def test_without_any_way_to_ping_one_line_says_which_sysctl_forbids_it(
    forbidding: Caller, version: int
) -> None:
    copy = forbidding.home / "ping"  # file capabilities are not copied
    forbidding.extra = f"cp /usr/bin/ping {copy}; mount --bind {copy} /usr/bin/ping"
    done = forbidding.run("ping", "-n", "-c3", "-i0.2", SERVER[version])
    assert done.returncode == 1
    assert done.stderr.count("tunsmith: ping is not permitted") == 1
    assert done.stderr.count("\n") == 1
    assert error_of(done)
