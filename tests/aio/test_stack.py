"""Life and death of a stack."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys

import pytest

import tunsmith
from tests.aio.pair import LEFT, RIGHT, Pair, two_stacks
from tests.inside import until
from tunsmith.device.base import Buffer
from tunsmith.errors import UsageError


async def test_import_costs_nothing_until_it_is_used() -> None:
    code = "import sys, tunsmith; assert 'asyncio' not in sys.modules; tunsmith.Stack; assert 'asyncio' in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "src"}, check=False)
    assert done.returncode == 0
    with pytest.raises(AttributeError):
        _ = tunsmith.NoSuchThing
    for name in dir(tunsmith):
        assert getattr(tunsmith, name) is not None


async def test_addresses_are_checked_at_once() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    with pytest.raises(UsageError, match="300"):
        tunsmith.Stack(near, ["10.7.0.300/24"])
    with pytest.raises(UsageError, match=r"a list of them is wanted, like \['10.7.0.1/24'\]"):
        tunsmith.Stack(near, "10.7.0.1/24")
    near.close()


async def test_a_stack_starts_once_and_is_used_while_it_runs() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    stack = tunsmith.Stack(near, [f"{LEFT[4]}/24"])
    assert stack.addresses == (f"{LEFT[4]}/24",)
    with pytest.raises(RuntimeError, match="new"):
        await stack.open_connection(RIGHT[4], 80)
    stack.start()
    with pytest.raises(RuntimeError, match="once"):
        stack.start()
    await stack.close()
    await stack.close()
    with pytest.raises(RuntimeError, match="closed"):
        stack.listen_any()


async def test_a_stack_that_never_started_closes_its_device() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    await tunsmith.Stack(near, []).close()
    with pytest.raises(OSError, match="closed"):
        near.read(memoryview(bytearray(100)))


async def test_what_was_closed_is_delivered_before_the_end() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(far, [f"{RIGHT[4]}/24"]) as right:
        heard = asyncio.get_running_loop().create_future()

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(len(await reader.read()))
            writer.close()

        await right.start_server(hear, None, 80)
        async with tunsmith.Stack(near, [f"{LEFT[4]}/24"]) as left:
            _, writer = await left.open_connection(RIGHT[4], 80)
            writer.write(bytes(2_000_000))
            writer.close()
        assert await heard == 2_000_000


async def test_what_is_open_is_aborted_at_the_end() -> None:
    async with two_stacks() as (left, right):
        await right.start_server(lambda *_: None, None, 80)
        reader, writer = await left.open_connection(RIGHT[4], 80)
        pinging = asyncio.create_task(left.ping("10.7.0.77", timeout=None))
        opening = asyncio.create_task(left.open_connection("10.7.0.77", 80))
        await asyncio.sleep(0)
        await left.close()
        for failed in (reader.read(), pinging, opening):
            with pytest.raises(ConnectionAbortedError):
                await failed
        assert writer.is_closing()


async def test_the_end_does_not_wait_for_ever() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(far, [f"{RIGHT[4]}/24"]) as right:
        await right.start_server(lambda *_: None, None, 80)
        left = tunsmith.Stack(near, [f"{LEFT[4]}/24"])
        left.start()
        _, writer = await left.open_connection(RIGHT[4], 80)
    writer.write(b"nobody is there to acknowledge this")
    writer.close()
    await left.close(linger=0.01)
    assert not left.pure.connections


async def _both_closed() -> Pair:
    """Two stacks with a connection that RIGHT has closed, and then LEFT, which RIGHT has not heard yet."""
    near, far = tunsmith.MemoryDevice.pair()
    left, right = tunsmith.Stack(near, [f"{LEFT[4]}/24"]), tunsmith.Stack(far, [f"{RIGHT[4]}/24"])
    left.start()
    right.start()
    accepted = asyncio.get_running_loop().create_future()
    await right.start_server(lambda _, writer: accepted.set_result(writer), None, 80)
    reader, writer = await left.open_connection(RIGHT[4], 80)
    (await accepted).close()
    assert await reader.read() == b""
    await until(lambda: not any(c.unacknowledged for c in right.pure.connections.values()))
    writer.close()
    return left, right


@pytest.mark.parametrize("together", [True, False])
async def test_stacks_that_end_together_do_not_wait_for_each_other(together: bool) -> None:
    left, right = await _both_closed()
    async with asyncio.timeout(10):  # TCP itself would be patient for minutes
        if together:
            await asyncio.gather(right.close(linger=None), left.close(linger=None))
        else:
            await right.close(linger=None)
            await left.close(linger=None)


async def test_the_end_waits_one_retransmission_timeout_for_the_answer_to_a_fin() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(far, [f"{RIGHT[4]}/24"]) as right:
        await right.start_server(lambda *_: None, None, 80)
        left = tunsmith.Stack(near, [f"{LEFT[4]}/24"])
        left.start()
        _, writer = await left.open_connection(RIGHT[4], 80)
        left.pure.emit = lambda parts: None
        writer.close()
        async with asyncio.timeout(10):
            await left.close(linger=1000)
        assert not left.pure.connections


async def test_the_end_does_not_wait_for_a_peer_that_takes_a_byte_at_a_time() -> None:
    """Which is what the probes of a closed window bring."""
    near, far = tunsmith.MemoryDevice.pair()
    config = tunsmith.StackConfig(min_rto=0.1)
    async with tunsmith.Stack(far, [f"{RIGHT[4]}/24"]) as right:
        left = tunsmith.Stack(near, [f"{LEFT[4]}/24"], config=config)
        left.start()
        await right.create_server(Deaf, None, 80)
        _, writer = await left.open_connection(RIGHT[4], 80)
        writer.write(bytes(5_000_000))
        writer.close()
        async with asyncio.timeout(5):
            await left.close(linger=0.25)


class Deaf(asyncio.Protocol):
    """Reads nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()


