"""What a script runs on: a TCP that can be sent packets, asked what it sent, called, and looked at."""

from __future__ import annotations

from typing import Protocol

from tunsmith.testing.script.statements import OwnerLine
from tunsmith.testing.script.wire import Wire


class CallFailed(Exception):
    """A call did not do what its line says; says what it did."""


class Host(Protocol):
    """A TCP on the bench, with one connection to the peer. Times are seconds since the script began."""

    wire: Wire
    slack: float
    """How much earlier or later than a script says something may come."""

    def now(self) -> float:
        """The time."""

    def inject(self, packet: bytes) -> None:
        """A packet of the peer arrives."""

    def packet(self, until: float) -> bytes | None:
        """The next packet that leaves, as soon as it does; None when nothing has left by `until`, which
        it then is."""

    def call(self, line: OwnerLine) -> None:
        """Do what the owner does. Raises CallFailed; OSError with the errno of a call that fails."""

    def value(self, name: str) -> float | str | None:
        """What `check` calls by that name; None for what this host cannot tell, which is not checked then.
        Raises KeyError for a name that there is not, CallFailed without a connection to look at."""

    def close(self) -> None:
        """Leave nothing behind."""
