"""Programs of the machine that `echo` and `connect` talk to, on the kernel's own sockets.

clients COUNT SIZE ADDRESS...    COUNT at once send SIZE random bytes and the end; prints how many got them back
collect ADDRESS PORT             takes one connection to its end, then says bye; prints length and SHA-256
first ADDRESS PORT               prints the first piece that comes as soon as it comes
reset ADDRESS PORT               resets the connection at the first byte
watch ADDRESS PORT               prints what ends the connection
source SIZE ADDRESS PORT         sends SIZE bytes and the end, takes nothing before the other's end
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
import sys


async def clients(count: str, size: str, *addresses: str) -> None:
    async def one(address: str) -> bool:
        data = os.urandom(int(size))
        reader, writer = await asyncio.open_connection(address, 7)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        _, back = await asyncio.gather(send(), reader.read())
        writer.close()
        return hashlib.sha256(back).digest() == hashlib.sha256(data).digest()

    print("ready", flush=True)
    same = await asyncio.gather(*(one(addresses[number % len(addresses)]) for number in range(int(count))))
    print(sum(same), flush=True)


def accept(address: str, port: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server(("", int(port)), family=family)
    print("ready", flush=True)
    return listener.accept()[0]


def collect(address: str, port: str) -> None:
    digest, length = hashlib.sha256(), 0
    with accept(address, port) as sock:
        while data := sock.recv(1 << 20):
            digest.update(data)
            length += len(data)
        sock.sendall(b"bye")
    print(length, digest.hexdigest(), flush=True)


def first(address: str, port: str) -> None:
    with accept(address, port) as sock:
        print(sock.recv(100).decode(), flush=True)
        sock.recv(100)


def reset(address: str, port: str) -> None:
    sock = accept(address, port)
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def watch(address: str, port: str) -> None:
    with accept(address, port) as sock:
        print("connected", flush=True)
        try:
            sock.recv(1)
            print("closed", flush=True)
        except OSError as error:
            print(type(error).__name__, flush=True)


def source(size: str, address: str, port: str) -> None:
    with accept(address, port) as sock:
        sock.sendall(bytes(int(size)))
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 20):
            pass


if __name__ == "__main__":
    outcome = globals()[sys.argv[1]](*sys.argv[2:])
    if asyncio.iscoroutine(outcome):
        asyncio.run(outcome)
