"""An asyncio server and its client, each on a host of its own, on a wire in memory: no root, no socket."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter

import tunsmith


async def shout(reader: StreamReader, writer: StreamWriter) -> None:
    async for line in reader:
        writer.write(line.upper())
    writer.close()


async def main() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(far, ["10.7.0.2/24"]) as host, tunsmith.Stack(near, ["10.7.0.1/24"]) as other:
        await host.start_server(shout, "10.7.0.2", 80)

        reader, writer = await other.open_connection("10.7.0.2", 80)
        writer.write(b"who is there?\n")
        print((await reader.readline()).decode().strip())

        statistics = writer.get_extra_info("statistics")
        print(statistics.state, statistics.bytes_sent, "bytes sent,", statistics.retransmitted, "sent again")
        writer.write_eof()
        print("and then:", await reader.read())
        writer.close()

        try:
            await other.open_connection("10.7.0.2", 81)
        except ConnectionRefusedError as error:
            print("port 81:", error.strerror)
        print("ping:", "ok" if await other.ping("10.7.0.2") < 1 else "slow")


if __name__ == "__main__":
    asyncio.run(main())
