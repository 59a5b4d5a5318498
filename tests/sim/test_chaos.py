"""Many connections between two hosts, ended in every way at any time, on bad paths. What arrives is always
the beginning of what was sent; a connection that ended well has delivered everything; the network comes to
rest, and what is left over then waits for a peer that is gone and has nothing to send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from tests.sim.transfer import CONFIG, V4, V6, text
from tunsmith.errors import LocalError
from tunsmith.stack.request import FlowRequest
from tunsmith.testing.application import Application
from tunsmith.testing.network import Host, Network
from tunsmith.wire.icmp import IcmpError

NewNetwork = Callable[[int], Network]


class Chaos:
    """One network and all that happens on it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.random = random = Random(network.seed)
        self.pairs: dict[tuple[int, int], tuple[Application, list[Application]]] = {}
        """By port and ISN of the client: an old duplicate of its SYN may find a server of its own."""
        config = replace(
            CONFIG,
            mtu=random.choice([576, 1500, 9000]),
            timestamps=random.random() < 0.5,
            receive_buffer=random.choice([2000, 65535, 1 << 20]),
            time_wait=random.choice([0.1, 2.0]),
            retries=6,
            fin_wait_2=5.0,
            connection_limit=random.choice([3, 1000]),
        )
        self.client = network.host("client", replace(config, isn_secret=b"left"))
        self.server = network.host("server", replace(config, isn_secret=b"right"))
        network.wire(
            self.client,
            self.server,
            loss=random.choice([0, 0.02, 0.2]),
            duplicate=random.choice([0, 0.1]),
            reorder=random.choice([0, 0.2]),
            corrupt=random.choice([0, 0.02]),
            delay=random.choice([0.0, 0.01, 0.2]),
            hold=random.choice([0.01, 1.0]),
        )
        self.server.on_request = self.answer
        for number in range(random.randrange(1, 12)):
            network.call_later(random.random() * 2, lambda number=number: self.begin(number))  # type: ignore[misc]

    def begin(self, number: int) -> None:
        addresses = V4 if number % 2 else V6
        length = self.random.choice([0, 10, 5000, 60_000])
        app = Application(self.client, text(number, length), wait_for_peer=self.random.random() < 0.3)
        try:
            connection = app.connect((addresses[0], 1000 + number % 3), (addresses[1], 80))
        except LocalError:
            return  # the ends are in use, or the stack is full
        self.pairs[1000 + number % 3, connection.iss] = (app, [])
        self.meddle(self.client, app)

    def answer(self, request: FlowRequest) -> None:
        now = self.network.now
        match self.random.randrange(8):
            case 0:
                request.refuse(now)
            case 1:
                request.unreachable(IcmpError.HOST, now)
            case 2:
                request.drop()
            case _:
                self.network.call_later(self.random.random() * 0.5, lambda: self.accept(request))

    def accept(self, request: FlowRequest) -> None:
        app = Application(self.server, text(request.isn, self.random.choice([0, 3000, 80_000])))
        app.accept(request)
        if app.connection is None:
            return
        self.pairs[request.source[1], request.isn][1].append(app)
        self.meddle(self.server, app)

    def meddle(self, host: Host, app: Application) -> None:
        """End the connection from here, perhaps."""
        connection = app.connection
        assert connection is not None
        what = self.random.choice([None, None, connection.abort, connection.close, connection.shutdown])
        if what is not None:
            self.network.call_later(self.random.random() * 3, lambda: what(self.network.now))

    def check(self) -> None:
        for client, servers in self.pairs.values():
            server, *others = [server for server in servers if server.established] or [
                Application(self.server)
            ]
            assert not others
            for one, other in ((client, server), (server, client)):
                whole = other.outgoing
                assert whole.startswith(bytes(one.received))
                if one.peer_ended:
                    assert len(one.received) == len(whole) - len(other.unwritten)
        for host in (self.client, self.server):
            for connection in host.stack.connections.values():
                assert not connection.sender.waiting
                assert not connection.sender.inflight
            assert not host.stack.time_waits.records
            assert not host.stack.requests


def unfold(network: Network) -> None:
    chaos = Chaos(network)
    assert network.run(steps=100_000)
    chaos.check()


@pytest.mark.parametrize("block", range(10))
def test_chaos(new_network: NewNetwork, block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        unfold(new_network(seed))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10, 100))
def test_chaos_at_length(new_network: NewNetwork, block: int) -> None:
    test_chaos(new_network, block)
