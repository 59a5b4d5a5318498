"""A network of 256 machines that are not there: every second one answers ping, the others are unreachable.

It exists for the command that is run in it, without root:

    $ python examples/ping_responder.py ping -c 1 198.51.100.7      a reply
    $ python examples/ping_responder.py ping -c 1 198.51.100.8      "Destination Host Unreachable", from its router
    $ python examples/ping_responder.py ping -c 1 -W 1 203.0.113.1  nothing at all
"""

from __future__ import annotations

import asyncio
import sys
from ipaddress import ip_address, ip_network

import tunsmith
from tunsmith.host.link import open_link
from tunsmith.host.private import enter_private_network

OURS = ip_network("198.51.100.0/24")
ROUTER = "198.51.100.1"


async def answer(stack: tunsmith.Stack) -> None:
    async with stack.open_ping_endpoint(any_destination=True) as pings:
        async for ping in pings:
            machine = ip_address(ping.destination)
            if machine in OURS and int(machine) % 2:
                ping.reply()
            elif machine in OURS:
                ping.unreachable(router=ROUTER)


async def main(command: list[str]) -> int:
    link = open_link("tun0", ip_address(ROUTER), default_route=True)
    async with tunsmith.Stack(link.device, [f"{ROUTER}/24"]) as stack:
        answering = asyncio.create_task(answer(stack))
        client = await asyncio.create_subprocess_exec(*command)
        code = await client.wait()
        answering.cancel()
    return code


if __name__ == "__main__":
    enter_private_network([], "")
    sys.exit(asyncio.run(main(sys.argv[1:] or ["sh"])))