class Mortal:
    """A device that can go away."""

    def __init__(self, inner: tunsmith.MemoryDevice) -> None:
        self._inner = inner
        self.offload, self.mtu, self.lost, self.ethernet = inner.offload, inner.mtu, 0, inner.ethernet
        self.gone = False

    def fileno(self) -> int:
        return self._inner.fileno()

    def read(self, buffer: memoryview) -> int:
        if self.gone:
            raise OSError(errno.EBADFD, "went away")
        return self._inner.read(buffer)

    def write(self, parts: tuple[Buffer, ...]) -> None:
        self._inner.write(parts)

    def close(self) -> None:
        self._inner.close()


async def test_a_device_that_goes_takes_everything_with_it() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    device = Mortal(near)
    async with (
        tunsmith.Stack(far, [f"{RIGHT[4]}/24"]) as right,
        tunsmith.Stack(device, [f"{LEFT[4]}/24"]) as left,
    ):
        await right.start_server(lambda *_: None, None, 80)
        reader, writer = await left.open_connection(RIGHT[4], 80)
        flows, datagrams = left.listen_any(), left.open_datagram_endpoint(port=5)
        device.gone = True
        right.open_datagram_endpoint().send(b"", (LEFT[4], 5))
        for ended in (reader.read(), anext(flows), datagrams.receive()):
            with pytest.raises(OSError, match="went away") as raised:
                await ended
            assert raised.value.errno == errno.ENETDOWN
        assert writer.is_closing()
        await left.until_gone()


async def test_a_device_that_goes_while_closing_ends_the_wait() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    device = Mortal(near)
    async with tunsmith.Stack(far, [f"{RIGHT[4]}/24"]) as right:
        await right.start_server(lambda *_: None, None, 80)
        left = tunsmith.Stack(device, [f"{LEFT[4]}/24"])
        left.start()
        _, writer = await left.open_connection(RIGHT[4], 80)
        right.pure.addresses = frozenset()  # it hears nothing any more
        writer.write(b"?")
        writer.close()
        closing = asyncio.create_task(left.close(linger=None))
        await asyncio.sleep(0)
        device.gone = True
        far.write((bytes(60),))
        await closing
        await right.close(linger=0)


async def test_one_device_of_two_may_go() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    other, wire = tunsmith.MemoryDevice.pair()
    mortal = Mortal(other)
    nics = [tunsmith.Nic(near, [f"{LEFT[4]}/24"]), tunsmith.Nic(mortal, ["10.8.0.1/24"])]
    async with tunsmith.Stack(nics) as left, tunsmith.Stack(far, [f"{RIGHT[4]}/24"]) as right:
        mortal.gone = True
        wire.write((bytes(60),))
        assert await left.ping(RIGHT[4])
        await right.ping(LEFT[4])
        assert left.drops["device_lost"] == 1


async def test_closing_ends_the_wait_for_addresses() -> None:
    near, _ = tunsmith.MemoryDevice.pair(ethernet=True)
    stack = tunsmith.Stack(near, [f"{LEFT[4]}/24"])
    stack.start()
    settling = asyncio.create_task(stack.settle())
    await asyncio.sleep(0)
    await stack.close()
    with pytest.raises(ConnectionAbortedError):
        await settling


async def test_many_stacks_live_side_by_side(pair: Pair) -> None:
    async with two_stacks() as other:
        for left, right in (pair, other):
            await right.start_server(lambda _, writer: writer.close(), RIGHT[4], 80)
            reader, writer = await left.open_connection(RIGHT[4], 80)
            assert await reader.read() == b""
            writer.close()
