"""A guest of passt, in the place of QEMU: our stack on the socket that passt gives to virtual machines.

    python -m tests.links.guest SOCKET GATEWAY... PORT

Sends a million bytes to PORT of each GATEWAY and expects them back; prints what is true.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import tunsmith
from tunsmith.device.stream import StreamDevice
from tunsmith.stack.nic import Nic

ADDRESSES = ["10.5.0.2/24", "fd05::2/64"]
TEXT = os.urandom(1_000_000)


async def echoed(stack: tunsmith.Stack, host: str, port: int) -> bool:
    reader, writer = await stack.open_connection(host, port, timeout=10)
    writer.write(TEXT)
    text = await reader.readexactly(len(TEXT))
    writer.write_eof()  # not before: the passt of Debian 12 repeats itself to those who have sent a FIN
    rest = await reader.read(-1)
    writer.close()
    return text + rest == TEXT


async def main(path: str, gateways: list[str], port: int) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.setblocking(False)
    device = StreamDevice(sock.detach(), ethernet=True)
    nic = Nic(device, ADDRESSES, mac="02:00:00:00:00:05", probe=False)
    async with tunsmith.Stack([nic]) as stack:
        print(*[await echoed(stack, gateway, port) for gateway in gateways])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:-1], int(sys.argv[-1])))
