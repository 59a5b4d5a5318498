"""Upstream URLs, as curl and tun2socks write them, and the dialers they stand for."""

from __future__ import annotations

from tunsmith.dial.base import Dialer
from tunsmith.dial.block import BlockDialer
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.interface import Interface
from tunsmith.errors import UsageError


def make_dialer(text: str, interface: str | None = None) -> Dialer:
    """The dialer `text` stands for, its sockets pinned to `interface`. Raises UsageError."""
    link = Interface(interface) if interface else None
    if text == "direct":
        return DirectDialer(link)
    if text == "block":
        return BlockDialer()
    raise UsageError(f"--via {text}: unknown")
