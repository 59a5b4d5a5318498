from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.sim.scenario import scenario
from tests.sim.transfer import CONFIG, V4, V6, converse
from tunsmith.testing.network import Network

NewNetwork = Callable[[int], Network]


@pytest.mark.parametrize("addresses", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])
@pytest.mark.parametrize("mtu", [576, 1280, 1500, 9000, 65535])
def test_both_ways_at_any_mtu(
    new_network: NewNetwork, addresses: tuple[bytes, bytes], offload: bool, mtu: int
) -> None:
    network = new_network(mtu)
    config = replace(CONFIG, mtu=mtu, offload=offload)
    talk = converse(network, 200_000, 300_000, addresses=addresses, left=config, delay=0.01)
    assert network.run()
    talk.check()


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_doubled_or_moved_on_a_bad_path(new_network: NewNetwork, seed: int) -> None:
    network = new_network(seed)
    talk = converse(
        network,
        150_000,
        100_000,
        addresses=(V4, V6)[seed % 2],
        loss=0.01 * (seed % 11),
        duplicate=0.05,
        reorder=0.05,
        corrupt=0.01,
        delay=0.01,
        jitter=0.005,
    )
    assert network.run()
    talk.check()


@pytest.mark.parametrize("block", range(10))
def test_any_scenario(new_network: NewNetwork, block: int) -> None:
    for seed in range(block * 30, block * 30 + 30):
        network = new_network(seed)
        talk = scenario(network)
        assert network.run(seconds=7200)
        talk.check()


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10, 100))
def test_any_scenario_at_length(new_network: NewNetwork, block: int) -> None:
    test_any_scenario(new_network, block)
