"""Both ends of flows that come and go. Runs by itself, on the standard library alone.

    python churning.py serve ADDRESS PORT                      echo, TCP and UDP
    python churning.py churn ADDRESS PORT OPEN RATE            keep OPEN connections, begin RATE flows a second

Every tenth flow is UDP, the others are TCP: a question of 1000 bytes, the same back, the end. `churn` says "open" when
its connections are, then goes on until its standard input ends, and says how many flows went well and how many did
not.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import cast

QUESTION = bytes(1000)
PATIENCE = 10.0
STEP = 0.02
"""Seconds between bursts of new flows."""
AT_ONCE = 100
"""Connections opened side by side at the beginning."""


class Echo(asyncio.DatagramProtocol):
    """Answers each datagram with itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


class Answer(asyncio.DatagramProtocol):
    """Waits for one datagram."""

    def __init__(self) -> None:
        self.came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.came.done():
            self.came.set_result(None)


async def serve(address: str, port: int) -> None:
    async def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, (address, port))
    server = await asyncio.start_server(on_stream, address, port, backlog=4096)
    await server.serve_forever()


async def tcp(address: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(QUESTION)
        await reader.readexactly(len(QUESTION))
    finally:
        writer.close()


async def udp(address: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_datagram_endpoint(Answer, remote_addr=(address, port))
    try:
        transport.sendto(QUESTION)
        await answer.came
    finally:
        transport.close()


async def churn(address: str, port: int, many: int, rate: int) -> None:
    counts: Counter[str] = Counter()
    held = []
    for begun in range(0, many, AT_ONCE):
        batch = (asyncio.open_connection(address, port) for _ in range(min(AT_ONCE, many - begun)))
        held += await asyncio.gather(*batch)
    print("open", flush=True)

    async def flow(number: int) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await (udp if number % 10 == 9 else tcp)(address, port)
            counts["well"] += 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            counts["badly"] += 1

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    started, begun, flows = loop.time(), 0, set()
    while not ended.is_set():
        due = int((loop.time() - started) * rate)
        for number in range(begun, due):
            task = loop.create_task(flow(number))
            flows.add(task)
            task.add_done_callback(flows.discard)
        begun = due
        await asyncio.sleep(STEP)
    await asyncio.gather(*flows)
    for reader, _ in held:
        counts["lost"] += reader.at_eof() or reader.exception() is not None
    print(counts["well"], counts["badly"], counts["lost"], flush=True)


def main(role: str, address: str, port: str, *numbers: str) -> None:
    work = serve(address, int(port)) if role == "serve" else churn(address, int(port), *map(int, numbers))
    asyncio.run(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
