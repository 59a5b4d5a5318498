"""Tail loss probes, RFC 8985 §7: a segment that brings news of those before it, which nothing else would.

On the quiet path the retransmission timer runs for the shorter probe timeout. When it expires, the exact time of
the probe is worked out (`due`), so that a connection whose ACKs come in time never has anything to do with it.
"""

from __future__ import annotations

PEERS_DELAYED_ACK = 0.2
"""How long a peer may keep the ACK of a single segment back (TLP.max_ack_delay)."""


class TailProbe:
    """The probe of one sender that is on its way, if one is."""

    __slots__ = ("_again", "end")

    def __init__(self) -> None:
        self.end: int | None = None
        """`snd_nxt` when the probe left that is not yet answered (TLP.end_seq)."""
        self._again = False

    @staticmethod
    def due(last_sent_at: float, timeout: float, flight: int, mss: int) -> float:
        """When to probe: `timeout` after the last transmission, and later if that was a single segment (§7.2)."""
        return last_sent_at + timeout + (PEERS_DELAYED_ACK if flight <= mss else 0.0)

    def left(self, end: int, again: bool) -> None:
        """A probe has left. `again`: it is the last segment again (TLP.is_retrans), not a new one."""
        self.end = end
        self._again = again

    def has_repaired(self, ack: int, d_sack: int | None, repeated: bool) -> bool:
        """An ACK has come; `d_sack` is the end of a D-SACK in it, `repeated` that it only repeats the last. Returns
        whether the probe has repaired a loss, of which nothing else will tell (§7.4.2)."""
        if self.end is None or ack < self.end:
            return False
        if not self._again or d_sack == self.end or repeated:
            self.end = None
        elif ack > self.end:
            self.end = None
            return True
        return False
