"""How connections end: FINs lost and crossed, resets, peers that vanish."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.transfer import CONFIG, V4, Conversation, converse
from tunsmith.stack.config import StackConfig
from tunsmith.testing.application import Application
from tunsmith.testing.network import Network
from tunsmith.wire.vnet import VNET_HDR_LEN

NewNetwork = Callable[[int], Network]
SEEDS = pytest.mark.parametrize("seed", range(8))


@pytest.mark.parametrize("last", ["client", "server"])
def test_the_side_that_closes_last_is_gone_once_its_fin_is_acknowledged(
    new_network: NewNetwork, last: str
) -> None:
    network = new_network(1)
    waiting: dict[str, Any] = {last: {"wait_for_peer": True}}
    talk = converse(network, 10, 20, **waiting, delay=0.01)
    assert network.run()
    talk.check()


@SEEDS
def test_half_closed_one_way_text_flows_the_other(new_network: NewNetwork, seed: int) -> None:
    network = new_network(seed)
    last = ("client", "server")[seed % 2]
    waiting: dict[str, Any] = {last: {"wait_for_peer": True, "chunk": 3000}}
    talk = converse(network, 80_000, 80_000, **waiting, loss=0.05, delay=0.02, reorder=0.1)
    assert network.run()
    talk.check()


@SEEDS
def test_both_close_at_once(new_network: NewNetwork, seed: int) -> None:
    """FINs that cross on the wire: CLOSING on both sides, TIME-WAIT on both sides, then rest."""
    network = new_network(seed)
    talk = converse(network, 0, 0, delay=0.05, loss=0.2 * (seed > 0), duplicate=0.3 * (seed > 4))
    assert network.run(steps=2000)
    talk.check()


@SEEDS
def test_lost_fins_come_again(new_network: NewNetwork, seed: int) -> None:
    network = new_network(seed)
    talk = converse(network, 100, 100, loss=0.3, delay=0.01)
    assert network.run()
    talk.check()


@SEEDS
def test_a_simultaneous_open_is_one_connection(new_network: NewNetwork, seed: int) -> None:
    """RFC 9293 figure 7, on paths that lose and double."""
    network = new_network(seed)
    a, b = network.host("a", CONFIG), network.host("b", StackConfig(time_wait=1.0, isn_secret=b"other"))
    network.wire(a, b, delay=0.02, loss=0.2 * (seed > 0), duplicate=0.2 * (seed > 3))
    one, two = Application(a, b"from a" * 1000), Application(b, b"from b" * 1000)
    one.connect((V4[0], 1000), (V4[1], 2000))
    two.connect((V4[1], 2000), (V4[0], 1000))
    assert network.run(steps=5000)
    Conversation(network, one, two, b"from a" * 1000, b"from b" * 1000, [a, b]).check()


def reset_by(talk: Conversation, side: str) -> None:
    app = getattr(talk, side)
    app.connection.abort(talk.network.now)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("after", [0.015, 0.05, 0.1, 0.5])
def test_an_abort_ends_the_other_side_too(new_network: NewNetwork, side: str, after: float) -> None:
    network = new_network(1)
    talk = converse(network, 500_000, 500_000, delay=0.01, rate=1e6, queue=100_000.0)
    network.run(seconds=after)
    reset_by(talk, side)
    assert network.run()
    other = talk.server if side == "client" else talk.client
    assert other.error in (errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE)
    assert bytes(other.received) == (talk.up if side == "client" else talk.down)[: len(other.received)]
    for host in talk.hosts:
        assert not host.stack.connections


@SEEDS
def test_a_lost_reset_is_repeated_when_the_peer_asks(new_network: NewNetwork, seed: int) -> None:
    network = new_network(seed)
    talk = converse(network, 300_000, 300_000, delay=0.01, loss=0.3)
    network.run(seconds=0.3)
    if talk.client.connection is None or talk.server.connection is None:
        return
    reset_by(talk, "client")
    assert network.run()
    assert talk.server.error in (errno.ECONNRESET, errno.ECONNREFUSED, errno.ETIMEDOUT)
    assert not talk.hosts[1].stack.connections


def test_a_blind_reset_does_nothing__rfc5961_3(new_network: NewNetwork) -> None:
    """A reset somewhere in the window is answered, and its answer is ignored by whoever is well."""
    network = new_network(1)
    talk = converse(network, 400_000, 0, delay=0.01, rate=1e6)

    def attack() -> None:
        connection = talk.server.connection
        assert connection is not None
        receiver = connection.receiver
        for offset in range(1, 60_000, 1000):
            connection_key = connection.key
            forged = _reset(connection_key, receiver.rcv_nxt + offset)
            talk.hosts[1].stack.receive(forged, network.now)

    network.call_later(0.1, attack)
    assert network.run()
    talk.check()
    assert talk.hosts[1].stack.drops["tcp_challenged"] > 10


def _reset(key: bytes, seq: int) -> bytes:
    from tunsmith.stack.tcp.segments import bare_segment
    from tunsmith.wire.ip import IPV4
    from tunsmith.wire.offload import complete_checksum
    from tunsmith.wire.tcp import RST

    return complete_checksum(bare_segment(IPV4, key, seq, 0, RST))[VNET_HDR_LEN:]


# --- peers that vanish ---


def test_a_peer_that_vanishes_while_text_is_in_flight_times_out(new_network: NewNetwork) -> None:
    network = new_network(1)
    talk = converse(network, 1_000_000, 0, delay=0.01, rate=1e6)
    network.run(seconds=0.2)
    begin = network.now
    for host in talk.hosts:
        host.out = None
    assert network.run(lambda: talk.client.ended, seconds=3000)
    assert talk.client.error == errno.ETIMEDOUT
    assert 600 < network.now - begin < 1500  # Linux says 924.6 s with 15 retries
    assert not talk.hosts[0].stack.connections


def test_nobody_answers_the_syn(new_network: NewNetwork) -> None:
    network = new_network(1)
    talk = converse(network, 0, 0, loss=1.0)
    assert network.run()
    assert talk.client.error == errno.ETIMEDOUT
    assert network.now == 1000.0 + 127.0  # six retries: 1 + 2 + 4 + ... + 64


def test_nobody_answers_the_syn_ack(new_network: NewNetwork) -> None:
    network = new_network(1)
    talk = converse(network, 0, 0, delay=0.0)
    talk.hosts[1].out = None
    network.run(seconds=5)
    talk.hosts[0].stack.connections.clear()
    assert network.run(seconds=200)
    assert talk.server.error == errno.ETIMEDOUT


@SEEDS
def test_lost_syn_acks_come_again(new_network: NewNetwork, seed: int) -> None:
    network = new_network(seed)
    talk = converse(network, 100, 100, delay=0.01, back={"loss": 0.5, "delay": 0.01})
    assert network.run()
    if talk.client.error == 0:
        talk.check()


def test_a_port_nobody_listens_on_refuses(new_network: NewNetwork) -> None:
    network = new_network(1)
    talk = converse(network, 100, 100, delay=0.01)
    talk.hosts[1].on_request = lambda request: request.refuse(network.now)
    assert network.run()
    assert talk.client.error == errno.ECONNREFUSED
    assert network.now == pytest.approx(1000.02)


def test_the_ends_may_be_used_again_while_the_last_connection_waits__rfc6191(
    new_network: NewNetwork,
) -> None:
    network = new_network(1)
    talk = converse(network, 1000, 1000, server={"wait_for_peer": False}, client={"wait_for_peer": True})
    assert network.run(lambda: talk.client.ended and talk.server.ended)
    a, b = talk.hosts
    assert b.stack.time_waits.records
    one, two = Application(a, b"again"), Application(b, b"and again")
    b.on_request = two.accept
    one.connect((V4[0], 40000), (V4[1], 80))
    assert network.run()
    Conversation(network, one, two, b"again", b"and again", [a, b]).check()
