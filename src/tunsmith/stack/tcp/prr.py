"""Proportional Rate Reduction, RFC 9937 (once RFC 6937 §3): how the window shrinks during a recovery.

Each ACK lets out its share: of every `flight` bytes that are delivered, `ssthresh` bytes are replaced, so that
the ACK clock keeps ticking and the flight is down to `ssthresh` after one round trip. Where losses have
taken more than that, what is delivered is replaced one for one, and a segment more while recovery advances.
"""

from __future__ import annotations


class ProportionalRateReduction:
    """One recovery that begins with `flight` bytes (RecoverFS). All quantities are bytes."""

    __slots__ = ("delivered", "flight", "sent")

    def __init__(self, flight: int) -> None:
        self.flight = max(flight, 1)
        self.delivered = 0
        self.sent = 0
        """To be increased by all that is sent in this recovery, new or again."""

    def window(self, delivered: int, pipe: int, ssthresh: int, mss: int, advances: bool) -> int:
        """cwnd after an ACK for `delivered` bytes. `advances`: it moved snd_una and brought no bad news."""
        self.delivered += delivered
        if pipe > ssthresh:
            allowed = -(-self.delivered * ssthresh // self.flight) - self.sent
        else:
            allowed = max(self.delivered - self.sent, delivered)
            if advances:
                allowed += mss
            allowed = min(ssthresh - pipe, allowed)
        if not self.sent:
            allowed = max(allowed, mss)  # the fast retransmission
        return pipe + max(allowed, 0)
