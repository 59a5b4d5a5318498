"""A connection that is going to be sent text: for tests of what it takes, tells and acknowledges."""

from __future__ import annotations

from typing import Any

from tests.stack.tcp.peer import Peer, peer
from tunsmith.wire.tcp import TcpOptions

MSS = 1460


def established(**settings: Any) -> Peer:
    other = peer(**settings)
    options = TcpOptions(
        mss=MSS,
        sack_permitted=bool(settings.get("sack")),
        window_scale=settings.pop("peer_scale", 7) if settings.get("window_scaling") else None,
    )
    other.establish(options=options)
    return other
