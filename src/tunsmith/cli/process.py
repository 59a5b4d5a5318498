"""What `run` and `up` do to their own process before flows come: descriptors, and where a capture goes."""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING

from tunsmith.errors import HostError

if TYPE_CHECKING:
    from tunsmith.device.pcap import Capture

FEWEST_DESCRIPTORS = 64
"""Two dozen are ours, the rest is for flows."""


def check_descriptor_limit() -> None:
    """Raises HostError where there can be too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < FEWEST_DESCRIPTORS:
        raise HostError(
            f"{hard} file descriptors are too few (at least {FEWEST_DESCRIPTORS}); raise the hard limit "
            f"(`ulimit -Hn`)"
        )


def raise_descriptor_limit() -> None:
    """A flow costs us a descriptor. What was forked before keeps the limit it was given."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_capture(path: str | None) -> Capture | None:
    """What --capture asks for."""
    if path is None:
        return None
    from tunsmith.device.pcap import Capture

    return Capture(path, warn=warn)


def warn(line: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"tunsmith: {line}\n")
