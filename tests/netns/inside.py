"""Servers that run inside, behind `--publish`: `inside.py HOST...`, some of peers.py at the same ports.

Says READY when all listen, and then what they notice, as peers.py does; ends with standard input.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial

from tests.netns import ports
from tests.netns.peers import HANDLERS, READY, Answers, Burst, Word, say, serve

TCP = (ports.ECHO, ports.DIGEST, ports.SOURCE, ports.FIN_FIRST, ports.RESET, ports.WHO)
UDP = (ports.ECHO, ports.WHO, ports.BURST)


def udp_server(port: int) -> Answers:
    if port == ports.BURST:
        return Burst()
    if port == ports.ECHO:
        return Answers(lambda data, address: data)
    return Answers(lambda data, address: f"{address[0]} {address[1]}".encode())


async def main(hosts: list[str]) -> None:
    loop = asyncio.get_running_loop()
    servers = []
    for host in hosts:
        servers += [await serve(HANDLERS[port], host, port) for port in TCP]
        for port in UDP:
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            if ":" in host:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            await loop.create_datagram_endpoint(partial(udp_server, port), sock=sock)
    say(READY)
    await Word.listen()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
