"""What a bad network does to packets, decided by a seed.

`Faults` looks at one frame at a time and says when which copies of it arrive; it holds nothing itself.
The path it imitates is a bottleneck (`rate`, a `queue` that drops what does not fit) followed by a wire
(`delay`, `jitter`), with accidents on the way. Packets keep their order, whatever the jitter, but for
those that `reorder` picks.

`Link` is that path as an object: frames in, frames out when their time has come.
"""

from __future__ import annotations

import math
from collections import Counter
from heapq import heappop, heappush
from random import Random

from tunsmith.wire.checksum import Buffer, finish, ones_sum
from tunsmith.wire.ethernet import ETHERTYPE_ARP, HEADER_LENGTH
from tunsmith.wire.ip import IPV4, IPV6
from tunsmith.wire.offload import complete_checksum, segment, segment_ethernet
from tunsmith.wire.vnet import VNET_HDR_LEN

_ARP = ETHERTYPE_ARP.to_bytes(2, "big")


class Faults:
    """The accidents of one direction of a path. Probabilities are per packet, 0 to 1.

    loss, duplicate, corrupt: the packet vanishes, arrives twice, arrives with one bit flipped somewhere
    behind the virtio header. A corrupted packet has a complete checksum and nobody vouches for it.
    mark: a packet that is ECN-capable is marked, as by a router that is congested.
    reorder: the packet is held back for up to `hold` seconds while others pass.
    delay, jitter: seconds on the wire, and up to how many more.
    rate, queue: bytes a second through the bottleneck, and bytes that may wait there.
    mtu: longer packets vanish, and nobody says so: a black hole.

    Wires carry packets, so super-segments are cut first, unless `whole`. With `ethernet` frames have an Ethernet
    header, and only IP behind it is damaged: the frame check sequence would tell of the rest.

    `counts` tells what happened: sent, lost, too_big, overflowed, marked, duplicated, corrupted, reordered."""

    def __init__(
        self,
        random: Random,
        *,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        corrupt: float = 0.0,
        mark: float = 0.0,
        delay: float = 0.0,
        jitter: float = 0.0,
        hold: float = 0.01,
        rate: float = math.inf,
        queue: float = math.inf,
        mtu: float = math.inf,
        whole: bool = False,
        ethernet: bool = False,
    ) -> None:
        if mark and ethernet:
            raise ValueError("packets behind an Ethernet header are not marked")
        self.counts: Counter[str] = Counter()
        self._random = random
        self._loss = loss
        self._duplicate = duplicate
        self._reorder = reorder
        self._corrupt = corrupt
        self._mark = mark
        self._delay = delay
        self._jitter = jitter
        self._hold = hold
        self._rate = rate
        self._queue = queue
        self._mtu = mtu
        self._whole = whole
        self._segment = segment_ethernet if ethernet else segment
        self._head = VNET_HDR_LEN + (HEADER_LENGTH if ethernet else 0)
        self._idle_at = -math.inf
        self._last_arrival = -math.inf

    def decide(self, frame: Buffer, now: float) -> list[tuple[float, bytes]]:
        """When (not before `now`) which frames arrive because `frame` was sent at `now`. Raises WireError
        for a super-segment that cannot be cut."""
        packets = [bytes(frame)] if self._whole else self._segment(frame)
        return [arrival for packet in packets for arrival in self._send(packet, now)]

    def _send(self, packet: bytes, now: float) -> list[tuple[float, bytes]]:
        self.counts["sent"] += 1
        if self._happens(self._loss):
            self.counts["lost"] += 1
            return []
        if len(packet) - self._head > self._mtu:
            self.counts["too_big"] += 1
            return []
        if self._happens(self._mark) and is_ecn_capable(packet):
            self.counts["marked"] += 1
            packet = marked(packet)
        copies = 1
        if self._happens(self._duplicate):
            self.counts["duplicated"] += 1
            copies = 2
        arrivals = []
        for _ in range(copies):
            through = self._bottleneck(len(packet) - VNET_HDR_LEN, now)
            if through is None:
                self.counts["overflowed"] += 1
                continue
            arrivals.append((self._arrival(through), self._damaged(packet)))
        return arrivals

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    def _bottleneck(self, length: int, now: float) -> float | None:
        """When the packet is through the bottleneck; None if the queue has no room for it."""
        begin = max(now, self._idle_at)
        if begin > now and (begin - now) * self._rate + length > self._queue:
            return None
        self._idle_at = begin + length / self._rate
        return self._idle_at

    def _arrival(self, through: float) -> float:
        when = max(through + self._delay + self._random.random() * self._jitter, self._last_arrival)
        if self._happens(self._reorder):
            self.counts["reordered"] += 1
            return when + self._random.random() * self._hold
        self._last_arrival = when
        return when

    def _damaged(self, packet: bytes) -> bytes:
        if not self._happens(self._corrupt) or packet[self._head - 2 : self._head] == _ARP:
            return packet
        self.counts["corrupted"] += 1
        bits = bytearray(complete_checksum(packet))
        bits[0] = 0  # the virtio flags: nobody vouches for it
        where = self._random.randrange(self._head * 8, len(bits) * 8)
        bits[where // 8] ^= 1 << where % 8
        return bytes(bits)


def is_ecn_capable(frame: bytes) -> bool:
    """Whether a router may mark the packet in `frame`, RFC 3168 §5."""
    family = IPV6 if frame[VNET_HDR_LEN] >> 4 == 6 else IPV4
    return family.ecn_field(frame) in (1, 2)


def marked(frame: bytes) -> bytes:
    """`frame` with its packet marked: congestion was experienced."""
    copy = bytearray(frame)
    packet = memoryview(copy)[VNET_HDR_LEN:]
    if packet[0] >> 4 == 6:
        packet[1] |= 0x30
        return bytes(copy)
    packet[1] |= 3
    packet[10:12] = bytes(2)
    packet[10:12] = finish(ones_sum(packet[: (packet[0] & 15) * 4])).to_bytes(2, "big")
    return bytes(copy)


class Link:
    """One direction of a path: what is sent arrives as `faults` decide."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._on_the_way: list[tuple[float, int, bytes]] = []
        self._sent = 0

    def send(self, frame: Buffer, now: float) -> None:
        """Put `frame` on the path; it is copied."""
        for when, packet in self.faults.decide(frame, now):
            self._sent += 1
            heappush(self._on_the_way, (when, self._sent, packet))

    def next_deadline(self) -> float | None:
        """When the next frame arrives."""
        return self._on_the_way[0][0] if self._on_the_way else None

    def receive(self, now: float) -> list[bytes]:
        """The frames that have arrived by `now`, in the order of their arrival."""
        arrived = []
        while self._on_the_way and self._on_the_way[0][0] <= now:
            arrived.append(heappop(self._on_the_way)[2])
        return arrived
