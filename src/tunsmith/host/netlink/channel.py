"""A netlink socket: requests that are acknowledged, dumps that are whole, errors in the kernel's own words.

A dump can be interrupted: the kernel walks its tables while others change them, and says so (NLM_F_DUMP_INTR).
Then it is asked again, a few times; on a router that never rests the last answer has to do.

With NETLINK_GET_STRICT_CHK (Linux 4.20) the kernel filters dumps by what the request says. Older ones send
everything, so whoever asks for a part looks at what comes as well.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from types import TracebackType

from tunsmith.host.netlink.attributes import attributes

REQUEST, ACK = 0x1, 0x4
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400
"""Flags of a request that makes something."""

HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence number, port."""

_ERROR, _DONE = 2, 3
_DUMP = 0x300
_CAPPED, _ACK_TLVS, _DUMP_INTERRUPTED = 0x100, 0x200, 0x10
_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT = 10, 11, 12
_MESSAGE = 1
_CODE = struct.Struct("=i")
_ROOM = 1 << 16
_DUMP_TRIES = 5

Wanted = Callable[[bytearray, int], bool]
"""Looks at a message from its body on, and says whether to keep it."""


class Netlink:
    """A netlink socket of the network namespace it was made in. Use as a context manager, or close it.

    Every method raises OSError with the kernel's errno, and with its explanation as the text where it gives one."""

    __slots__ = ("_buffer", "_sequence", "_socket")

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:  # an older kernel: less is explained, more is sent
                pass
        self._socket.bind((0, 0))
        self._buffer = bytearray(_ROOM)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Send a request and wait for its acknowledgement."""
        self._send(kind, flags | ACK, body)
        while True:
            for answer, _, _, _ in self._receive():
                if answer == _ERROR:
                    return

    def ask(self, kind: int, body: bytes) -> bytes:
        """Send a request for one thing; the body of the answer."""
        self._send(kind, 0, body)
        while True:
            for answer, _, start, end in self._receive():
                if answer not in (_ERROR, _DONE):
                    return bytes(self._buffer[start:end])

    def dump(self, kind: int, body: bytes, wanted: Wanted | None = None) -> list[bytes]:
        """The bodies of all messages that answer `kind`, those that are `wanted`. The kernel's "no such table" is
        an empty answer."""
        found: list[bytes] = []
        for _ in range(_DUMP_TRIES):
            try:
                found, is_whole = self._dump(kind, body, wanted)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return []
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            if is_whole:
                break
        return found

    def _dump(self, kind: int, body: bytes, wanted: Wanted | None) -> tuple[list[bytes], bool]:
        self._send(kind, _DUMP, body)
        found: list[bytes] = []
        all_flags = 0
        buffer, unpack, size_of_header = self._buffer, HEADER.unpack_from, HEADER.size
        while True:
            size = self._socket.recv_into(buffer)
            at = 0
            while at < size:
                length, answer, flags, sequence, _ = unpack(buffer, at)
                start, end = at + size_of_header, at + length
                at += length + 3 & ~3
                if sequence != self._sequence:
                    continue
                all_flags |= flags
                if answer <= _DONE:
                    if answer == _DONE:
                        self._check(flags, start, end)
                        return found, not all_flags & _DUMP_INTERRUPTED
                    if answer == _ERROR:
                        self._check(flags, start, end)
                elif wanted is None or wanted(buffer, start):
                    found.append(bytes(buffer[start:end]))

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = HEADER.pack(HEADER.size + len(body), kind, flags | REQUEST, self._sequence, 0)
        self._socket.send(header + body)

    def _receive(self) -> list[tuple[int, int, int, int]]:
        """The messages of the next datagram that answer the request: type, flags, start and end of the body.
        Raises OSError where one says so."""
        size = self._socket.recv_into(self._buffer)
        found = []
        at = 0
        while at < size:
            length, kind, flags, sequence, _ = HEADER.unpack_from(self._buffer, at)
            if sequence == self._sequence:
                start, end = at + HEADER.size, at + length
                if kind == _ERROR:
                    self._check(flags, start, end)
                found.append((kind, flags, start, end))
            at += length + 3 & ~3
        return found

    def _check(self, flags: int, start: int, end: int) -> None:
        """Raise what an error message, or the end of a dump, says."""
        if end - start < _CODE.size:
            return
        (code,) = _CODE.unpack_from(self._buffer, start)
        if code < 0:
            raise OSError(-code, self._explanation(flags, start, end) or os.strerror(-code))

    def _explanation(self, flags: int, start: int, end: int) -> str:
        """The kernel's own words: after the request that the error quotes, which is cut to its header."""
        if not flags & _ACK_TLVS:
            return ""
        quoted = start + _CODE.size
        length = HEADER.size if flags & _CAPPED else HEADER.unpack_from(self._buffer, quoted)[0]
        found = attributes(bytes(self._buffer[quoted + (length + 3 & ~3) : end]))
        return found.get(_MESSAGE, b"").rstrip(b"\0").decode("utf-8", "replace")
