"""Two hosts, one wire, one conversation: what every simulation begins with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tunsmith.stack.config import StackConfig
from tunsmith.testing.application import Application
from tunsmith.testing.network import Host, Network

V4 = (b"\x0a\0\0\x01", b"\x0a\0\0\x02")
V6 = (bytes.fromhex("fd000000000000000000000000000001"), bytes.fromhex("fd000000000000000000000000000002"))
CONFIG = StackConfig(time_wait=1.0)


def text(seed: int, length: int) -> bytes:
    """Bytes that differ wherever one looks, so that none can be lost, doubled or moved unseen."""
    return Random(seed).randbytes(length)


@dataclass
class Conversation:
    """A client on one host and a server on the other, with what each is to receive."""

    network: Network
    client: Application
    server: Application
    up: bytes
    down: bytes
    hosts: list[Host] = field(default_factory=list)

    def check(self) -> None:
        """Each got exactly what the other sent, both ended well, and nothing is left behind."""
        assert bytes(self.server.received) == self.up
        assert bytes(self.client.received) == self.down
        assert (self.client.error, self.server.error) == (0, 0)
        assert self.client.peer_ended
        assert self.server.peer_ended
        for host in self.hosts:
            assert not host.stack.connections
            assert not host.stack.requests
            assert not host.stack.time_waits.records


def converse(
    network: Network,
    up: int,
    down: int,
    *,
    addresses: tuple[bytes, bytes] = V4,
    client: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    left: StackConfig = CONFIG,
    right: StackConfig | None = None,
    back: dict[str, float] | None = None,
    swap: bool = False,
    **faults: Any,
) -> Conversation:
    """Set up `up` bytes from client to server and `down` bytes back; nothing has happened yet. `client`
    and `server` are arguments of their Applications."""
    a = network.host("client", replace(left, isn_secret=b"left"))
    b = network.host("server", replace(right or left, isn_secret=b"right"))
    network.wire(a, b, back=back, **faults)
    sent, returned = text(network.seed, up), text(network.seed + 1, down)
    one = Application(a, sent, **(client or {}))
    two = Application(b, returned, **(server or {}))
    b.on_request = two.accept
    one.connect((addresses[0], 40000), (addresses[1], 80))
    return Conversation(network, one, two, sent, returned, [a, b])
