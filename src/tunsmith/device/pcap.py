"""Captures: every frame of a device, written as pcapng for tcpdump and Wireshark.

Directions are those of the interface inside: packets of the application are *outbound*, answers are
*inbound*. Super-segments are written as they are, as a capture on the TUN itself would show them;
checksums that were left to a network card are completed in the copy, because a screen full of "bad
checksum" hides the one that matters.

A capture never stands in the way of traffic. Blocks are gathered and written 64 KiB at a time. A pipe is
written without waiting: when its reader is slow, packets are left out and counted. When writing fails
(disk full, reader gone), one line says so and the capture ends; a regular file is then cut back to whole
blocks, so that it can be read.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable

from tunsmith import __version__
from tunsmith.device.base import Buffer, Device
from tunsmith.errors import UsageError, WireError
from tunsmith.wire import pcapng
from tunsmith.wire.offload import complete_checksum
from tunsmith.wire.vnet import NEEDS_CSUM, VNET_HDR_LEN

FLUSH_BYTES = 64 << 10
BACKLOG_BYTES = 4 << 20
"""How far the reader of a pipe may lag behind before packets are left out."""
CLOSE_SECONDS = 0.5
"""How long `close` waits for the reader of a pipe."""
STDOUT = "-"


class Capture:
    """A pcapng file, FIFO or standard output ("-") being written.

    Opened, and begun, at once: raises UsageError, one line, if it cannot be. Opening a FIFO waits for its
    reader. `warn` gets one line if the capture has to end early. `snaplen` cuts packets (0: whole).
    `ethernet` says that frames have an Ethernet header.
    Files are readable by their owner only, for they hold what the application said."""

    __slots__ = ("_dropped", "_fd", "_name", "_pending", "_received", "_snaplen", "_warn", "_whole")

    def __init__(
        self,
        path: str,
        *,
        warn: Callable[[str], None],
        interface: str = "tun0",
        snaplen: int = 0,
        ethernet: bool = False,
    ) -> None:
        if not path:
            raise UsageError("cannot write the capture: the name of the file is empty")
        self._name = "standard output" if path == STDOUT else path
        self._warn = warn
        self._snaplen = snaplen or sys.maxsize
        self._received = 0
        self._dropped = 0
        self._pending = bytearray()
        self._pending += pcapng.section_header(f"tunsmith {__version__}")
        link_type = pcapng.LINKTYPE_ETHERNET if ethernet else pcapng.LINKTYPE_RAW
        self._pending += pcapng.interface(interface, snaplen, link_type)
        self._fd = -1
        try:
            if path == STDOUT and not os.get_inheritable(1):  # a stand-in for a closed one, see cli
                warn(f"the capture goes nowhere: {self._name} is closed")
                return
            self._fd = _open(path)
            ours = path != STDOUT and stat.S_ISREG(os.fstat(self._fd).st_mode)
            self._whole = 0 if ours else -1
            self._write()
        except OSError as error:
            if self._fd >= 0:
                os.close(self._fd)
            raise UsageError(f"cannot write the capture to {self._name}: {error.strerror}") from error

    @property
    def active(self) -> bool:
        """Whether packets are still written."""
        return self._fd >= 0

    @property
    def dropped(self) -> int:
        """Packets left out because the reader of a pipe was too slow."""
        return self._dropped

    def packet(self, parts: tuple[Buffer, ...], *, outbound: bool, now_ns: int, comment: str = "") -> None:
        """Add one frame, given in pieces (the virtio header is at the start of the first). `now_ns`
        counts from the epoch. Buffers are copied. Never raises OSError."""
        if self._fd < 0:
            return
        self._received += 1
        if len(self._pending) >= BACKLOG_BYTES:
            self._dropped += 1
        else:
            packet = memoryview(_finished(b"".join(parts)))[VNET_HDR_LEN:]
            captured = packet[: self._snaplen]
            self._pending += pcapng.packet(captured, len(packet), now_ns, outbound=outbound, comment=comment)
        if len(self._pending) >= FLUSH_BYTES:
            self.flush()

    def name(self, address: bytes, name: str) -> None:
        """Add that `address` (packed) is called `name`; readers show it from then on."""
        if self._fd >= 0 and len(self._pending) < BACKLOG_BYTES:
            self._pending += pcapng.name_resolution(address, name)

    def flush(self) -> None:
        """Write what was gathered; to be called every 200 ms or so. Never raises OSError."""
        if self._fd < 0 or not self._pending:
            return
        try:
            self._write()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Write the rest and the statistics, and close the file. Idempotent."""
        if self._fd < 0:
            return
        self._pending += pcapng.interface_statistics(time.time_ns(), self._received, self._dropped)
        self.flush()
        patience = time.monotonic() + CLOSE_SECONDS
        while self._fd >= 0 and self._pending and _writable(self._fd, patience - time.monotonic()):
            self.flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self) -> None:
        """Write all of the pending blocks; to a pipe, as much as it takes."""
        while self._pending:
            try:
                written = os.write(self._fd, self._pending)
            except BlockingIOError:
                return
            del self._pending[:written]
        if self._whole >= 0:
            self._whole = os.lseek(self._fd, 0, os.SEEK_CUR)

    def _give_up(self, error: OSError) -> None:
        try:
            if self._whole >= 0:
                os.ftruncate(self._fd, self._whole)
            os.close(self._fd)
        except OSError:
            pass  # the first error is the one to tell
        self._fd = -1
        self._pending.clear()
        self._warn(f"the capture to {self._name} ends early: {error.strerror}")


class PcapDevice:
    """A device whose frames are captured on their way. Owns `inner` and `capture`. `clock` gives
    nanoseconds since the epoch. Frames that `inner` loses are captured with the comment "lost"."""

    __slots__ = ("_capture", "_clock", "_inner", "ethernet", "lost", "mtu", "offload")

    def __init__(self, inner: Device, capture: Capture, clock: Callable[[], int] = time.time_ns) -> None:
        self._inner = inner
        self._capture = capture
        self._clock = clock
        self.offload = inner.offload
        self.mtu = inner.mtu
        self.ethernet = inner.ethernet
        self.lost = inner.lost

    def fileno(self) -> int:
        return self._inner.fileno()

    def read(self, buffer: memoryview) -> int:
        length = self._inner.read(buffer)
        self._capture.packet((buffer[:length],), outbound=True, now_ns=self._clock())
        return length

    def write(self, parts: tuple[Buffer, ...]) -> None:
        self._inner.write(parts)
        comment = "" if self._inner.lost == self.lost else "lost"
        self.lost = self._inner.lost
        self._capture.packet(parts, outbound=False, now_ns=self._clock(), comment=comment)

    def close(self) -> None:
        self._inner.close()
        self._capture.close()


def _open(path: str) -> int:
    """A descriptor to write the capture to; that of a pipe does not block."""
    if path != STDOUT:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY, 0o600)
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.set_blocking(fd, False)
        return fd
    if os.isatty(1):
        raise OSError(0, "a terminal cannot show it; redirect it to a file or a program")
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        try:  # a file description of our own, or the application's standard output would not block either
            return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            pass  # somebody else's pipe
    return os.dup(1)


def _writable(fd: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return seconds > 0 and bool(poller.poll(seconds * 1000))


def _finished(frame: bytes) -> bytes:
    """`frame` with its checksum completed, if that was left to somebody and can be done."""
    if not frame[0] & NEEDS_CSUM:
        return frame
    try:
        return complete_checksum(frame)
    except WireError:
        return frame
