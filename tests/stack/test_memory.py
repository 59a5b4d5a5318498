"""What connections leave behind: nothing. They are freed by counting references, at once, however they end."""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable, Iterator
from weakref import ref

import pytest

from bench.memory import Pair, Silent
from tunsmith.stack.config import StackConfig
from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.policy import Options

Ending = Callable[[Pair, Connection], None]


@pytest.fixture
def _nobody_collects() -> Iterator[None]:
    """Without the collector of cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def close(pair: Pair, connection: Connection) -> None:
    """Orderly, both ways."""
    connection.close(pair.now)
    pair.settle()
    pair.wait(61.0)


def abort(pair: Pair, connection: Connection) -> None:
    connection.abort(pair.now)
    pair.settle()


def peer_aborts(pair: Pair, connection: Connection) -> None:
    (peer,) = pair.stacks[1].connections.values()
    peer.abort(pair.now)
    pair.settle()


def close_with_text_on_the_way(pair: Pair, connection: Connection) -> None:
    connection.send(bytes(100_000), pair.now)
    connection.close(pair.now)
    pair.settle()
    pair.wait(61.0)


def losses(pair: Pair, connection: Connection) -> None:
    """What was sent is lost, comes again, and is acknowledged: recovery has been at work."""
    connection.send(bytes(10_000), pair.now)
    pair.lose()
    for _ in range(5):
        pair.wait(1.0)
    assert connection.sender.retransmits
    close(pair, connection)


def losses_to_the_end(pair: Pair, connection: Connection) -> None:
    """The peer has gone silently."""
    connection.send(bytes(10_000), pair.now)
    for _ in range(200):
        pair.now += 20.0
        pair.stacks[0].handle_timeout(pair.now)
        pair.lose()
    abort_all(pair)


def abort_all(pair: Pair) -> None:
    for stack in pair.stacks:
        for connection in list(stack.connections.values()):
            connection.abort(pair.now)
    pair.settle()


def keepalive(pair: Pair, connection: Connection) -> None:
    connection.set_options(Options(user_timeout=5.0), pair.now)
    close(pair, connection)


ENDINGS = [close, abort, peer_aborts, close_with_text_on_the_way, losses, losses_to_the_end, keepalive]


@pytest.mark.usefixtures("_nobody_collects")
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_a_connection_is_freed_as_soon_as_it_is_over(ending: Ending) -> None:
    """It does not wait for the collector of cycles, which comes late and takes long."""
    pair = Pair()
    (connection,) = pair.connect(1)
    watched = [ref(each) for stack in pair.stacks for each in stack.connections.values()]
    ending(pair, connection)
    del connection
    assert [each() for each in watched] == [None, None]
    assert gc.collect() == 0


@pytest.mark.usefixtures("_nobody_collects")
def test_a_refused_connection_is_freed_at_once() -> None:
    pair = Pair(StackConfig(flow_requests=False))
    (connection,) = pair.connect(1)
    watched = ref(connection)
    assert connection.error == errno.ECONNREFUSED
    del connection
    assert watched() is None
    assert gc.collect() == 0


@pytest.mark.usefixtures("_nobody_collects")
def test_what_nobody_accepted_is_freed_with_its_listener() -> None:
    pair = Pair()
    listener = pair.stacks[1].listen(None, 80)
    connections = pair.connect(10)
    assert len(listener.waiting) == 10
    watched = [ref(each) for stack in pair.stacks for each in stack.connections.values()]
    listener.close(pair.now)
    pair.settle()
    del connections
    assert not any(each() for each in watched)
    assert gc.collect() == 0


@pytest.mark.usefixtures("_nobody_collects")
def test_a_connection_that_is_over_lets_go_of_its_owner() -> None:
    """An owner who keeps his connection, to look at how it went, is no cycle."""
    pair = Pair()
    (connection,) = pair.connect(1)
    owner = Silent(pair)
    connection.handler = owner
    watched = ref(owner)
    connection.close(pair.now)
    pair.settle()
    assert connection.error == 0
    del owner
    assert watched() is None


def blocks_left(number: int) -> tuple[int, int]:
    """Python's blocks of memory in use beyond the baseline: while `number` connections are open, and afterwards."""
    pair = Pair(StackConfig(time_wait=1.0))

    def once(number: int) -> int:
        """Returns how many blocks there are at the most."""
        connections = pair.connect(number)
        for connection in connections:
            connection.send(b"text", pair.now)
        pair.settle()
        pair.wait(1.0)
        assert [len(stack.connections) for stack in pair.stacks] == [number, number]
        most = sys.getallocatedblocks()
        for connection in connections:
            connection.close(pair.now)
        pair.settle()
        pair.wait(2.0)
        assert [len(stack.connections) for stack in pair.stacks] == [0, 0]
        assert [len(stack.time_waits.records) for stack in pair.stacks] == [0, 0]
        return most

    once(10)
    gc.collect()
    baseline = sys.getallocatedblocks()
    most = once(number)
    assert gc.collect() == 0  # gives back what the interpreter keeps to use again
    return most - baseline, sys.getallocatedblocks() - baseline


@pytest.mark.usefixtures("_nobody_collects")
def test_memory_is_back_at_the_baseline_when_connections_are_over() -> None:
    opened, left = blocks_left(500)
    assert opened > 500 * 20
    assert left < 500


@pytest.mark.slow
@pytest.mark.usefixtures("_nobody_collects")
def test_memory_is_back_at_the_baseline_after_twenty_thousand_connections() -> None:
    opened, left = blocks_left(20_000)
    assert opened > 20_000 * 20
    assert left < 2000
