"""Buffers that grow with what their owners read and what the path takes: within bounds, and never back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.sim.transfer import CONFIG, Conversation, converse
from tests.stack.tcp.peer import Peer, peer
from tunsmith.stack.config import SEND_BUFFER
from tunsmith.stack.tcp.policy import Options
from tunsmith.testing.network import Network

RTT = 0.1


def at_a_distance(options: Options | None = None, **settings: Any) -> Peer:
    """A connection whose round trip takes RTT, with a buffer of 100,000 bytes."""
    settings = {"receive_buffer": 100_000, "receive_buffer_limit": 1 << 20, **settings}
    other = peer(window_scaling=True, **settings)
    other.open()
    other.now += RTT
    if options is not None:
        other.connection.set_options(options, other.now)
    other.window = 1000
    other.send("S.", 0, raw_options=b"\x02\x04\x05\xb4\x01\x03\x03\x04")
    other.events()
    return other


def stream(other: Peer, rate: float, seconds: float = 2.0, *, read: float = 1.0) -> None:
    """The peer sends, as far as the window allows, `rate` bytes a second, and the owner reads that part of it."""
    connection = other.connection
    receiver = connection.receiver
    end = other.now + seconds
    while other.now < end:
        tick = min(RTT / 10, end - other.now)
        left = min(int(rate * tick), receiver.rcv_adv - receiver.rcv_nxt)
        while left > 0:
            length = min(left, 1400)
            other.stack.receive(other.packet(".", receiver.rcv_nxt - other.isn, bytes(length)), other.now)
            left -= length
        if read:
            connection.read(int(rate * tick * read), other.now)
        other.now += tick
        other.stack.handle_timeout(other.now)
        list(other.stack.frames_to_send())


def test_a_buffer_that_limits_its_sender_grows_to_four_times_what_is_read_in_a_round_trip() -> None:
    other = at_a_distance()
    stream(other, 2_000_000)
    limit = other.connection.receiver.limit
    assert 400_000 <= limit <= 800_000
    assert other.stack.receive_grown == limit - 100_000
    assert other.connection.get("receive_buffer") == limit


def test_a_buffer_that_is_large_enough_stays() -> None:
    other = at_a_distance()
    stream(other, 400_000)
    assert other.connection.receiver.limit == 100_000


def test_a_buffer_does_not_grow_for_an_owner_who_does_not_read() -> None:
    other = at_a_distance()
    stream(other, 2_000_000, read=0.1)
    assert other.connection.receiver.limit < 150_000
    other = at_a_distance()
    stream(other, 2_000_000, read=0.0)
    assert other.connection.receiver.limit == 100_000


def test_a_buffer_grows_to_its_limit_and_never_back() -> None:
    other = at_a_distance(receive_buffer_limit=300_000)
    stream(other, 50_000_000)
    assert other.connection.receiver.limit == 300_000
    stream(other, 10_000)
    assert other.connection.receiver.limit == 300_000


def test_the_right_edge_never_shrinks__rfc9293_3_8_6() -> None:
    other = at_a_distance()
    edge = 0
    for rate in (2_000_000, 100_000, 5_000_000, 0):
        for _ in range(10):
            stream(other, rate, RTT, read=rate / 5_000_000)
            assert other.connection.receiver.rcv_adv >= edge
            edge = other.connection.receiver.rcv_adv


def test_all_buffers_share_one_budget_and_give_back_what_they_had() -> None:
    other = at_a_distance(receive_memory=70_000)
    stream(other, 50_000_000)
    assert other.connection.receiver.limit == 170_000
    assert other.stack.receive_grown == 70_000
    other.connection.abort(other.now)
    assert other.stack.receive_grown == 0


@pytest.mark.parametrize("limit", [0, 100_000])
def test_a_limit_that_is_no_larger_means_no_growth(limit: int) -> None:
    other = at_a_distance(receive_buffer_limit=limit)
    stream(other, 50_000_000)
    assert other.connection.receiver.limit == 100_000
    assert other.connection.tuning is None


def test_a_size_that_was_asked_for_is_kept() -> None:
    other = at_a_distance(Options(receive_buffer=120_000))
    stream(other, 50_000_000)
    assert other.connection.receiver.limit == 120_000


def test_the_window_scale_tells_the_largest_buffer__rfc7323_2_3() -> None:
    assert peer(window_scaling=True, receive_buffer=65535).open().options.window_scale == 0
    assert (
        peer(window_scaling=True, receive_buffer=65535, receive_buffer_limit=None).open().options.window_scale
        == 2
    )


def test_a_long_fat_path_is_filled() -> None:
    """64 KiB at 100 ms would be 5 Mbit/s."""
    network = Network(1)
    talk = converse(
        network,
        20_000_000,
        0,
        left=CONFIG,
        right=type(CONFIG)(time_wait=1.0, receive_buffer=65535, receive_buffer_limit=4 << 20),
        delay=0.05,
        rate=12_500_000,
    )
    begin = network.now
    assert network.run(lambda: len(talk.server.received) == 20_000_000)
    assert network.now - begin < 4.0


def long_fat_path(options: Options | None = None, **settings: Any) -> tuple[Network, Conversation]:
    """20 MB on their way over 400 Mbit/s and 100 ms."""
    network = Network(1)
    left, right = replace(CONFIG, **settings), replace(CONFIG, receive_buffer_limit=20 << 20)
    talk = converse(network, 20_000_000, 0, left=left, right=right, delay=RTT / 2, rate=50_000_000)
    assert talk.client.connection is not None
    if options is not None:
        talk.client.connection.set_options(options, network.now)
    return network, talk


def test_a_send_buffer_does_not_keep_a_long_fat_path_empty() -> None:
    network, talk = long_fat_path(send_buffer_limit=16 << 20)
    begin = network.now
    assert network.run(lambda: len(talk.server.received) == 20_000_000)
    assert network.now - begin < 1.4


@pytest.mark.parametrize(
    ("limit", "settings", "options"),
    [
        (4 << 20, {}, None),
        (1_500_000, {"send_buffer_limit": 1_500_000}, None),
        (SEND_BUFFER + 10_000, {"send_memory": 10_000}, None),
        (SEND_BUFFER, {"send_memory": 0}, None),
        (SEND_BUFFER, {"send_buffer_limit": 0}, None),
        (700_000, {"send_buffer": 700_000}, None),
        (700_000, {}, Options(send_buffer=700_000)),
    ],
)
def test_a_send_buffer_grows_as_far_as_it_may(
    limit: int, settings: dict[str, int], options: Options | None
) -> None:
    network, talk = long_fat_path(options, **settings)
    connection, stack = talk.client.connection, talk.client.host.stack
    assert connection is not None
    assert network.run(lambda: len(talk.server.received) > 10_000_000)
    assert connection.sender.limit == connection.get("send_buffer") == limit
    assert stack.send_grown == max(limit - SEND_BUFFER, 0)
    connection.abort(network.now)
    assert stack.send_grown == 0


def test_a_send_buffer_that_is_large_enough_stays() -> None:
    network = Network(1)
    talk = converse(network, 4_000_000, 0, delay=0.01, rate=5_000_000, queue=100_000)
    assert network.run(lambda: len(talk.server.received) > 3_900_000)
    assert talk.client.connection is not None
    assert talk.client.connection.sender.limit == SEND_BUFFER


def test_no_time_at_all_between_two_looks_is_no_measurement() -> None:
    other = at_a_distance()
    other.connection.sender.rtt.srtt = -1e-17  # what is left of many samples of nought
    stream(other, 50_000_000, 0.0)
    receiver = other.connection.receiver
    for _ in range(300):
        other.stack.receive(other.packet(".", receiver.rcv_nxt - other.isn, bytes(1400)), other.now)
        other.connection.read(1400, other.now)
    assert receiver.limit == 100_000
