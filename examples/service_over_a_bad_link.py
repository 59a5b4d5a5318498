"""A test of an asyncio service over a bad link: each frame may be lost, doubled or late, the same for the same seed.

    python examples/service_over_a_bad_link.py [LOSS [SEED]]

Here real time passes; examples/lossy_link.py has none of it, for what needs only the stack.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from asyncio import StreamReader, StreamWriter
from random import Random

import tunsmith
from tunsmith.device.faulty import FaultyDevice
from tunsmith.testing.faults import Faults, Link


async def digest(reader: StreamReader, writer: StreamWriter) -> None:
    """The service under test: says what it got."""
    writer.write(hashlib.sha256(await reader.read()).digest())
    writer.close()


def bad(random: Random, loss: float) -> Link:
    """One direction of the link."""
    return Link(Faults(Random(random.random()), loss=loss, duplicate=0.01, reorder=0.01, delay=0.002))


async def main(loss: float = 0.02, seed: int = 1) -> None:
    random = Random(seed)
    near, far = tunsmith.MemoryDevice.pair(limit=10_000)
    link = FaultyDevice(near, bad(random, loss), bad(random, loss))
    config = tunsmith.StackConfig(min_rto=0.02)
    async with (
        tunsmith.Stack(far, ["10.7.0.2/24"]) as host,
        tunsmith.Stack(link, ["10.7.0.1/24"], config=config) as other,
    ):
        await host.start_server(digest, "10.7.0.2", 80)
        reader, writer = await other.open_connection("10.7.0.2", 80)
        text = random.randbytes(300_000)
        writer.write(text)
        writer.write_eof()
        assert await reader.read() == hashlib.sha256(text).digest()
        statistics = writer.get_extra_info("statistics")
        writer.close()
    print(
        f"all {statistics.bytes_acked} bytes arrived; some segments were sent again: {statistics.retransmitted > 0}"
    )


if __name__ == "__main__":
    asyncio.run(main(*[kind(text) for kind, text in zip((float, int), sys.argv[1:], strict=False)]))
