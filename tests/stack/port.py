"""NICs without a device: what they send is kept, taken apart."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from tunsmith.device.base import ALL_OFFLOADS
from tunsmith.stack.config import StackConfig
from tunsmith.stack.nic import Nic
from tunsmith.stack.output import Parts
from tunsmith.stack.router import Router
from tunsmith.testing.clock import ManualClock
from tunsmith.wire.ethernet import EthernetHeader, build_ethernet, parse_ethernet
from tunsmith.wire.vnet import PLAIN

MAC, PEER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def packed(address: str) -> bytes:
    return ip_address(address).packed


class Frame(NamedTuple):
    vnet: bytes
    ethernet: EthernetHeader
    payload: bytes


class Port:
    """What a Nic wants of a device."""

    def __init__(self, *, ethernet: bool = False, offload: int = ALL_OFFLOADS, mtu: int = 1500) -> None:
        self.ethernet = ethernet
        self.offload = offload
        self.mtu = mtu
        self.written: list[bytes] = []

    def write(self, parts: Parts) -> None:
        self.written.append(b"".join(parts))

    def take(self) -> list[bytes]:
        """The frames since the last call, as they are."""
        written, self.written = self.written, []
        return written

    def frames(self) -> list[Frame]:
        """The Ethernet frames since the last call."""
        taken = []
        for frame in self.take():
            header = parse_ethernet(frame[10:])
            taken.append(Frame(frame[:10], header, frame[10 + header.length :]))
        return taken


class Bench:
    """A router with its clock."""

    def __init__(self, *nics: Nic, forwarding: bool = False, config: StackConfig | None = None) -> None:
        self.clock = ManualClock(100.0)
        self.router = Router(nics, config, clock=self.clock, forwarding=forwarding)
        self.stack = self.router.stack
        self.router.start()
        for nic in nics:
            nic.device.take()  # type: ignore[attr-defined]

    def receive(self, nic: Nic, packet: bytes, vnet: bytes = PLAIN) -> None:
        """A frame arrives, whatever its link layer."""
        frame = memoryview(bytearray(vnet + packet + bytes(96)))
        self.router.receiver(nic)(frame, len(vnet) + len(packet), self.clock())

    def receive_ethernet(
        self,
        nic: Nic,
        ethertype: int,
        payload: bytes,
        *,
        to: bytes = MAC,
        of: bytes = PEER_MAC,
        vlan: int = 0,
        vnet: bytes = PLAIN,
    ) -> None:
        self.receive(nic, build_ethernet(to, of, ethertype, vlan) + payload, vnet)

    def run(self, seconds: float = 0.001) -> None:
        """Let time pass."""
        end = self.clock() + seconds
        while (due := self.stack.next_deadline()) is not None and due <= end:
            self.stack.handle_timeout(self.clock.advance_to(max(due, self.clock())))
        self.clock.advance_to(end)
