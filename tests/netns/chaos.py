"""Conversations of every shape at once: sizes, speeds, who ends first, who reads late. Both ends follow a plan
that comes from a seed, and say what arrived.

Run inside as `chaos.py HOST PORT SEED COUNT resets|orderly`; the other end is a server of peers.py.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import random
import socket
import struct
import sys
import termios
from contextlib import suppress
from dataclasses import asdict, dataclass

from tests.netns.pattern import BLOCK, blocks

KINDS = ("plain", "reads first", "writes first", "slow reader")
RESET = "we did"
TCP_CLOSE = 7


@dataclass
class Plan:
    """One conversation. `client` and `server` say how each behaves: one of KINDS."""

    number: int
    up: int
    down: int
    client: str
    server: str


def plans(seed: int, count: int, resets: bool) -> list[Plan]:
    """`count` plans, with ends that reset or without: a reset that is lost leaves the other side waiting for
    ever, tunsmith or not. Two ends that both read first would wait for ever, so would two that write first
    more than all buffers hold, and an end that resets needs another that speaks."""
    chance = random.Random(seed)
    kinds = (*KINDS, "resets") if resets else KINDS
    found: list[Plan] = []
    while len(found) < count:
        up, down = (int(2 ** chance.uniform(0, 22)) - 1 for _ in range(2))
        client, server = chance.choice(kinds), chance.choice(kinds)
        if client == server and client != "plain" and client != "slow reader":
            continue
        if {client, server} == {"reads first", "resets"}:
            continue
        found.append(Plan(len(found), up, down, client, server))
    return found


async def converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, kind: str
) -> dict[str, object]:
    """Say `size` bytes and FIN, and hear all of the other side; what was heard and how it ended."""
    if kind == "resets":
        return await _reset(reader, writer, size)
    hear, say = _hear(reader, writer, kind == "slow reader"), _say(writer, size)
    if kind == "reads first":
        heard = await hear
        await say
    elif kind == "writes first":
        await say
        heard = await hear
    else:
        heard, _ = await asyncio.gather(hear, say)
    return heard


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> dict[str, object]:
    """Hear something, say half of it, and end at once."""
    await reader.read(1)
    for block in blocks(size // 2):
        writer.write(block)
        await writer.drain()
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return {"count": 0, "sha256": "", "end": RESET}


async def _say(writer: asyncio.StreamWriter, size: int) -> None:
    with suppress(OSError):
        for block in blocks(size):
            writer.write(block)
            await writer.drain()
        writer.write_eof()


async def _hear(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slowly: bool
) -> dict[str, object]:
    sha, count, end = hashlib.sha256(), 0, "fin"
    if slowly:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    try:
        while data := await reader.read(5000 if slowly else BLOCK):
            sha.update(data)
            count += len(data)
            if slowly:
                await asyncio.sleep(0)
    except ConnectionError as error:
        end = type(error).__name__
    return {"count": count, "sha256": sha.hexdigest(), "end": end}


def unacknowledged(sock: socket.socket) -> bool:
    """Whether there is text or a FIN that the other side has not confirmed. A connection that is over has its
    count frozen, so that does not count."""
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except (OSError, ValueError):
        return False
    return bool(count and state != TCP_CLOSE)


async def _delivered(writer: asyncio.StreamWriter) -> None:
    """Wait until the kernel has got rid of what was said: over a lossy path that takes longer than a program
    that has ended may hold up tunsmith."""
    sock: socket.socket = writer.get_extra_info("socket")
    while writer.transport.get_write_buffer_size() or unacknowledged(sock):  # noqa: ASYNC110  # the kernel has no event for it
        await asyncio.sleep(0.01)


async def _one(host: str, port: int, plan: Plan) -> dict[str, object]:
    reader, writer = await asyncio.open_connection(host, port, limit=BLOCK)
    writer.write(json.dumps(asdict(plan)).encode() + b"\n")
    heard = await converse(reader, writer, plan.up, plan.client)
    if not writer.transport.is_closing():
        await _delivered(writer)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return {"number": plan.number, **heard}


async def main(host: str, port: str, seed: str, count: str, resets: str) -> None:
    work = [_one(host, int(port), plan) for plan in plans(int(seed), int(count), resets == "resets")]
    print(json.dumps(await asyncio.gather(*work)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
