"""What the demo has found out so far: the screen shows it, `--json` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import Enum

from tunsmith.demo.client import Finished, Flow
from tunsmith.demo.internet import VAULT
from tunsmith.demo.scenes import Scene


class Stage(Enum):
    """How far a part of the demo is."""

    AHEAD = "ahead"
    NOW = "now"
    DONE = "done"


@dataclass(slots=True)
class Act:
    """A scene, and once it is done what came of it."""

    scene: Scene
    stage: Stage = Stage.AHEAD
    flow: Flow | None = None
    fault: str = ""
    """What was not as expected; empty where everything was."""

    def end(self, finished: Finished) -> None:
        """The program has ended."""
        self.stage = Stage.DONE
        self.flow = self.scene.flow_of(finished)
        self.fault = self.scene.fault_of(finished)

    @property
    def verdict(self) -> str:
        """How the flow ended; for a flow that never was, as the program was told."""
        if self.flow is not None:
            return self.flow.outcome
        return self.scene.outcome if not self.fault else "no flow"


@dataclass(slots=True)
class Transfer:
    """One download of the speed test."""

    label: str
    stage: Stage = Stage.AHEAD
    progress: float = 0.0
    """From 0 to 1."""
    rate: float = 0.0
    """Bits per second, until now or in all."""
    fault: str = ""


@dataclass(slots=True)
class Names:
    """Where names went while programs ran through the proxy."""

    stage: Stage = Stage.AHEAD
    proxy: list[str] = field(default_factory=list)
    """Those the proxy was asked to connect to, as names, in order."""
    leaked: list[str] = field(default_factory=list)
    """Those the DNS server of the network was asked for."""

    @property
    def fault(self) -> str:
        if self.stage is not Stage.DONE:
            return ""
        if self.leaked:
            return f"names that did not go to the proxy: {', '.join(self.leaked)}"
        return "" if VAULT in self.proxy else f"the proxy was not asked for {VAULT} as a name"


@dataclass(slots=True)
class Facts:
    """All of them."""

    acts: list[Act]
    names: Names = field(default_factory=Names)
    without: Transfer = field(default_factory=lambda: Transfer("without tunsmith"))
    behind: Transfer = field(default_factory=lambda: Transfer("through tunsmith"))
    capture: str = ""
    """Path of the capture file, once it is written."""
    capture_fault: str = ""

    @property
    def now(self) -> Act | None:
        """The act that is being played."""
        return next((act for act in self.acts if act.stage is Stage.NOW), None)

    @property
    def ratio(self) -> float | None:
        """The speed through tunsmith, as a part of that without it."""
        both = self.without.stage is Stage.DONE and self.behind.stage is Stage.DONE
        return self.behind.rate / self.without.rate if both and self.without.rate else None

    def faults(self) -> list[str]:
        """Whatever was not as expected, a line each."""
        return list(self._faults())

    def _faults(self) -> Iterator[str]:
        for act in self.acts:
            if act.fault:
                yield f"{act.scene.label} through {act.scene.via}: {act.fault}"
        for what, fault in (
            ("names", self.names.fault),
            (self.without.label, self.without.fault),
            (self.behind.label, self.behind.fault),
            ("capture", self.capture_fault),
        ):
            if fault:
                yield f"{what}: {fault}"

    def as_json(self) -> dict[str, object]:
        """For `json.dumps`. Sizes in bytes, times in seconds, rates in bits per second."""
        return {
            "flows": [_act_as_json(act) for act in self.acts],
            "names": {"proxy": self.names.proxy, "leaked": self.names.leaked},
            "speed": {
                "without": round(self.without.rate),
                "through": round(self.behind.rate),
                "ratio": round(self.ratio, 3) if self.ratio is not None else None,
            },
            "capture": self.capture,
            "faults": self.faults(),
        }


def _act_as_json(act: Act) -> dict[str, object]:
    flow = asdict(act.flow) if act.flow is not None else {}
    return {
        "program": act.scene.label,
        "command": list(act.scene.command),
        "via": act.scene.via,
        "protocol": act.scene.protocol,
        "name": act.scene.target,
        **flow,
        "verdict": act.verdict,
        "expected": act.scene.outcome,
        "fault": act.fault,
    }
