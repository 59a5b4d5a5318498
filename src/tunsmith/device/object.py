"""The object link: packets that are handed over by calls, wherever they come from.

For what has no descriptor that moves one packet at a time: a WebSocket, a QUIC datagram extension, a queue of
another thread, a test.

    device = ObjectDevice(websocket.send_soon)       what is written to the device goes there
    device.deliver(message)                          and this is how it comes to be read

`deliver` may be called from any thread; `send` is called by whoever writes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from tunsmith.device.base import ALL_OFFLOADS, FRAME_ROOM, Buffer, described
from tunsmith.device.packets import bare
from tunsmith.wire.packet_info import NONE, PacketInfo
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN

LIMIT = 1024
"""Packets that wait to be read."""


class ObjectDevice:
    """Packets from `deliver` and to `send`, each one bytes object with `packet_info` in front.

    `send` does not block; what it cannot take it refuses with an OSError, or forgets. With `vnet_header` whole
    frames are exchanged, super-segments included. At most `limit` packets wait to be read; `dropped` counts the
    others."""

    def __init__(
        self,
        send: Callable[[bytes], object],
        mtu: int = 1500,
        *,
        limit: int = LIMIT,
        packet_info: PacketInfo = NONE,
        vnet_header: bool = False,
        ethernet: bool = False,
    ) -> None:
        self.offload = ALL_OFFLOADS if vnet_header else 0
        self.mtu = mtu
        self.ethernet = ethernet
        self.lost = 0
        self.dropped = 0
        self._send = send
        self._info = None if vnet_header else packet_info
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def deliver(self, packet: Buffer) -> bool:
        """Have `packet` read; it is copied. False: it was dropped, since too many wait, it is
        longer than any frame, or the device is closed."""
        if self._event < 0 or len(self._waiting) >= self._limit or len(packet) > FRAME_ROOM - VNET_HDR_LEN:
            self.dropped += 1
            return False
        self._waiting.append(bytes(packet))
        os.eventfd_write(self._event, 1)
        return True

    def end(self) -> None:
        """Nothing more will be delivered: once all has been read, `read` says that the device has gone."""
        self._ended = True
        if self._event >= 0:
            os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        return self._event

    def read(self, buffer: memoryview) -> int:
        if self._event < 0:
            raise OSError("the device is closed")
        try:
            packet = self._waiting.popleft()
        except IndexError:
            self._quieten()
            if self._ended:
                raise OSError("the other end is gone") from None
            raise BlockingIOError from None
        if not self._waiting:
            self._quieten()
        if self._info is None:
            buffer[: len(packet)] = packet
            return len(packet)
        length = VNET_HDR_LEN + max(0, len(packet) - len(self._info))
        buffer[:VNET_HDR_LEN] = PLAIN
        buffer[VNET_HDR_LEN:length] = packet[len(self._info) :]
        return length

    def write(self, parts: tuple[Buffer, ...]) -> None:
        if self._event < 0 or self._ended:
            self.lost += 1
            return
        try:
            self._send(b"".join(parts if self._info is None else bare(parts, self._info)))
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Idempotent; no other thread may deliver any longer."""
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

    def __repr__(self) -> str:
        return f"<ObjectDevice to {self._send!r}{described(self)}>"

    def _quieten(self) -> None:
        """Nothing is waiting. Another thread may deliver meanwhile: then its word counts."""
        if self._ended:
            return
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            pass
        if self._waiting:
            os.eventfd_write(self._event, 1)
