"""The same echo over every kind of link: two stacks of ours, joined by it, in one process and one thread.

    python -m bench.links [--seconds 2] [--rounds 3] [--markdown docs/links.md]

A client sends, a server sends it back, both are the same code each time; only the link differs, and whether it
carries super-segments. Between two TUNs (or TAPs) Linux forwards. What is counted is what the client gets back.
As root: the process moves to a network namespace of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tunsmith.device.base import ALL_OFFLOADS, FRAME_ROOM, TSO, Device, read_batch
from tunsmith.device.memory import MemoryDevice
from tunsmith.device.object import ObjectDevice
from tunsmith.device.packets import PacketDevice
from tunsmith.device.stream import StreamDevice
from tunsmith.device.tun import TunDevice
from tunsmith.host.syscalls import CLONE_NEWNET, keep_freed_memory, unshare
from tunsmith.host.tun import open_tap, open_tun
from tunsmith.stack.events import Established, FlowRequested, PeerClosed, Readable, Writable
from tunsmith.stack.nic import Nic
from tunsmith.stack.router import Router
from tunsmith.stack.tcp.connection import Connection

CLIENT, SERVER = bytes((10, 1, 0, 2)), bytes((10, 2, 0, 2))
PORT = 7
CHUNK = bytes(64 << 10)
SOCKET_BUFFER = 16 << 20
SO_SNDBUFFORCE = 32
BEGIN, END = "<!-- links -->", "<!-- links: end -->"

Pair = tuple[Device, Device]


class Side:
    """One stack at one end of the link."""

    def __init__(self, device: Device, address: str, gateway: str) -> None:
        self.device = device
        mac = f"02:00:00:00:00:{address.split('.')[1]:0>2}" if device.ethernet else None
        nic = Nic(device, [f"{address}/24"], mac=mac, probe=False)
        self.router = Router([nic], clock=time.monotonic)
        if device.ethernet:
            self.router.add_route("0.0.0.0/0", nic, gateway=gateway)
        self.router.start()
        self.stack = self.router.stack
        self._receive = self.router.receiver(nic)
        self._buffer = memoryview(bytearray(FRAME_ROOM))

    def turn(self) -> None:
        """Take what the link has."""
        now = time.monotonic()
        with self.stack.batch(now):
            read_batch(self.device, self._buffer, lambda frame, length: self._receive(frame, length, now))

    def tick(self) -> None:
        """Run the timers."""
        self.stack.handle_timeout(time.monotonic())


class Echo:
    """A client that sends without end and a server that sends it back."""

    def __init__(self, client: Side, server: Side) -> None:
        self.client, self.server = client, server
        self.returned = 0

    def run(self, seconds: float) -> float:
        """Bytes a second that came back."""
        poller = select.poll()
        sides = {side.device.fileno(): side for side in (self.client, self.server)}
        for fd in sides:
            poller.register(fd, select.POLLIN)
        self.client.stack.connect(CLIENT, 1000, SERVER, PORT, time.monotonic())
        begin = time.monotonic()
        while (now := time.monotonic()) < begin + seconds:
            dues = [due for side in sides.values() if (due := side.stack.next_deadline()) is not None]
            wait = max(0.0, min([due - now for due in dues], default=0.1))
            for fd, _ in poller.poll(wait * 1000):
                sides[fd].turn()
            for side in sides.values():
                side.tick()
            self._act(self.client, self._on_client)
            self._act(self.server, self._on_server)
        return self.returned / (now - begin)

    @staticmethod
    def _act(side: Side, act: Callable[[Connection], None]) -> None:
        while (event := side.stack.poll_event()) is not None:
            match event:
                case FlowRequested(request):
                    request.accept(None, time.monotonic())
                case (
                    Established(connection)
                    | Readable(connection)
                    | Writable(connection)
                    | PeerClosed(connection)
                ):
                    act(connection)

    def _on_client(self, connection: Connection) -> None:
        now = time.monotonic()
        while text := connection.read(len(CHUNK), now):
            self.returned += len(text)
        while connection.send(CHUNK, now) == len(CHUNK):
            pass

    @staticmethod
    def _on_server(connection: Connection) -> None:
        now = time.monotonic()
        while waiting := connection.read(len(CHUNK), now, peek=True):
            taken = connection.send(waiting, now)
            connection.read(taken, now)
            if taken < len(waiting):
                return


# --- links ---


def memory(whole: bool) -> Pair:
    return MemoryDevice.pair(offload=ALL_OFFLOADS if whole else 0, limit=4096)


def calls(whole: bool) -> Pair:
    far: ObjectDevice
    near = ObjectDevice(lambda packet: far.deliver(packet), vnet_header=whole, limit=4096)
    far = ObjectDevice(near.deliver, vnet_header=whole, limit=4096)
    return near, far


def _sockets(kind: int) -> tuple[int, int]:
    fds = []
    for end in socket.socketpair(socket.AF_UNIX, kind):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER)
        fds.append(end.detach())
    return fds[0], fds[1]


def datagrams(whole: bool) -> Pair:
    near, far = _sockets(socket.SOCK_DGRAM)
    if whole:
        return TunDevice(near, ALL_OFFLOADS), TunDevice(far, ALL_OFFLOADS)
    return PacketDevice(near), PacketDevice(far)


def stream(whole: bool) -> Pair:
    near, far = _sockets(socket.SOCK_STREAM)
    return StreamDevice(near, vnet_header=whole), StreamDevice(far, vnet_header=whole)


def _interfaces(ethernet: bool, whole: bool) -> Pair:
    """Two of them, with Linux between as a router."""
    opener = open_tap if ethernet else open_tun
    devices = tuple(opener(name, vnet_header=whole) for name in ("near", "far"))
    for number, device in enumerate(devices, 1):
        for words in (
            f"link set {device.name} txqueuelen 4096 up",
            f"address add 10.{number}.0.1/24 dev {device.name}",
        ):
            subprocess.run(["ip", *words.split()], check=True)
    return devices[0], devices[1]


def tuns(whole: bool) -> Pair:
    return _interfaces(False, whole)


def taps(whole: bool) -> Pair:
    return _interfaces(True, whole)


LINKS: dict[str, Callable[[bool], Pair]] = {
    "in memory (`MemoryDevice`)": memory,
    "calls (`ObjectDevice`)": calls,
    "datagram sockets (`TunDevice`, `PacketDevice`)": datagrams,
    "stream socket (`StreamDevice`)": stream,
    "two TUNs, Linux between (`open_tun`)": tuns,
    "two TAPs, Linux between (`open_tap`)": taps,
}


# --- measuring ---


@dataclass(frozen=True)
class Result:
    """Medians: bytes a second, and processor time a byte in Python and in the kernel."""

    rate: float
    user: float
    system: float


@contextmanager
def joined(make: Callable[[bool], Pair], whole: bool) -> Iterator[Echo]:
    with ExitStack() as stack:
        near, far = make(whole)
        for device in (near, far):
            stack.enter_context(closing(device))
        assert (near.offload & TSO == TSO) == whole
        yield Echo(Side(near, "10.1.0.2", "10.1.0.1"), Side(far, "10.2.0.2", "10.2.0.1"))


def measure(make: Callable[[bool], Pair], whole: bool, seconds: float, rounds: int) -> Result:
    results = []
    for _ in range(rounds):
        with joined(make, whole) as echo:
            before = resource.getrusage(resource.RUSAGE_SELF)
            rate = echo.run(seconds)
            after = resource.getrusage(resource.RUSAGE_SELF)
        count = max(1, echo.returned)
        spent = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        results.append(Result(rate, spent[0] / count, spent[1] / count))
    return Result(
        *(median(getattr(result, field) for result in results) for field in ("rate", "user", "system"))
    )


def table(seconds: float, rounds: int) -> str:
    lines = [
        "| link | super-segments, MB/s | s/GB Python + kernel | packets of 1500, MB/s | s/GB Python + kernel |",
        "|---|---|---|---|---|",
    ]
    for name, make in LINKS.items():
        cells = [name]
        for whole in (True, False):
            result = measure(make, whole, seconds, rounds)
            cells.append(f"{result.rate / 1e6:.0f}")
            cells.append(f"{result.user * 1e9:.1f} + {result.system * 1e9:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def enter_own_network() -> None:
    """A namespace where Linux forwards, and where datagram sockets hold more than ten messages."""
    unshare(CLONE_NEWNET)
    for name, value in (("net/ipv4/ip_forward", "1"), ("net/unix/max_dgram_qlen", "4096")):
        Path(f"/proc/sys/{name}").write_text(value)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.links")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", type=Path, help=f"put the table between {BEGIN} and {END} of that page")
    wish = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: it makes a network namespace")
    keep_freed_memory(64 << 20, 1 << 20)  # as `tunsmith run` does
    enter_own_network()
    text = table(wish.seconds, wish.rounds)
    if wish.markdown is not None:
        page = wish.markdown.read_text()
        head, _, rest = page.partition(BEGIN)
        _, _, tail = rest.partition(END)
        wish.markdown.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


if __name__ == "__main__":
    main()
