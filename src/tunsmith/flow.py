"""The words every layer shares: where a flow goes, and what was decided about it.

Addresses are packed bytes (4 or 16) below the dialers and text at and above them, because the
wire and the demultiplexer want bytes while sockets, proxies and people want text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

TCP = 6
UDP = 17
ICMP = 1
ICMPV6 = 58


class Target(NamedTuple):
    """Where an upstream is asked to go: `host` is an IP literal or a DNS name, `port` 0-65535."""

    host: str
    port: int

    @property
    def is_name(self) -> bool:
        """Whether `host` is a name, which only the upstream may resolve."""
        return ":" not in self.host and not self.host.replace(".", "").isdigit()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Action(Enum):
    """What happens to a flow."""

    DIAL = "dial"
    """Hand it to the upstream."""
    RESOLVE = "resolve"
    """Answer it as DNS."""
    REFUSE = "refuse"
    """RST or ICMP port unreachable, at once."""
    DROP = "drop"
    """Silence: multicast, broadcast and martians."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and the rule that made it, for logs, captures and `explain`."""

    action: Action
    rule: str
