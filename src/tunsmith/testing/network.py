"""A network that exists only in memory: hosts, wires and one clock, the same every time for the same seed.

    network = Network(seed)
    a, b = network.host("a"), network.host("b", StackConfig(mtu=576))
    network.wire(a, b, loss=0.1, delay=0.01)
    network.run()

Time does not pass by itself: `run` jumps from one thing that happens (a frame arrives, a timer of a stack
is due, a `call_at`) to the next, until nothing is left to happen. A network that never comes to rest, two
stacks that answer each other's ACKs for ever, say, runs into the bound on steps and fails as `Livelock`.

What goes over the wires is remembered, and `save` writes it for tcpdump and Wireshark.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from heapq import heappop, heappush
from pathlib import Path
from random import Random

from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import DatagramError, Echo
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.stack import Stack
from tunsmith.testing.clock import ManualClock
from tunsmith.testing.faults import Faults, Link
from tunsmith.wire import pcapng
from tunsmith.wire.checksum import Buffer
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.vnet import VNET_HDR_LEN

REMEMBERED = 50_000
"""Frames kept for `save`; the oldest go first."""
_ROOM = bytes(96)


class Livelock(AssertionError):
    """The network does not come to rest."""


class Host:
    """A stack on a `Network`. What it is asked goes to `on_request`, which refuses until it is replaced;
    datagrams, pings and errors are kept in lists."""

    def __init__(self, network: Network, name: str, config: StackConfig | None) -> None:
        self.network = network
        self.name = name
        self.stack = Stack(config, emit=self._emit, handler=self)
        self.on_request: Callable[[FlowRequest], None] = lambda request: request.refuse(network.now)
        self.datagrams: list[tuple[IpFamily, bytes, bytes, int]] = []
        """Family, key, payload, segment size."""
        self.echoes: list[Echo] = []
        self.errors: list[DatagramError] = []
        self.out: Link | None = None
        self.sent = 0
        """Frames given to the wire."""

    def _emit(self, parts: tuple[Buffer, ...]) -> None:
        frame = b"".join(parts)
        self.sent += 1
        self.network.remember(self, frame, outbound=True)
        if self.out is not None:
            self.out.send(frame, self.network.now)

    def on_flow(self, request: FlowRequest) -> None:
        self.on_request(request)

    def on_datagram(self, family: IpFamily, key: bytes, data: memoryview, segment_size: int) -> None:
        self.datagrams.append((family, key, bytes(data), segment_size))

    def on_echo(self, echo: Echo) -> None:
        self.echoes.append(echo)
        self.stack.send_echo_reply(echo)

    def on_datagram_error(self, error: DatagramError) -> None:
        self.errors.append(error)


class Network:
    """Hosts and wires that share a clock and a source of randomness."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.clock = ManualClock()
        self.hosts: list[Host] = []
        self.steps = 0
        self._arrivals: list[tuple[Link, Host]] = []
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._called = 0
        self._frames: deque[tuple[float, int, bytes, bool]] = deque(maxlen=REMEMBERED)

    @property
    def now(self) -> float:
        """Seconds on the network's clock."""
        return self.clock()

    def host(self, name: str, config: StackConfig | None = None) -> Host:
        """A new host, on no wire yet."""
        host = Host(self, name, config)
        self.hosts.append(host)
        return host

    def wire(
        self, left: Host, right: Host, *, back: dict[str, float] | None = None, **faults: float
    ) -> tuple[Faults, Faults]:
        """Join two hosts: all that one sends goes to the other, with the `faults` of testing/faults.py on
        the way; `back` are those from `right` to `left` where they differ. Returns both directions."""
        made = []
        for sender, receiver, accidents in (
            (left, right, faults),
            (right, left, faults if back is None else back),
        ):
            link = Link(Faults(Random(self.random.random()), **accidents))  # type: ignore[arg-type]
            sender.out = link
            self._arrivals.append((link, receiver))
            made.append(link.faults)
        return made[0], made[1]

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Have `callback` called at `when`."""
        self._called += 1
        heappush(self._calls, (when, self._called, callback))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have `callback` called in `seconds`."""
        self.call_at(self.now + seconds, callback)

    def next_event(self) -> float | None:
        """When something happens next; None when the network is at rest."""
        when = self._calls[0][0] if self._calls else math.inf
        for link, _ in self._arrivals:
            when = min(when, link.next_deadline() or math.inf)
        for host in self.hosts:
            due = host.stack.next_deadline()
            when = when if due is None else min(when, due)
        return None if when == math.inf else max(when, self.now)

    def run(
        self,
        until: Callable[[], object] | None = None,
        *,
        seconds: float = math.inf,
        steps: int = 200_000,
    ) -> bool:
        """Let things happen until the network is at rest, `until` is true or `seconds` have passed.
        Returns whether it is at rest or `until` is true. Raises Livelock after `steps`."""
        end = self.now + seconds
        for _ in range(steps):
            if until is not None and until():
                return True
            when = self.next_event()
            if when is None:
                return until is None
            if when > end:
                self.clock.advance_to(end)
                return False
            self.clock.advance_to(when)
            self._step()
        raise Livelock(f"still busy after {steps} steps, at {self.now:.3f} s, seed {self.seed}")

    def _step(self) -> None:
        """Everything that is due now."""
        self.steps += 1
        now = self.now
        for link, host in self._arrivals:
            frames = link.receive(now)
            if not frames:
                continue
            batch = host.stack.batch(now) if len(frames) > 1 and self.random.random() < 0.5 else nullcontext()
            with batch:
                for frame in frames:
                    self.remember(host, frame, outbound=False)
                    host.stack.receive_frame(memoryview(frame + _ROOM), len(frame), now)
        newest = self._called  # what these ask for at once comes with the next step
        while self._calls and self._calls[0][0] <= now and self._calls[0][1] <= newest:
            heappop(self._calls)[2]()
        for host in self.hosts:
            stack = host.stack
            stack.handle_timeout(now)
            due = stack.next_deadline()
            if due is not None and due <= now:
                raise Livelock(f"a timer of {host.name} stays due at {now:.6f}")

    def remember(self, host: Host, frame: bytes, *, outbound: bool) -> None:
        """Keep `frame` for `save`."""
        self._frames.append((self.now, self.hosts.index(host), frame, outbound))

    def save(self, path: Path) -> None:
        """Write what went over the wires as pcapng: one interface a host, what it sent and what arrived."""
        blocks = [pcapng.section_header(f"tunsmith, seed {self.seed}")]
        blocks += [pcapng.interface(host.name) for host in self.hosts]
        for when, number, frame, outbound in self._frames:
            packet = memoryview(frame)[VNET_HDR_LEN:]
            blocks.append(
                pcapng.packet(packet, len(packet), round(when * 1e9), outbound=outbound, number=number)
            )
        path.write_bytes(b"".join(blocks))
