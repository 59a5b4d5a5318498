"""What a program has written and its connection has no room for yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection


class Waiting:
    """Pieces of text in order, `bytes` of them in all. What bounds it is that the program is asked to pause."""

    __slots__ = ("_pieces", "bytes")

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self.bytes = 0

    def __bool__(self) -> bool:
        return self.bytes > 0

    def append(self, piece: memoryview) -> None:
        """One more; it is kept, not copied."""
        self._pieces.append(piece)
        self.bytes += len(piece)

    def send_on(self, connection: Connection, clock: Callable[[], float]) -> None:
        """Give `connection` what it takes now."""
        pieces = self._pieces
        while pieces:
            piece = pieces[0]
            taken = connection.send(piece, clock())
            self.bytes -= taken
            if taken < len(piece):
                pieces[0] = piece[taken:]
                return
            pieces.popleft()

    def clear(self) -> None:
        """It is not going to be sent."""
        self._pieces.clear()
        self.bytes = 0
