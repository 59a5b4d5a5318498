"""How a failed dial looks to the application: the same RST or ICMP error it would have seen by itself."""

from __future__ import annotations

from tunsmith.errors import (
    DialError,
    DialProhibited,
    DialRefused,
    DialUnreachable,
    DialUnsupported,
    Reach,
)
from tunsmith.wire.icmp import IcmpError

_REACH = {
    Reach.NETWORK: IcmpError.NETWORK,
    Reach.HOST: IcmpError.HOST,
    Reach.EXPIRED: IcmpError.TIME_EXCEEDED,
}


def icmp_for(error: DialError) -> IcmpError | None:
    """The ICMP error for `error`; None means refused: RST for TCP, port unreachable for UDP."""
    if isinstance(error, DialRefused):
        return None
    if isinstance(error, DialUnreachable):
        return _REACH[error.reach]
    if isinstance(error, DialProhibited):
        return IcmpError.PROHIBITED
    if isinstance(error, DialUnsupported):
        return IcmpError.PROTOCOL
    return IcmpError.HOST


def outcome_of(error: DialError) -> str:
    """One or two words for flow records."""
    name = type(error).__name__
    return name.removeprefix("Dial").lower() if name.startswith("Dial") else "proxy failed"
