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


def dial_failure(error: Exception, what: object) -> DialError:
    """`error` from a dialer asked for `what`. One that is no DialError is a fault of the dialer; the application is
    answered, and the user told, all the same."""
    return error if isinstance(error, DialError) else DialError(f"{what}: the upstream failed: {error!r}")


def words_for(error: IcmpError) -> str:
    """`error` in flow records."""
    if error is IcmpError.TIME_EXCEEDED:
        return "time exceeded"
    return f"{error.name.lower().replace('_', ' ')} unreachable"


def outcome_of(error: DialError) -> str:
    """One or two words for flow records."""
    name = type(error).__name__
    return name.removeprefix("Dial").lower() if name.startswith("Dial") else "proxy failed"
