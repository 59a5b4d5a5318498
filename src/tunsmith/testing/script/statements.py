"""What a packet script says, line by line: the values that the parser makes and the runner carries out."""

from __future__ import annotations

from dataclasses import dataclass, field

from tunsmith.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG

FLAGS = {
    "SYN": SYN,
    "FIN": FIN,
    "RST": RST,
    "ACK": ACK,
    "PSH": PSH,
    "URG": URG,
    "ECE": ECE,
    "CWR": CWR,
}
"""Names of RFC 9293 §3.1, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float

    def __contains__(self, number: float) -> bool:
        return self.low - 1e-9 <= number <= self.high + 1e-9

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}..{self.high:g}"


@dataclass(frozen=True, slots=True)
class When:
    """When a line happens: seconds after the line before, or after the beginning (`absolute`)."""

    seconds: Range
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class SegmentLine:
    """A TCP segment, to be sent by the peer or expected from the stack.

    Numbers are relative: the SYN of either side is 0, the first byte of its text 1. Of an expected
    segment, None stands for "whatever it is"; names in `absent` are options that it must not have."""

    flags: int
    seq: int
    length: int = 0
    count: int = 1
    """So many segments, one behind the other."""
    ack: int | None = None
    window: Range | None = None
    urgent: int | None = None
    mss: int | None = None
    """0: the largest that the link carries."""
    scale: int | None = None
    sack_permitted: bool = False
    stamp: tuple[int | None, int | None] | None = None
    """Value and echo; those of the stack relative to its first. None: any."""
    sack: tuple[tuple[int, int], ...] = ()
    raw: bytes | None = None
    """The option field, literally."""
    port: int | None = None
    """The peer's port, where it is not the usual one."""
    ecn: int | None = None
    """Codepoint in the IP header, RFC 3168 §5."""
    other: bool = False
    """Text that differs from the usual at every byte."""
    damaged: bool = False
    """Sent with a wrong checksum."""
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class IcmpLine:
    """An ICMP error; `seq` is that of the quoted segment, for those that the peer sends. The MTU that it tells
    is `mtu`, or what carries segments of `mss`."""

    error: str
    seq: int | None = None
    mtu: int = 0
    mss: int = 0


@dataclass(frozen=True, slots=True)
class OwnerLine:
    """A call of the stack's owner. `fails`: name of the errno that it must fail with."""

    call: str
    arguments: tuple[str, ...] = ()
    number: int | None = None
    takes: int | None = None
    fails: str | None = None


@dataclass(frozen=True, slots=True)
class CheckLine:
    """Names and the values that they must have now: a Range, or words."""

    values: tuple[tuple[str, Range | str], ...]


@dataclass(frozen=True, slots=True)
class QuietLine:
    """Nothing is sent for so many seconds."""

    seconds: float


Action = SegmentLine | IcmpLine | OwnerLine | CheckLine | QuietLine


@dataclass(frozen=True, slots=True)
class Statement:
    """One line: who does what, and when. `by` is `peer`, `stack` or `owner`, empty for the rest."""

    file: str
    line: int
    text: str
    by: str
    action: Action
    when: When | None = None

    @property
    def place(self) -> str:
        """File and line, for whoever has to look."""
        return f"{self.file}:{self.line}"


@dataclass(slots=True)
class Script:
    """A parsed script. `clauses` are the rules that its heading names, `RFC 5961 §3.2`, with the claims."""

    file: str
    clauses: list[tuple[str, str]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    kernel: bool = False
    """Whether it holds on Linux, too."""
    statements: list[Statement] = field(default_factory=list)
