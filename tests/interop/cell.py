"""One cell of the matrix: which transfer, over which path, between which ends."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, ClassVar

MTUS = {4: (576, 1500, 9000, 65535), 6: (1280, 1500, 9000, 65535)}
RTTS = (0.0, 0.02, 0.1, 0.3)
SEGMENTS = (1, 2, 8, 0)
"""Windows; 0: as large as usual."""
PATHS: dict[str, dict[str, float]] = {
    "clean": {},
    "loss 1 %": {"loss": 0.01},
    "loss 3 %": {"loss": 0.03},
    "loss 10 %": {"loss": 0.1},
    "reordering": {"reorder": 0.1},
    "duplication": {"duplicate": 0.1},
    "corruption": {"corrupt": 0.03},
    "a bit of all": {"loss": 0.01, "reorder": 0.03, "duplicate": 0.02, "corrupt": 0.01},
    "much of all": {"loss": 0.1, "reorder": 0.1, "duplicate": 0.1, "corrupt": 0.03},
}
"""Probabilities per packet, each way."""
AXES: dict[str, tuple[Any, ...]] = {
    "version": (4, 6),
    "opener": ("kernel", "stack"),
    "sender": ("kernel", "stack", "both"),
    "offload": (True, False),
    "path": tuple(PATHS),
    "rtt": RTTS,
    "mtu": (0, 1, 2, 3),
    "segments": SEGMENTS,
    "wraps": (False, True),
}
FASTEST = 20e6
"""Bytes a second that this machine is trusted with."""
RETRANSMISSION = 0.25
"""Seconds by which a timeout exceeds the round trip."""


@dataclass(frozen=True)
class Cell:
    """`wraps`: sequence numbers and timestamps of both ends pass 2³² (or 2³¹) on the way. `size`: bytes a direction;
    senders end after `seconds` with less."""

    module: ClassVar[str] = "tests.interop.transfer"
    seed: int
    version: int
    opener: str
    sender: str
    offload: bool
    path: str
    rtt: float
    mtu: int
    segments: int
    wraps: bool
    size: int = 0
    seconds: float = math.inf

    @classmethod
    def from_seed(cls, seed: int) -> Cell:
        """Any cell, the same for the same seed."""
        random = Random(seed)
        return cls.of(seed, {name: random.choice(values) for name, values in AXES.items()})

    @classmethod
    def of(cls, seed: int, choice: dict[str, Any]) -> Cell:
        """The cell at a point of AXES."""
        return cls(seed, **{**choice, "mtu": MTUS[choice["version"]][choice["mtu"]]})

    @classmethod
    def loads(cls, text: str) -> Cell:
        return cls(**json.loads(text))

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    def lasting(self, seconds: float, most: int) -> Cell:
        """With a transfer that should be done in `seconds`."""
        return replace(self, size=max(5 * self.mss, min(int(self.rate * seconds), most)), seconds=seconds * 4)

    @property
    def arguments(self) -> list[str]:
        return [self.dumps()]

    @property
    def mss(self) -> int:
        return self.mtu - (40 if self.version == 4 else 60) - 12

    @property
    def window(self) -> int:
        """Bytes that each end lets the other send; 0: as usual."""
        return self.segments * self.mss

    @property
    def faults(self) -> dict[str, float]:
        return {**PATHS[self.path], "delay": self.rtt / 2, "hold": 0.01 + self.rtt / 4}

    @property
    def rate(self) -> float:
        """Bytes a second to expect, roughly: what the windows or (Mathis et al.) the losses allow, and the waiting for
        timeouts where there is never enough in flight to do without."""
        rtt = self.rtt + 0.002
        lost = PATHS[self.path].get("loss", 0) + PATHS[self.path].get("corrupt", 0)
        window = self.window or 1 << 20
        rate = min(window / rtt, FASTEST)
        if lost:
            rate = min(rate, self.mss * 1.2 / math.sqrt(lost) / rtt)
            rate = 1 / (1 / rate + lost / self.mss * (rtt + RETRANSMISSION))
        return rate

    @property
    def send_buffer(self) -> int:
        """Enough to keep the path busy, and no more, so that a transfer can end soon."""
        return max(8 * self.mss, min(int(self.rate * 2), 4 << 20))

    def __str__(self) -> str:
        window = f"{self.segments} segments" if self.segments else "usual window"
        words = [
            f"seed {self.seed}",
            f"IPv{self.version}",
            f"{self.opener} opens",
            f"{self.sender} sends",
            "offloads" if self.offload else "no offloads",
            self.path,
            f"RTT {self.rtt * 1000:g} ms",
            f"MTU {self.mtu}",
            window,
        ]
        return ", ".join(words + ["numbers wrap"] * self.wraps)
