from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.sim.scenario import scenario
from tests.sim.transfer import CONFIG, V4, V6, Conversation, converse, text
from tunsmith.testing.application import Application
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


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("before_wrap", [1, 2, 1000, 100_000])
def test_sequence_numbers_wrap_on_the_way(new_network: NewNetwork, seed: int, before_wrap: int) -> None:
    network = new_network(seed)
    bad: dict[str, Any] = {"loss": 0.05, "reorder": 0.1, "duplicate": 0.05} if seed else {}
    left = replace(CONFIG, isn=lambda key, now: -before_wrap)
    right = replace(CONFIG, isn=lambda key, now: -before_wrap - 7)
    talk = converse(network, 300_000, 300_000, left=left, right=right, delay=0.01, **bad)
    assert network.run()
    talk.check()


@pytest.mark.parametrize("window", [1, 7, 100, 536, 1460, 3000])
def test_tiny_windows(new_network: NewNetwork, window: int) -> None:
    network = new_network(window)
    config = replace(CONFIG, receive_buffer=window)
    talk = converse(network, 50 * min(window, 100), 3 * window, left=config, delay=0.01, loss=0.02)
    assert network.run()
    talk.check()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("appetite", [100, 1460, 30_000])
def test_slow_readers_close_the_window_and_open_it(new_network: NewNetwork, seed: int, appetite: int) -> None:
    network = new_network(seed)
    config = replace(CONFIG, receive_buffer=20_000)
    slow = {"appetite": appetite, "pause": 0.05}
    talk = converse(
        network,
        20 * appetite + 50_000,
        20 * appetite + 20_000,
        left=config,
        client=slow,
        server=slow,
        delay=0.01,
        loss=0.02 * seed,
    )
    assert network.run()
    talk.check()


def test_a_reader_that_sleeps_for_an_hour_loses_nothing(new_network: NewNetwork) -> None:
    network = new_network(1)
    talk = converse(network, 3_000_000, 0, server={"appetite": 1 << 20, "pause": 3600.0}, delay=0.01)
    assert network.run()
    talk.check()


def test_the_buffers_of_a_stopped_reader_are_bounded(new_network: NewNetwork) -> None:
    network = new_network(1)
    config = replace(CONFIG, receive_buffer=1 << 16, send_buffer=1 << 16)
    talk = converse(network, 3_000_000, 0, left=config, server={"appetite": 1, "pause": 1e9}, delay=0.01)
    network.run(seconds=3600)
    sender, receiver = talk.client.connection, talk.server.connection
    assert sender is not None
    assert receiver is not None
    assert receiver.readable_bytes <= 1 << 16
    assert sender.sender.unsent <= 1 << 16


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_long_transfers(new_network: NewNetwork, seed: int) -> None:
    network = new_network(seed)
    talk = converse(network, 30_000_000, 10_000_000, delay=0.001, loss=0.001, left=replace(CONFIG, mtu=65535))
    assert network.run(steps=2_000_000)
    talk.check()


@pytest.mark.parametrize("seed", range(4))
def test_each_host_opens_a_connection_to_the_other(new_network: NewNetwork, seed: int) -> None:
    network = new_network(seed)
    talk = converse(network, 50_000, 60_000, delay=0.01, loss=0.05)
    a, b = talk.hosts
    up, down = text(seed + 7, 70_000), text(seed + 8, 80_000)
    client, server = Application(b, up), Application(a, down)
    a.on_request = server.accept
    client.connect((V4[1], 40000), (V4[0], 80))
    assert network.run()
    talk.check()
    Conversation(network, client, server, up, down, talk.hosts).check()
