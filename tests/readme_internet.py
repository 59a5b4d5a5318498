"""The Internet of the README's examples, as a program: `readme_internet.py COMMAND...`

Runs each COMMAND by a shell, in a network where example.com is a web server and 127.0.0.1:1080 a SOCKS5 proxy,
and prints what they said, standard output and error together, as a JSON list.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path

from tunsmith.demo.nameserver import NameServer
from tunsmith.demo.web import WebServer
from tunsmith.host.private import enter_private_network
from tunsmith.testing.socks_server import SocksServer

WEB, RESOLVER = "192.0.2.80", "192.0.2.53"
HOSTS = {"example.com": WEB}


async def answer_names() -> None:
    loop, names = asyncio.get_running_loop(), NameServer(HOSTS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind((RESOLVER, 53))
        while True:
            query, client = await loop.sock_recvfrom(server, 65535)
            if reply := names.answer(query):
                await loop.sock_sendto(server, reply, client)


async def run(command: str) -> str:
    process = await asyncio.create_subprocess_shell(
        command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode()


async def main(commands: list[str]) -> list[str]:
    async with AsyncExitStack() as stack:
        for service in (WebServer([WEB]).serve(), answer_names()):
            stack.callback(asyncio.ensure_future(service).cancel)
        await stack.enter_async_context(SocksServer("127.0.0.1", 1080, hosts=HOSTS))
        return [await run(command) for command in commands]


if __name__ == "__main__":
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    enter_private_network(map(ip_address, (WEB, RESOLVER)), f"nameserver {RESOLVER}\n")
    print(json.dumps(asyncio.run(main(sys.argv[1:]))))
