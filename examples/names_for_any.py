"""A datagram service that answers as whoever was asked: a name server at *every* address, over a wire in memory.

Queries are one line, "what is NAME", instead of DNS, to keep it short.
"""

from __future__ import annotations

import asyncio

import tunsmith

NAMES = {"example.com": "192.0.2.80", "example.net": "192.0.2.81"}


async def serve(stack: tunsmith.Stack) -> None:
    async with stack.datagrams_any(53) as endpoint:
        async for query in endpoint:
            name = query.data.decode("ascii", "replace").removeprefix("what is ")
            endpoint.reply(query, NAMES.get(name, "no idea").encode())


async def main() -> None:
    near, far = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(far, ["10.7.0.2/24"]) as host, tunsmith.Stack(near, ["10.7.0.1/24"]) as other:
        serving = asyncio.create_task(serve(host))
        await asyncio.sleep(0)
        async with other.open_datagram_endpoint() as client:
            for server in ("10.7.0.2", "8.8.8.8", "203.0.113.9"):
                for name in ("example.com", "example.org"):
                    client.send(f"what is {name}".encode(), (server, 53))
                    answer = await client.receive()
                    print(f"{answer.source[0]} says: {name} is {answer.data.decode()}")
        serving.cancel()


if __name__ == "__main__":
    asyncio.run(main())
