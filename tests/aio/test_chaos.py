"""Random programs on both ends of random connections over a bad wire: every byte arrives, in order, once."""

from __future__ import annotations

import asyncio
import hashlib
from random import Random

import pytest

import tunsmith
from tests.aio.pair import LEFT, RIGHT
from tunsmith.device.faulty import FaultyDevice
from tunsmith.testing.faults import Faults, Link

FEW = [pytest.param(seed, marks=() if seed < 4 else pytest.mark.slow) for seed in range(40)]


class Program(asyncio.Protocol):
    """Writes `outgoing` in random pieces, reads with random pauses, ends its half at the end."""

    def __init__(self, random: Random, outgoing: bytes) -> None:
        self._random = random
        self._unwritten = memoryview(outgoing)
        self._may_write = True
        self.digest = hashlib.sha256()
        self.received = 0
        self.over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=self._random.choice([0, 1000, 100_000]))
        self._write()

    def data_received(self, data: bytes) -> None:
        self.digest.update(data)
        self.received += len(data)
        if self._random.random() < 0.2:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(self._random.random() / 200, self.transport.resume_reading)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        while self._may_write and self._unwritten:
            size = self._random.choice([1, 100, 5000, 200_000])
            self.transport.write(self._unwritten[:size])
            self._unwritten = self._unwritten[size:]
        if not self._unwritten and not self._ended:
            self._ended = True
            self.transport.write_eof()

    def eof_received(self) -> bool:
        if self._ended and self._random.random() < 0.5:
            self.transport.close()
        return not self._ended  # asyncio closes where there is nothing left to say

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(exc)


@pytest.mark.parametrize("seed", FEW)
async def test_streams_are_whole_whatever_programs_and_wire_do(seed: int) -> None:
    random = Random(seed)
    near, far = tunsmith.MemoryDevice.pair(
        offload=random.choice([0, 0x6F]), mtu=random.choice([1280, 1500, 9000]), limit=10_000
    )

    def bad() -> Link:
        loss = random.choice([0.0, 0.01, 0.03])
        return Link(Faults(Random(random.random()), loss=loss, duplicate=loss, reorder=loss, delay=0.0005))

    config = tunsmith.StackConfig(
        min_rto=0.01,
        initial_rto=0.05,
        send_buffer=random.choice([5000, 1 << 16, 1 << 20]),
        receive_buffer=random.choice([5000, 1 << 16, 1 << 20]),
    )
    left = tunsmith.Stack(FaultyDevice(near, bad(), bad()), [LEFT[4], LEFT[6]], config=config)
    right = tunsmith.Stack(far, [RIGHT[4], RIGHT[6]], config=config)
    texts = [random.randbytes(random.choice([0, 1, 1000, 100_000])) for _ in range(6)]
    servers: list[Program] = []

    def serve() -> Program:
        servers.append(Program(random, texts[5]))
        return servers[-1]

    left.start()
    right.start()
    try:
        await right.create_server(serve, None, 80)
        clients = []
        for number, text in enumerate(texts[:5]):
            _, client = await left.create_connection(
                lambda text=text: Program(random, text),  # type: ignore[misc]
                RIGHT[4 if number % 2 else 6],
                80,
            )
            clients.append(client)
        for client in clients:
            assert await client.over is None
        for server in servers:
            assert await server.over is None
    finally:
        await left.close(linger=0)
        await right.close(linger=0)
    assert {client.digest.digest() for client in clients} == {hashlib.sha256(texts[5]).digest()}
    sent = sorted(hashlib.sha256(text).digest() for text in texts[:5])
    assert sorted(server.digest.digest() for server in servers) == sent
