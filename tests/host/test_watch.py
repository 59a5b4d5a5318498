"""host/watch.py against the real kernel: one call a flock, nothing lost, and sleep is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.host.private_network import Network
from tunsmith.host.machine import Machine
from tunsmith.host.watch import FROZEN, TICK, SleepClock, Watcher
from tunsmith.route.change import AddRoute, AddRule
from tunsmith.route.facts import ANY4, ANY6, Route, Rule

LIMIT = 10.0


class Calls:
    """Counts the calls of a watcher, with the loop's time of each."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.slept: list[float] = []
        self._came = asyncio.Event()

    def changed(self) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self._came.set()

    async def next(self) -> None:
        await asyncio.wait_for(self._came.wait(), LIMIT)
        self._came.clear()


@pytest_asyncio.fixture
async def calls(network: Network) -> AsyncIterator[Calls]:
    found = Calls()
    watcher = Watcher(found.changed, found.slept.append)
    watcher.start()
    yield found
    watcher.close()
    watcher.close()


@pytest.mark.netns
@pytest.mark.parametrize(
    "commands",
    [
        "link set uplink down",
        "link set uplink mtu 1400",
        "link delete uplink",
        "link add other type bridge",
        "address add 10.9.0.3/24 dev uplink",
        "address delete fd09::2/64 dev uplink",
        "route delete default",
        "route replace default via fd09::3",
        "route add 192.0.2.0/24 via 10.9.0.1",
        "rule add lookup 300",
        "rule add to 192.0.2.0/24 lookup 300",
    ],
)
async def test_every_kind_of_change_is_noticed(network: Network, calls: Calls, commands: str) -> None:
    network.ip(commands)
    await calls.next()


@pytest.mark.netns
async def test_rules_of_ipv6_are_noticed(network: Network, calls: Calls) -> None:
    with Machine() as machine:
        machine.make(AddRule(Rule(6, 500, 300, protocol=4)))
    await calls.next()


@pytest.mark.netns
async def test_a_flock_of_changes_is_one_call(network: Network, calls: Calls) -> None:
    network.ip("\n".join(f"route add 192.0.2.{host} via 10.9.0.1" for host in range(200)))
    await calls.next()
    network.ip("route add 198.51.100.1 via 10.9.0.1")
    await calls.next()
    assert len(calls.times) == 2


@pytest.mark.netns
async def test_a_flock_without_end_is_told_all_the_same(network: Network, calls: Calls) -> None:
    start = asyncio.get_running_loop().time()
    word = "add"
    while not calls.times:
        network.ip(f"route {word} 192.0.2.1 via 10.9.0.1")
        word = "delete" if word == "add" else "add"
        await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() < start + LIMIT


@pytest.mark.netns
async def test_changes_of_ours_do_not_call(network: Network, calls: Calls) -> None:
    """Else a plan that is put right would be looked at for ever."""
    with Machine() as machine:
        machine.make(AddRoute(Route(ANY4, "uplink", table=125)))
        machine.make(AddRoute(Route(ANY6, "uplink", table=125)))
        machine.make(AddRule(Rule(4, 500, 125)))
        machine.make(AddRule(Rule(6, 500, 125)))
    network.ip("route add 192.0.2.0/24 via 10.9.0.1")
    start = asyncio.get_running_loop().time()
    await calls.next()
    assert len(calls.times) == 1
    assert calls.times[0] >= start


@pytest.mark.netns
async def test_an_overflow_is_a_change(network: Network, calls: Calls) -> None:
    """The kernel drops events that nobody fetches, and says so once (ENOBUFS)."""
    for _ in range(6):
        network.ip(
            "\n".join(
                f"route add 10.{a}.{b}.0/24 dev uplink proto bird" for a in range(20, 40) for b in range(256)
            )
        )
        network.ip("route flush proto bird")
    await calls.next()


@pytest.fixture
def clock() -> SleepClock:
    return SleepClock(100.0, 1100.0)


def test_time_that_passes_is_no_sleep(clock: SleepClock) -> None:
    assert clock.look(101.0, 1101.0) == 0.0
    assert clock.look(102.3, 1102.3) == 0.0


def test_suspend_is_what_boottime_counts_and_monotonic_does_not(clock: SleepClock) -> None:
    assert clock.look(101.0, 1101.0 + 7200) == pytest.approx(7200)
    assert clock.look(102.0, 1102.0 + 7200) == 0.0


def test_without_a_turn_for_long_we_were_frozen(clock: SleepClock) -> None:
    late = FROZEN + 55
    assert clock.look(100 + TICK + late, 1100 + TICK + late) == pytest.approx(late)
    assert clock.look(101 + TICK + late, 1101 + TICK + late) == 0.0


def test_a_late_turn_is_no_sleep(clock: SleepClock) -> None:
    assert clock.look(100 + TICK + FROZEN - 1, 1100 + TICK + FROZEN - 1) == 0.0
