"""A whole scenario out of one number: path, hosts and programs, good and bad."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from tests.sim.transfer import CONFIG, V4, V6, Conversation, converse
from tunsmith.stack.config import StackConfig
from tunsmith.testing.network import Network


def _config(random: Random, mtu: int) -> StackConfig:
    window = random.choice([mtu, 2 * mtu, 5000, 65535, 70_000, 1 << 20])
    return replace(
        CONFIG,
        mtu=mtu,
        offload=random.random() < 0.5,
        timestamps=random.random() < 0.7,
        sack=random.random() < 0.7,
        window_scaling=random.random() < 0.7,
        receive_buffer=window,
        send_buffer=random.choice([mtu, 10_000, 1 << 20]),
        no_delay=random.random() < 0.7,
        time_wait=random.choice([0.5, 60.0]),
        ecn=random.choice(["off", "accept", "request"]),
        dsack=random.random() < 0.7,
        rack=random.random() < 0.7,
        tlp=random.random() < 0.7,
        congestion=random.choice(["cubic", "reno"]),
        restart_after_idle=random.random() < 0.5,
    )


def _path(random: Random, mtu: int) -> dict[str, Any]:
    if random.random() < 0.2:
        return {"delay": random.choice([0.0, 0.001, 0.1]), "whole": random.random() < 0.5}
    path: dict[str, Any] = {
        "loss": random.choice([0, 0, 0.01, 0.05, 0.1]),
        "duplicate": random.choice([0, 0, 0.02, 0.2]),
        "reorder": random.choice([0, 0, 0.02, 0.2]),
        "corrupt": random.choice([0, 0, 0.01, 0.05]),
        "mark": random.choice([0, 0.05, 0.5]),
        "delay": random.choice([0.0, 0.001, 0.02, 0.3]),
        "jitter": random.choice([0.0, 0.001, 0.05]),
        "hold": random.choice([0.001, 0.05, 0.5]),
        "whole": random.random() < 0.3,
    }
    if random.random() < 0.3:
        path["rate"] = random.choice([50_000, 1_000_000, 20_000_000])
        path["queue"] = random.choice([3, 30]) * (65535 if path["whole"] else mtu)
    return path


def _program(random: Random) -> dict[str, Any]:
    program: dict[str, Any] = {"wait_for_peer": random.random() < 0.3}
    if random.random() < 0.5:
        program["chunk"] = random.choice([100, 1000, 5000, 70_000])
    if random.random() < 0.5:
        program["appetite"] = random.choice([700, 3000, 100_000])
        program["pause"] = random.choice([0.0, 0.001, 0.05])
    return program


def scenario(network: Network) -> Conversation:
    """The scenario of the network's seed."""
    random = Random(network.seed)
    mtu = random.choice([576, 1280, 1500, 9000, 65535])
    client, server = _program(random), _program(random)
    if client["wait_for_peer"] and server["wait_for_peer"]:
        server["wait_for_peer"] = False
    longest = 40 * min(mtu, 4000)
    return converse(
        network,
        random.choice([0, 1, random.randrange(longest)]),
        random.choice([0, 1, random.randrange(longest)]),
        addresses=(V4, V6)[mtu >= 1280 and random.random() < 0.5],
        client=client,
        server=server,
        left=_config(random, mtu),
        right=_config(random, mtu),
        back=_path(random, mtu),
        **_path(random, mtu),
    )
