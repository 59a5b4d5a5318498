"""How fast and how fair it is when packets are lost, late or too many: RFC 6675, RFC 8985, RFC 9438, RFC 3168."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.sim.transfer import CONFIG, V4, Conversation, converse, text
from tunsmith.stack.tcp.algorithms import Factory
from tunsmith.stack.tcp.cubic import Cubic
from tunsmith.stack.tcp.recovery import Recovery
from tunsmith.stack.tcp.reno import Reno
from tunsmith.stack.tcp.sender import Sender
from tunsmith.testing.application import Application
from tunsmith.testing.network import Network

NewNetwork = Callable[[int], Network]
SIZE = 1_500_000
SEGMENTS = SIZE // 1448
RTT = 0.04


@pytest.fixture
def timeouts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times of all retransmission timeouts."""
    times: list[float] = []
    on_timeout = Recovery.on_retransmit_timeout

    def count(recovery: Recovery, now: float) -> None:
        times.append(now)
        on_timeout(recovery, now)

    monkeypatch.setattr(Recovery, "on_retransmit_timeout", count)
    return times


def transfer(
    network: Network, *, path: dict[str, Any], size: int = SIZE, **settings: Any
) -> tuple[Conversation, Sender, float]:
    """Send `size` bytes over a path of RTT. Returns the conversation, checked, who sent, and how long it took."""
    config = replace(CONFIG, **settings)
    talk = converse(network, size, 0, left=config, **{"delay": RTT / 2, **path})
    connection = talk.client.connection
    assert connection is not None
    began = network.now
    assert network.run(lambda: talk.server.ended or talk.server.peer_ended, steps=400_000)
    took = network.now - began
    assert network.run()
    talk.check()
    return talk, connection.sender, took


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])
def test_losses_are_repaired_without_a_timeout__rfc8985(
    new_network: NewNetwork, timeouts: list[float], seed: int, offload: bool
) -> None:
    network = new_network(seed)
    talk, sender, _ = transfer(network, path={"loss": 0.01}, offload=offload)
    lost = sum(host.out.faults.counts["lost"] for host in talk.hosts if host.out is not None)
    assert len(timeouts) <= 1
    assert sender.retransmits < 2 * lost + 5


@pytest.mark.parametrize("seed", range(5))
def test_losses_are_repaired_without_rack_too__rfc6675(
    new_network: NewNetwork, timeouts: list[float], seed: int
) -> None:
    transfer(new_network(seed), path={"loss": 0.01}, rack=False, tlp=False)
    assert len(timeouts) <= 4  # a retransmission that is lost, or the last segment


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hold", [0.002, 0.01])
def test_reordering_is_not_taken_for_loss__rfc8985_6_2(
    new_network: NewNetwork, timeouts: list[float], seed: int, hold: float
) -> None:
    """No more than a quarter of the round trip late, as RACK allows for from the first time on."""
    _, sender, _ = transfer(new_network(seed), path={"reorder": 0.05, "hold": hold})
    assert timeouts == []
    assert sender.retransmits < SEGMENTS // 100


@pytest.mark.parametrize("seed", range(5))
def test_worse_reordering_is_learned_from_d_sacks__rfc8985_6_2(
    new_network: NewNetwork, timeouts: list[float], seed: int
) -> None:
    kinds = [{"dsack": True}, {"dsack": False}]
    path = {"reorder": 0.02, "hold": RTT}
    learned, ignorant = (transfer(new_network(seed), path=path, **kind)[1].retransmits for kind in kinds)
    assert learned < ignorant
    assert learned < SEGMENTS // 40
    assert timeouts == []


@pytest.mark.parametrize("algorithm", ["cubic", "reno"])
@pytest.mark.parametrize("queue", [30_000, 100_000])
def test_a_bottleneck_is_used_well(new_network: NewNetwork, algorithm: str, queue: int) -> None:
    rate = 1_000_000
    path = {"rate": rate, "queue": queue}
    _, _, took = transfer(new_network(1), path=path, size=5_000_000, congestion=algorithm)
    assert 5_000_000 / rate / took > 0.8


def test_marks_instead_of_losses_cost_no_retransmission__rfc3168(new_network: NewNetwork) -> None:
    talk, sender, _ = transfer(new_network(1), path={"mark": 0.01}, ecn="request")
    assert talk.hosts[0].out is not None
    assert talk.hosts[0].out.faults.counts["marked"] > 5
    assert sender.retransmits == 0
    assert sender.cc.ssthresh < SIZE


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("algorithm", ["cubic", "reno"])
def test_two_flows_share_a_bottleneck_fairly(new_network: NewNetwork, algorithm: str, seed: int) -> None:
    """Jain's index of what each gets, the second having started late."""
    got = share(new_network(seed), algorithm)
    assert sum(got) ** 2 / (len(got) * sum(each**2 for each in got)) > 0.95


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("first", [Cubic, Reno])
def test_cubic_leaves_reno_its_share__rfc9438_4_3(
    new_network: NewNetwork, first: type[Cubic | Reno], seed: int
) -> None:
    kinds = iter([first, Reno if first is Cubic else Cubic])
    got = share(new_network(seed), lambda mss, window: next(kinds)(mss, window))
    assert min(got) > 0.35 * sum(got)


def share(network: Network, congestion: str | Factory) -> list[int]:
    """Two flows send all they can through one bottleneck, the second from one to three seconds later on. Returns what
    each gets in 30 seconds after that."""
    server = network.host("server", CONFIG)
    servers = [Application(server) for _ in range(2)]
    waiting = list(servers)
    server.on_request = lambda request: waiting.pop(0).accept(request)
    client = network.host("client", replace(CONFIG, congestion=congestion))
    network.wire(client, server, delay=RTT / 2, rate=500_000, queue=40_000, back={"delay": RTT / 2})
    endless = text(1, 100_000) * 400
    clients = [Application(client, endless) for _ in range(2)]
    for number, each in enumerate(clients):
        network.call_later(
            Random(network.seed).uniform(1.0, 3.0) * number,
            lambda each=each, port=40000 + number: each.connect((V4[0], port), (V4[1], 80)),  # type: ignore[misc]
        )
    network.run(seconds=8.0)
    before = [len(each.received) for each in servers]
    network.run(seconds=30.0, steps=1_000_000)
    got = [len(each.received) - had for each, had in zip(servers, before, strict=True)]
    assert sum(got) > 0.85 * 30.0 * 500_000
    return got
