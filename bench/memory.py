"""What a connection costs while nothing is said on it, and a listening socket: bytes of this process.

    python -m bench.memory [--number 20000] [--markdown docs/benchmarks.md]

Each figure comes from two processes of its own: one asks Python's allocator (tracemalloc) for what is kept, the other
the kernel for the resident size. Both ends of a connection are ours there; the figures are per end. Handlers are
shared, so that nothing of an application is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import tunsmith
from bench.cost import kibibytes
from tunsmith.device.memory import MemoryDevice
from tunsmith.stack.config import StackConfig
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.stack import ROOM, Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.wire.checksum import Buffer

HERE, THERE = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
FIRST = 10 << 24
PORTS = 20_000
"""Connections to one port of the other end."""
WARM = 200
BEGIN, END = "<!-- memory: begin -->", "<!-- memory: end -->"


class Silent:
    """The owner of all connections: takes what comes, says nothing, closes when the peer has."""

    def __init__(self, stacks: Pair) -> None:
        self._stacks = stacks

    def on_established(self, connection: Connection) -> None:
        """Nothing to do."""

    on_writable = on_established

    def on_data(self, connection: Connection, data: memoryview) -> int:
        return len(data)

    def on_fin(self, connection: Connection) -> None:
        connection.close(self._stacks.now)

    def on_closed(self, connection: Connection, error: int) -> None:
        """Nothing to do."""


class Owner:
    """Of the stack that accepts."""

    def __init__(self, stacks: Pair) -> None:
        self._stacks = stacks

    def on_flow(self, request: FlowRequest) -> None:
        request.accept(self._stacks.silent, self._stacks.now)

    def on_datagram(self, *_: object) -> None:
        """There are none."""

    on_echo = on_datagram_error = on_datagram


class Pair:
    """Two stacks, what is on its way between them, and a clock that stands still."""

    def __init__(self, config: StackConfig | None = None) -> None:
        self.now = 0.0
        self.silent = Silent(self)
        self._frames: list[tuple[int, bytes]] = []
        self.stacks = [
            Stack(config, emit=self._emitter(1), handler=Owner(self)),
            Stack(config, emit=self._emitter(0), handler=Owner(self)),
        ]

    def _emitter(self, to: int) -> Callable[[tuple[Buffer, ...]], None]:
        return lambda parts: self._frames.append((to, b"".join(parts)))

    def settle(self) -> None:
        """Deliver all there is."""
        while self._frames:
            frames, self._frames = self._frames, []
            for to, frame in frames:
                self.stacks[to].receive_frame(memoryview(frame + bytes(ROOM)), len(frame), self.now)

    def lose(self) -> None:
        """Lose all that is on its way."""
        self._frames.clear()

    def connect(self, number: int) -> list[Connection]:
        """So many connections from the first to the second."""
        made = []
        for index in range(number):
            ends = (HERE, 0, THERE, 80 + index // PORTS)
            made.append(self.stacks[0].connect(*ends, self.now, self.silent))
            self.settle()
        return made

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for stack in self.stacks:
            stack.handle_timeout(self.now)
        self.settle()


async def connections(number: int) -> object:
    """Connections on which nothing has been said."""
    pair = Pair()
    pair.connect(number)
    return pair


async def used_connections(number: int) -> object:
    """Connections on which something has been said, long ago."""
    pair = Pair()
    for connection in pair.connect(number):
        connection.send(bytes(1000), pair.now)
        pair.settle()
    pair.wait(1.0)
    return pair


async def time_waits(number: int) -> object:
    """Connections that are over, but for the waiting: at one of both ends."""
    pair = Pair(StackConfig(time_wait_limit=1 << 24))
    for _ in range(number):
        pair.connect(1)[0].close(pair.now)
        pair.settle()
    return pair


async def listeners(number: int) -> object:
    """Stack.listen."""
    pair = Pair()
    for stack in pair.stacks:
        for index in range(number):
            stack.listen((FIRST + index).to_bytes(4, "big"), 80)
    return pair


async def streams(number: int) -> object:
    """The reader and writer of tunsmith.Stack.open_connection, and of a server."""
    near, far = MemoryDevice.pair()
    left, right = tunsmith.Stack(near, ["10.7.0.1/24"]), tunsmith.Stack(far, ["10.7.0.2/24"])
    left.start()
    right.start()
    held: list[object] = [left, right]
    await right.start_server(lambda reader, writer: held.append((reader, writer)), "10.7.0.2", 80)
    while len(held) < 2 * number + 2:
        held.append(await left.open_connection("10.7.0.2", 80))
        await asyncio.sleep(0)
    return held


Load = Callable[[int], Awaitable[object]]
LOADS: dict[str, tuple[str, Load, int]] = {
    "connections": ("idle connection, nothing said yet", connections, 2),
    "used": ("idle connection, after 1,000 bytes", used_connections, 2),
    "streams": ("idle connection with asyncio's streams", streams, 2),
    "listeners": ("listening socket", listeners, 2),
    "time-waits": ("connection in TIME-WAIT", time_waits, 1),
}
"""What it is called, how it is made, and at how many ends it then is."""


async def weigh(load: Load, number: int, traced: bool) -> int:
    """Bytes that `number` cost. A few come before, so that what all share is not counted."""
    first = await load(WARM)
    gc.collect()
    if traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if traced else resident()
    kept = await load(number)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0] if traced else resident()
    del first, kept
    return after - before


def resident() -> int:
    """Bytes of this process in memory."""
    return kibibytes(Path("/proc/self/status").read_text(), "VmRSS")


def measure(name: str, number: int) -> tuple[float, float]:
    """Bytes for each end: allocated, resident."""
    found = []
    for how in ("traced", "resident"):
        argv = [sys.executable, "-m", "bench.memory", "--one", name, how, "--number", str(number)]
        found.append(int(subprocess.check_output(argv, text=True)) / (number * LOADS[name][2]))
    return found[0], found[1]


def table(number: int) -> str:
    """All figures, in Markdown."""
    lines = ["| bytes per | allocated | resident |", "|---|--:|--:|"]
    for name, (title, *_) in LOADS.items():
        allocated, held = measure(name, number)
        lines.append(f"| {title} | {allocated:,.0f} | {held:,.0f} |")
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{number:,} of each at both ends, Python {version}.\n\n" + "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--number", type=int, default=20_000, help="of connections")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "HOW"), help=argparse.SUPPRESS)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table between its markers")
    asked = parser.parse_args(arguments)
    if asked.one:
        name, how = asked.one
        print(asyncio.run(weigh(LOADS[name][1], asked.number, how == "traced")))
        return
    text = table(asked.number)
    print(text)
    if asked.markdown:
        page = asked.markdown.read_text()
        head, tail = page.partition(BEGIN)[0], page.partition(END)[2]
        asked.markdown.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")


if __name__ == "__main__":
    main()
