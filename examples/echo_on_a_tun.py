"""Port 7 of *every* address echoes TCP and UDP: a TCP/IP stack of our own behind a TUN.

It lives in a network that this program makes for itself and the command it runs there, without root:

    $ python examples/echo_on_a_tun.py sh -c 'echo hello | nc -N 192.0.2.7 7'
    hello
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import StreamReader, StreamWriter
from ipaddress import ip_address

import tunsmith
from tunsmith.host.link import open_link
from tunsmith.host.private import enter_private_network


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()  # waits while the client does not read; the window closes behind it
    writer.close()


async def serve_flows(stack: tunsmith.Stack, tasks: asyncio.TaskGroup) -> None:
    """Every connection to anywhere is a flow first, and knows where it wanted to go."""
    async for flow in stack.listen_any():
        if flow.destination[1] == 7:
            tasks.create_task(echo(*await flow.accept()))
        else:
            flow.refuse()


async def serve_datagrams(stack: tunsmith.Stack) -> None:
    async with stack.datagrams_any(7) as endpoint:
        async for datagram in endpoint:
            endpoint.reply(datagram, datagram.data)  # as the address that was asked


async def main(command: list[str]) -> int:
    link = open_link("tun0", ip_address("192.0.2.2"), default_route=True)
    async with tunsmith.Stack(link.device, ["192.0.2.2/24"]) as stack, asyncio.TaskGroup() as tasks:
        servers = [
            tasks.create_task(serve_flows(stack, tasks)),
            tasks.create_task(serve_datagrams(stack)),
        ]
        client = await asyncio.create_subprocess_exec(*command)
        code = await client.wait()
        for server in servers:
            server.cancel()
    return code


if __name__ == "__main__":
    enter_private_network([], "")
    sys.exit(asyncio.run(main(sys.argv[1:] or ["sh"])))
