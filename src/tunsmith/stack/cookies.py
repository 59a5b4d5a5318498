"""SYN cookies, RFC 4987 §3.6: the state of a half-open connection, kept by the peer.

The initial sequence number of a SYN-ACK carries the peer's MSS, as one of eight, in its low three bits; the
others are a keyed hash of everything that matters and of the time in periods. The ACK that comes back proves that
its sender got the SYN-ACK, and tells what is needed for a connection. What else a SYN says (window scale, SACK, ECN)
fits into the low bits of our timestamp, which the peer echoes, if it sends timestamps; without them it is lost.
"""

from __future__ import annotations

from hashlib import blake2b

from tunsmith.wire.tcp import TcpOptions

SIZES = (216, 536, 1024, 1220, 1360, 1440, 1460, 8960)
"""What an MSS is rounded down to."""
PERIOD = 64.0
LIFETIME = 2 * PERIOD
"""Seconds after which no cookie is good any more; the least is half of that."""
STAMP_BITS = 6
NO_SCALE = 15
_SACK = 16
_ECN = 32


class Cookies:
    """Made and checked with a secret. `isn` is the peer's initial sequence number."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, key: bytes, isn: int, mss: int, now: float) -> int:
        """The initial sequence number that answers a SYN."""
        size = max((index for index, size in enumerate(SIZES) if size <= mss), default=0)
        return self._hash(key, isn, size, int(now / PERIOD)) << 3 | size

    def check(self, key: bytes, isn: int, cookie: int, now: float) -> int | None:
        """The MSS that `cookie` stands for, or None if it is none of ours or too old."""
        size, period = cookie & 7, int(now / PERIOD)
        for made_in in (period, period - 1):
            if self._hash(key, isn, size, made_in) == cookie >> 3:
                return SIZES[size]
        return None

    def _hash(self, key: bytes, isn: int, size: int, period: int) -> int:
        message = b"".join(
            (key, isn.to_bytes(4, "big"), bytes((size,)), period.to_bytes(8, "big", signed=True))
        )
        digest = blake2b(message, key=self._secret, digest_size=4, person=b"cookie").digest()
        return int.from_bytes(digest, "big") >> 3


def stamp_of(options: TcpOptions, clock: int) -> int:
    """The timestamp nearest to `clock`, and not after it, that carries the rest of a SYN's options."""
    scale = NO_SCALE if options.window_scale is None else options.window_scale
    bits = scale | (_SACK if options.sack_permitted else 0) | (_ECN if options.ecn else 0)
    stamp = clock >> STAMP_BITS << STAMP_BITS | bits
    return stamp if stamp <= clock else stamp - (1 << STAMP_BITS)


def options_of(mss: int, tsval: int | None, tsecr: int) -> TcpOptions:
    """The options of a SYN out of what came back with the ACK; `tsval` is None without timestamps."""
    if tsval is None:
        return TcpOptions(mss=mss)
    scale = tsecr & NO_SCALE
    return TcpOptions(
        mss=mss,
        window_scale=None if scale == NO_SCALE else scale,
        sack_permitted=bool(tsecr & _SACK),
        timestamp=(tsval, tsecr),
        ecn=bool(tsecr & _ECN),
    )
