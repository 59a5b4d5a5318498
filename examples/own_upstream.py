"""An upstream of one's own: wherever a flow wants to go, it ends at the local greeter. No root.

The engine is the real one, its device a wire in memory. At the other end of that, instead of a program and
its kernel, a second stack opens a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from ipaddress import ip_address

from tunsmith.config import Settings
from tunsmith.device.base import FRAME_ROOM
from tunsmith.device.memory import MemoryDevice
from tunsmith.dial.base import Stream
from tunsmith.dial.direct import DirectDialer
from tunsmith.engine import Engine
from tunsmith.flow import Target
from tunsmith.relay.report import FlowRecord, Silent
from tunsmith.stack.events import Closed, PeerClosed, Readable
from tunsmith.stack.stack import Stack


class Detour(DirectDialer):
    """Connects to `instead` of where the flow wants to go; dial/base.py says what else a dialer decides."""

    def __init__(self, instead: Target) -> None:
        super().__init__()
        self.label = f"detour to {instead}"
        self.instead = instead

    def begin(self, target: Target) -> Stream | Awaitable[Stream]:
        return super().begin(self.instead)


class Printer(Silent):
    def flow_ended(self, record: FlowRecord) -> None:
        print(f"{record.protocol} to {record.target} via {record.upstream}: {record.outcome}")


async def fetch(device: MemoryDevice, host: str, port: int) -> bytes:
    """What a server says to a client at this end of the wire."""
    stack, buffer, heard = Stack(emit=device.write), memoryview(bytearray(FRAME_ROOM)), b""
    stack.connect(ip_address("192.0.2.1").packed, 40000, ip_address(host).packed, port, time.monotonic())
    while True:
        now = time.monotonic()
        try:
            stack.receive_frame(buffer, device.read(buffer), now)
        except BlockingIOError:
            await asyncio.sleep(0.001)  # engine.py waits for the descriptor and the next deadline instead
        stack.handle_timeout(now)
        while event := stack.poll_event():
            match event:
                case Readable(connection):
                    heard += connection.read(1 << 20, now)
                case PeerClosed(connection):
                    connection.close(now)
                case Closed():
                    return heard


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello from outside\n")
    writer.close()


async def main() -> None:
    near, far = MemoryDevice.pair()
    async with await asyncio.start_server(greet, "127.0.0.1") as greeter:
        engine = Engine(near, Detour(Target(*greeter.sockets[0].getsockname())), Settings(), Printer())
        await engine.start()
        print(await fetch(far, "203.0.113.1", 80))
        engine.close()
    far.close()


if __name__ == "__main__":
    asyncio.run(main())
