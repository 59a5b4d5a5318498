"""DNS over a byte stream, RFC 7766 §8: each message behind its length in two octets."""

from __future__ import annotations


def frame(message: bytes) -> bytes:
    """`message` as it goes into a stream. At most 65535 octets."""
    return len(message).to_bytes(2, "big") + message


class Deframer:
    """Cuts a byte stream into messages, however the bytes arrive.

    Keeps at most one unfinished message, hence at most 64 KiB. Empty messages are skipped."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """The messages that `data`, the next bytes of the stream, completes. `data` is not kept."""
        pending = self._pending
        pending += data
        messages = []
        start = 0
        while len(pending) - start >= 2:
            end = start + 2 + (pending[start] << 8 | pending[start + 1])
            if end > len(pending):
                break
            if end > start + 2:
                messages.append(bytes(pending[start + 2 : end]))
            start = end
        del pending[:start]
        return messages

    @property
    def unfinished(self) -> bool:
        """Whether the stream would end amid a message if it ended now."""
        return bool(self._pending)
