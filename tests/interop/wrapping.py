"""Numbers that pass the end of their range soon: 2³² for sequence numbers, 2³¹ or 2³² for timestamps.

Ours come from the configuration and from the clock that the stack is told. The kernel's are set as a process that is
being restored sets them (TCP_REPAIR, net/ipv4/tcp.c): a sequence number before it connects, and the timestamp
once it is connected.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

AHEAD = 30_000
"""Bytes until a sequence number passes 2³²."""
ISN = (1 << 32) - AHEAD
TS_OFFSET = ISN & 0x7FFFFFFF
"""What connections add to the milliseconds of the clock: see Connection.ts_offset."""

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_TIMESTAMP = 19, 20, 21, 24
"""linux/tcp.h."""
OFF_WITHOUT_PROBE = -1
SEND_QUEUE = 2


def clock(end: int, soon: float) -> Callable[[], float]:
    """A clock whose timestamps, with TS_OFFSET, pass `end` in `soon` seconds."""
    begin = time.monotonic()
    at = (end - TS_OFFSET) / 1000 - soon

    return lambda: at + time.monotonic() - begin


def set_sequence(sock: socket.socket) -> None:
    """Let `sock`, which is not connected, begin near the end of the range."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("I", ISN))
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, OFF_WITHOUT_PROBE)


def set_timestamp(sock: socket.socket, soon: float) -> None:
    """Let the timestamps of `sock`, which is connected and has said nothing, go forward to where they pass 2³¹ or
    2³² in `soon` seconds, whichever is not in the past for its peer (RFC 7323 §5.2)."""
    left = int(1000 * soon)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    stamp = sock.getsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP)
    end = 1 << 31 if 0 <= stamp < (1 << 31) - left else 1 << 32
    sock.setsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP, struct.pack("I", end - left))
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, OFF_WITHOUT_PROBE)
