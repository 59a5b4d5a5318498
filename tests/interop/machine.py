"""Our stack and this namespace's kernel at the two ends of a TUN whose wire is bad, in one loop and real time.

What either side's programs do are callbacks: sockets of the kernel do not block, and our connections tell their
handlers. What went over the wire, as our stack saw it, is in the capture.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from random import Random

from tunsmith.device.base import ALL_OFFLOADS, FRAME_ROOM, TSO, read_batch
from tunsmith.device.faulty import FaultyDevice
from tunsmith.device.pcap import Capture, PcapDevice
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import open_tun
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import StackHandler
from tunsmith.stack.stack import Stack
from tunsmith.testing.faults import Faults, Link

KERNEL = {4: "192.0.2.1", 6: "2001:db8::1"}
STACK = {4: "203.0.113.9", 6: "2001:db8:1::9"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
NAME = "tun7"
TURN = 0.05
"""Seconds between two looks at whether all is done."""
SNAPLEN = 128
"""Of captures: all headers."""


class Machine:
    """A context manager; wants a network namespace of its own. Our stack is told what `clock` says; while a batch of
    frames goes through it, time stands still."""

    def __init__(
        self,
        seed: int,
        faults: dict[str, float],
        *,
        mtu: int = 1500,
        offload: bool = True,
        config: Callable[[bool], StackConfig] = lambda offload: StackConfig(offload=offload),
        handler: StackHandler | None = None,
        clock: Callable[[], float] = time.monotonic,
        capture: str = "",
    ) -> None:
        for name in ("disable_ipv6", "accept_dad"):
            Path(f"/proc/sys/net/ipv6/conf/default/{name}").write_text("0")
        tun = open_tun(NAME, mtu=mtu, offload=ALL_OFFLOADS if offload else 0)
        index = socket.if_nametoindex(NAME)
        with RtNetlink() as netlink:
            netlink.link_up(index, mtu)
            for version, family in FAMILY.items():
                if version == 4 or mtu >= 1280:
                    netlink.address_add(index, ip_address(KERNEL[version]))
                    netlink.default_route_add(index, family)
        self.ways = [Faults(Random(seed * 2 + way), **faults) for way in range(2)]  # type: ignore[arg-type]
        device = FaultyDevice(tun, Link(self.ways[0]), Link(self.ways[1]))
        self.device = device if not capture else PcapDevice(device, _capture(capture))
        self._clock = clock
        self._turn_at: float | None = None
        self.stack = Stack(
            config(offload and tun.offload & TSO == TSO), emit=self.device.write, handler=handler
        )
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.device, selectors.EVENT_READ, self._receive)
        self._buffer = memoryview(bytearray(FRAME_ROOM))

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.selector.close()
        self.device.close()

    @property
    def accidents(self) -> dict[str, int]:
        """What happened on the wire, both ways."""
        return dict(self.ways[0].counts + self.ways[1].counts)

    def clock(self) -> float:
        """The time, for our stack."""
        return self._clock() if self._turn_at is None else self._turn_at

    def run(self, until: Callable[[], bool], patience: float) -> None:
        """Let things happen. Raises TimeoutError after so many seconds."""
        end = time.monotonic() + patience
        while not until():
            if time.monotonic() > end:
                states = [c.state.value for c in self.stack.connections.values()]
                raise TimeoutError(f"not done after {patience:.0f} s; our connections: {states}")
            self._turn()

    def _turn(self) -> None:
        due = self.stack.next_deadline()
        wait = TURN if due is None else min(max(due - self.clock(), 0), TURN)
        for key, _ in self.selector.select(wait):
            key.data()
        self.stack.handle_timeout(self.clock())

    def _receive(self) -> None:
        self._turn_at = now = self._clock()
        with self.stack.batch(now):
            read_batch(
                self.device, self._buffer, lambda frame, length: self.stack.receive_frame(frame, length, now)
            )
        self._turn_at = None


def _capture(path: str) -> Capture:
    return Capture(path, warn=lambda line: print(line, file=sys.stderr), interface=NAME, snaplen=SNAPLEN)
