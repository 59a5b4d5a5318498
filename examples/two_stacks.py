"""Two TCP/IP stacks talk over a wire that is a Python list: no root, no socket, no clock.

A stack is pure: packets and the time go in, packets and events come out. Here the time is a number that
we count up ourselves. Prints what each side saw.
"""

from __future__ import annotations

from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Closed, Established, FlowRequested, PeerClosed, Readable
from tunsmith.stack.stack import Stack
from tunsmith.wire.vnet import VNET_HDR_LEN

CLIENT, SERVER = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
RTT = 0.01


def carry(sender: Stack, receiver: Stack, now: float) -> int:
    """Move every frame; the virtio header in front of each says what is left to be done to the packet."""
    frames = list(sender.frames_to_send())
    for frame in frames:
        receiver.receive(frame[VNET_HDR_LEN:], now, vnet=frame[:VNET_HDR_LEN])
    return len(frames)


def client_turn(stack: Stack, now: float) -> None:
    while event := stack.poll_event():
        match event:
            case Established(connection):
                print("client: connected")
                connection.send(b"hello " * 20_000, now)
                connection.shutdown(now)
            case Readable(connection):
                answer = connection.read(1 << 20, now)
                print(f"client: the server says {answer.decode()!r}")
            case Closed(_, error):
                print(f"client: closed, error {error}")


def server_turn(stack: Stack, now: float, received: bytearray) -> None:
    while event := stack.poll_event():
        match event:
            case FlowRequested(request):
                print(f"server: somebody wants port {request.destination[1]}")
                request.accept(None, now)  # None: events are kept for poll_event
            case Readable(connection):
                received += connection.read(1 << 20, now)
            case PeerClosed(connection):
                connection.send(f"{len(received)} bytes, thank you".encode(), now)
                connection.shutdown(now)
            case Closed(_, error):
                print(f"server: closed, error {error}")


def main() -> None:
    client, server = Stack(StackConfig(isn_secret=b"client")), Stack(StackConfig(isn_secret=b"server"))
    received = bytearray()
    now, frames = 0.0, 0
    client.connect(CLIENT, 40000, SERVER, 80, now)
    while client.connections or server.connections:
        frames += carry(client, server, now)
        server_turn(server, now, received)
        frames += carry(server, client, now)
        client_turn(client, now)
        now += RTT
        for stack in (client, server):
            stack.handle_timeout(now)
    print(f"{frames} frames for {len(received)} bytes in {now:.2f} s of pretended time")


if __name__ == "__main__":
    main()
