"""Sequence numbers as plain integers.

The wire carries 32 bits; inside, positions in the stream only grow. `widen` is the one place where
the two meet, so that everywhere else `snd_una < snd_nxt` is `<` and no comparison can wrap.
"""

from __future__ import annotations


def widen(seq32: int, near: int) -> int:
    """The full stream position nearest to `near` whose low 32 bits are `seq32`. RFC 9293 §3.4. Never raises."""
    return near + ((seq32 - near + 0x80000000) & 0xFFFFFFFF) - 0x80000000
