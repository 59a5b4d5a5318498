"""What the owner of a connection may ask of it at any time: who, in which state, what can be done now."""

from __future__ import annotations

from ipaddress import ip_address

from tunsmith.stack.tcp.arriving import Arriving
from tunsmith.stack.tcp.state import OPENING, State


class Readiness(Arriving):
    """The questions. Half a class: it is only ever a Connection."""

    __slots__ = ()

    @property
    def source(self) -> tuple[bytes, int]:
        """The peer's address and port."""
        address, port, _, _ = self.family.split(self.key)
        return address, port

    @property
    def destination(self) -> tuple[bytes, int]:
        """Our address and port: where the peer wanted to go."""
        _, _, address, port = self.family.split(self.key)
        return address, port

    @property
    def in_progress(self) -> bool:
        """Whether the handshake is still under way. Afterwards the connection is `connected`, or it has
        failed and `error` says why."""
        return self.state in OPENING

    @property
    def connected(self) -> bool:
        """Whether the handshake is complete and the connection not over."""
        return self.state not in OPENING and self.state is not State.CLOSED

    @property
    def readable(self) -> bool:
        """Whether `read` has something to give: text, the end, or an error."""
        return bool(self.receiver.ready) or self.at_end or self.state is State.CLOSED

    @property
    def writable(self) -> bool:
        """Whether `send` takes bytes once the handshake is complete, or has an error to tell."""
        return self.state is State.CLOSED or (
            self.state not in OPENING and (self.sender.fin_queued or self.sender.space > 0)
        )

    @property
    def peer_closed(self) -> bool:
        """Whether the peer will send no more; there may be text left to `read`."""
        return self.fin_seen

    @property
    def at_end(self) -> bool:
        """The peer has closed its half, or we have shut ours for reading, and everything was read."""
        return (self.fin_seen or (self.read_closed and not self.error)) and not self.receiver.ready

    @property
    def read_closed(self) -> bool:
        """Whether text that comes is thrown away: after `shutdown_read`, and once the connection is over."""
        return self.receiver.deliver is discard

    @property
    def can_send(self) -> bool:
        """Whether `send` is allowed: neither `shutdown` nor the end has come."""
        return not self.sender.fin_queued and self.state is not State.CLOSED

    @property
    def space(self) -> int:
        """Bytes `send` would take now."""
        return self.sender.space

    @property
    def readable_bytes(self) -> int:
        """Text in order that waits for `read`."""
        return self.receiver.ready_bytes

    @property
    def unacknowledged(self) -> int:
        """Bytes given to `send`, and a FIN, that the peer has not acknowledged."""
        return self.sender.unsent

    @property
    def unsent_bytes(self) -> int:
        """Bytes given to `send` that have not left yet, or are about to leave again after a timeout."""
        return self.sender.queued

    def __repr__(self) -> str:
        (here, port), (there, peer_port) = self.destination, self.source
        ends = f"{ip_address(here)} port {port} to {ip_address(there)} port {peer_port}"
        return f"<Connection {ends}, {self.state.value}>"


def discard(connection: Readiness, data: memoryview) -> int:
    """What becomes of text for a closed half: it was received, and that is all."""
    return len(data)
