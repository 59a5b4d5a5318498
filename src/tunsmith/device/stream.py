"""Packets over a byte stream: a pipe, a TCP connection, the socket of a virtual machine.

Each is preceded by its length in four bytes, big endian, as QEMU (`-netdev stream`) and passt have it. Streams
come in pieces: what was read of the next packets waits here, and the descriptor that is watched speaks for it,
too. A packet that was begun must be ended, or the other end loses count: what the stream does not take at once
waits in a bounded backlog, and goes out with the next `write`, or with the `read` that the descriptor asks for
when there is room again.
"""

from __future__ import annotations

import errno
import os
import select
from struct import Struct

from tunsmith.device.base import ALL_OFFLOADS, FRAME_ROOM, Buffer, described
from tunsmith.device.packets import bare
from tunsmith.wire.packet_info import NONE, PacketInfo
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN

BACKLOG_BYTES = 1 << 20
"""What may wait for a stream that is slow; further packets are lost."""
_LENGTH = Struct(">I")
_ROOM = 4 * FRAME_ROOM


class StreamDevice:
    """Packets over `reader` and `writer`, non-blocking descriptors that it owns; without `writer`, `reader` is a
    socket that is both. With `vnet_header` whole frames are carried, super-segments included, to another
    end of this kind."""

    def __init__(
        self,
        reader: int,
        writer: int | None = None,
        mtu: int = 1500,
        *,
        packet_info: PacketInfo = NONE,
        vnet_header: bool = False,
        ethernet: bool = False,
    ) -> None:
        self.offload = ALL_OFFLOADS if vnet_header else 0
        self.mtu = mtu
        self.ethernet = ethernet
        self.lost = 0
        self._info = None if vnet_header else packet_info
        self._reader = reader
        self._writer = os.dup(reader) if writer is None else writer
        self._text = bytearray(_ROOM)
        self._start = self._end = 0
        self._backlog = bytearray()
        self._more = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._said_more = False
        self._epoll = select.epoll()
        self._epoll.register(reader, select.EPOLLIN)
        self._epoll.register(self._more, select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno() if self._reader >= 0 else -1

    def read(self, buffer: memoryview) -> int:
        if self._reader < 0:
            raise OSError("the device is closed")
        if self._backlog:
            self._flush()
        while not self._whole():
            self._fill()
        start = self._start + _LENGTH.size
        self._start = start + self._length()
        skip = VNET_HDR_LEN if self._info is None else len(self._info)
        packet = memoryview(self._text)[start + skip : self._start]
        buffer[:VNET_HDR_LEN] = PLAIN if self._info is not None else self._text[start : start + skip]
        buffer[VNET_HDR_LEN : VNET_HDR_LEN + len(packet)] = packet
        self._say_more(self._whole())
        return VNET_HDR_LEN + len(packet)

    def write(self, parts: tuple[Buffer, ...]) -> None:
        if self._info is not None:
            parts = bare(parts, self._info)
        head = _LENGTH.pack(sum(map(len, parts)))
        if self._backlog:
            self._flush()
        if len(self._backlog) > BACKLOG_BYTES:
            self.lost += 1
            return
        sent = 0
        if not self._backlog:
            try:
                sent = os.writev(self._writer, (head, *parts))
            except BlockingIOError:
                pass
            except OSError:
                self.lost += 1
                return
        rest = b"".join((head, *parts))[sent:]
        if rest:
            self._wait_for_room(rest)

    def close(self) -> None:
        if self._reader >= 0:
            self._epoll.close()
            for fd in (self._more, self._reader, self._writer):
                os.close(fd)
            self._reader = self._writer = -1

    def __repr__(self) -> str:
        return f"<StreamDevice{described(self)}>"

    # --- reading ---

    def _length(self) -> int:
        length: int = _LENGTH.unpack_from(self._text, self._start)[0]
        return length

    def _whole(self) -> bool:
        """Whether a whole packet is here. Raises OSError for a length that no packet has: the count is lost."""
        available = self._end - self._start - _LENGTH.size
        if available < 0:
            return False
        least = VNET_HDR_LEN if self._info is None else len(self._info)
        if not least <= self._length() <= FRAME_ROOM - VNET_HDR_LEN:
            raise OSError(errno.EBADMSG, "the stream carries no packets")
        return available >= self._length()

    def _fill(self) -> None:
        """Read on. Raises BlockingIOError when there is nothing now, OSError when nothing will come."""
        if self._start:
            self._text[: self._end - self._start] = self._text[self._start : self._end]
            self._start, self._end = 0, self._end - self._start
        count = os.readv(self._reader, (memoryview(self._text)[self._end :],))
        if not count:
            raise OSError("the other end is gone")
        self._end += count

    def _say_more(self, more: bool) -> None:
        """Have the descriptor say that a packet is here already."""
        if more != self._said_more:
            self._said_more = more
            if more:
                os.eventfd_write(self._more, 1)
            else:
                os.eventfd_read(self._more)

    # --- writing ---

    def _wait_for_room(self, rest: bytes) -> None:
        if not self._backlog:
            self._epoll.register(self._writer, select.EPOLLOUT)
        self._backlog += rest

    def _flush(self) -> None:
        try:
            del self._backlog[: os.write(self._writer, self._backlog)]
        except BlockingIOError:
            return
        except OSError:  # `read` tells
            self._backlog.clear()
        if not self._backlog:
            self._epoll.unregister(self._writer)
