"""The UDP load: a flood on one side, a count on the other. Runs by itself, on the standard library alone.

    python datagrams.py sink ADDRESS PORT      wait for datagrams, count them
    python datagrams.py flood ADDRESS PORT     send to a sink
    python datagrams.py source ADDRESS PORT    wait for a caller, flood it
    python datagrams.py call ADDRESS PORT      call a source, count what comes

Datagrams go out one system call each, as a game, a resolver or a telephone sends them; with `--segments` N
it is N at a time (UDP_SEGMENT, as QUIC does) and the counter takes them in bundles where the kernel has
them (UDP_GRO). What counts is what arrives within the window; the sender is never slowed down.
A counter prints one line of JSON: {"datagrams": N, "seconds": S}.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import time

UDP_SEGMENT = 103
UDP_GRO = 104
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
BUFFER = 4 << 20
WARM_UP = 0.3
HELLO = b"hello"


def open_socket(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    return sock


def flood(sock: socket.socket, size: int, segments: int, seconds: float) -> None:
    """Send to the connected peer for `seconds`, whatever becomes of it."""
    payload = bytes(size * segments)
    if segments > 1:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _ in range(32):
            try:
                sock.send(payload)
            except OSError:
                continue  # ICMP errors and full queues are the path's answer, not ours


def count(sock: socket.socket, bundles: bool, seconds: float) -> tuple[int, float]:
    """Datagrams received in a window of `seconds`, which opens WARM_UP after the first of them."""
    if bundles:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    sock.settimeout(5.0)
    buffer = bytearray(65536)
    sock.recv_into(buffer)
    receive = received_bundle if bundles else received_one
    # Python's own timeout would cost a poll() for each datagram.
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 200_000))
    begin = time.monotonic() + WARM_UP
    while time.monotonic() < begin:
        receive(sock, buffer)
    total, deadline = 0, begin + seconds
    while time.monotonic() < deadline:
        for _ in range(16):
            total += receive(sock, buffer)
    return total, time.monotonic() - begin


def received_one(sock: socket.socket, buffer: bytearray) -> int:
    try:
        sock.recv_into(buffer)
    except BlockingIOError:
        return 0
    return 1


def received_bundle(sock: socket.socket, buffer: bytearray) -> int:
    try:
        length, control, _, _ = sock.recvmsg_into([buffer], 64)
    except BlockingIOError:
        return 0
    for level, kind, data in control:
        if level == socket.IPPROTO_UDP and kind == UDP_GRO:
            return -(-length // int(struct.unpack_from("=i", data)[0]))
    return 1


def main() -> None:
    parser = argparse.ArgumentParser(description="UDP load")
    parser.add_argument("role", choices=["sink", "flood", "source", "call"])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--size", type=int, default=160, help="bytes of payload in a datagram")
    parser.add_argument("--segments", type=int, default=1, help="datagrams in a system call")
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    there = (asked.address, asked.port)
    with open_socket(asked.address) as sock:
        if asked.role in ("flood", "call"):
            sock.connect(there)
        else:
            sock.bind(there)
        if asked.role == "source":
            sock.settimeout(10.0)
            _, caller = sock.recvfrom(64)
            sock.settimeout(None)
            sock.connect(caller)
        if asked.role == "call":
            sock.send(HELLO)
        if asked.role in ("flood", "source"):
            flood(sock, asked.size, asked.segments, asked.seconds + 2 * WARM_UP)
        else:
            total, seconds = count(sock, asked.segments > 1, asked.seconds)
            print(json.dumps({"datagrams": total, "seconds": seconds}))


if __name__ == "__main__":
    main()
