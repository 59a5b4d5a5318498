"""UDP through a SOCKS5 proxy: one association (RFC 1928 §7), any number of peers.

Every datagram carries a header with its peer. The UDP socket is connected to the proxy's relay
address, so the kernel drops what comes from elsewhere. The association lives as long as its TCP
connection; when that ends, the UDP socket is shut for reading, which makes it readable: one descriptor to
watch says both. A malformed datagram is dropped and counted, never an end.

Super-datagrams stay whole: UDP_SEGMENT cuts after each header and segment, and a coalesced receive is
freed of its headers in one pass where all its datagrams come from one peer, as nearly always.

A proxy may answer from an address what was sent to a name. The address is what `receive` gives then; which
name it belongs to is for the relay to say, who knows the flows.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections import Counter, deque

from tunsmith.dial.base import DatagramFault
from tunsmith.dial.udp import (
    CONTROL_SIZE,
    DATAGRAM_SIZE,
    ERRORS,
    MAX_SEGMENTS,
    NOT_SEGMENTABLE,
    PEERS,
    UDP_SEGMENT,
    Parts,
)
from tunsmith.errors import WireError
from tunsmith.flow import Target
from tunsmith.wire import socks5

_MAX_PAYLOAD = 65000
"""What one sendmsg may carry: 65535 less the headers of IP and UDP, rounded down."""

Batch = tuple[bytes, int, Target]


class SocksDatagrams:
    """A `Datagrams` over one UDP association."""

    __slots__ = (
        "_alive",
        "_batches",
        "_control",
        "_headers",
        "_last_header",
        "_last_target",
        "_loop",
        "_peers",
        "_sock",
        "dropped",
    )

    def __init__(self, sock: socket.socket, control: socket.socket) -> None:
        """Takes both `sock`, UDP and connected to the relay, and `control`, the TCP connection behind it."""
        self.dropped: Counter[str] = Counter()
        """Datagrams from the proxy that were no good, by cause."""
        self._sock = sock
        self._control = control
        self._alive = True
        self._headers: dict[Target, bytes] = {}
        self._peers: dict[bytes, Target] = {}
        self._batches: deque[Batch] = deque()
        self._last_target: Target | None = None
        self._last_header = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control.fileno(), self._hear_control)

    def fileno(self) -> int:
        """The descriptor to watch for reading."""
        return self._sock.fileno()

    def send(self, parts: Parts, segment_size: int, target: Target) -> None:
        """See `Datagrams.send`."""
        if target is not self._last_target:
            self._last_header = self._headers.get(target) or self._introduce(target)
            self._last_target = target
        if segment_size:
            self._send_segments(parts, segment_size, self._last_header)
        else:
            self._transmit([self._last_header, *parts], [])

    def receive(self) -> Batch:
        """See `Datagrams.receive`."""
        errors = 0
        while not self._batches:
            try:
                data, control, _, _ = self._sock.recvmsg(DATAGRAM_SIZE, CONTROL_SIZE)
            except BlockingIOError:
                if not self._alive:
                    raise EOFError("the proxy ended the UDP association") from None
                raise
            except OSError:
                errors += 1
                if errors > ERRORS:
                    raise
                continue  # an ICMP error from the proxy's machine; its TCP connection decides
            if data:
                self._open(data, int.from_bytes(control[0][2], sys.byteorder) if control else len(data))
            elif self._alive:
                self.dropped["short"] += 1
            else:
                raise EOFError("the proxy ended the UDP association")
        return self._batches.popleft()

    def faults(self) -> tuple[DatagramFault, ...]:
        """None: SOCKS5 has no word for a datagram that did not arrive."""
        return ()

    def close(self) -> None:
        """End the association; idempotent."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._sock.close()

    def _hear_control(self) -> None:
        try:
            if self._control.recv(4096):
                return  # the protocol has nothing to say here; never mind
        except BlockingIOError:
            return
        except OSError:
            pass  # reset: as dead as closed
        self._alive = False
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        try:
            self._sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # ENOTCONN: a pending ICMP error disconnected nothing that matters

    def _transmit(self, buffers: list[bytes | memoryview], control: list[tuple[int, int, bytes]]) -> None:
        try:
            self._sock.sendmsg(buffers, control)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise
            self._sock.sendmsg(buffers, control)  # that was about an earlier datagram, and is cleared now

    def _send_segments(self, parts: Parts, size: int, header: bytes) -> None:
        data = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
        gross = len(header) + size
        step = size * max(1, min(MAX_SEGMENTS, _MAX_PAYLOAD // gross))
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", gross))]
        for start in range(0, len(data), step):
            batch = data[start : start + step]
            segments = [batch[at : at + size] for at in range(0, len(batch), size)]
            buffers = [buffer for segment in segments for buffer in (header, segment)]
            try:
                self._transmit(buffers, control)
            except BlockingIOError:
                raise
            except OSError as error:
                if error.errno not in NOT_SEGMENTABLE:
                    raise
                for segment in segments:
                    self._transmit([header, segment], [])

    def _introduce(self, target: Target) -> bytes:
        """The header for a peer not sent to before."""
        try:
            header = socks5.datagram_header(target.host, target.port)
        except WireError as error:
            raise OSError(errno.EHOSTUNREACH, f"{target}: {error}") from None
        if len(self._headers) >= PEERS:
            self._headers.clear()
        self._headers[target] = header
        self._remember(header, target)
        return header

    def _open(self, data: bytes, size: int) -> None:
        """Take the headers off `data`, datagrams of `size` bytes, and queue what is inside, peer by peer."""
        start = 0
        while start < len(data):
            try:
                header, peer = self._header(data[start : start + size])
            except WireError as error:
                self.dropped[error.reason] += 1
                start += size
                continue
            skip = len(header)
            run = [data[start + skip : start + size]]
            start += size
            while data.startswith(header, start):
                run.append(data[start + skip : start + size])
                start += size
            self._batches.append((b"".join(run), size - skip if len(run) > 1 else 0, peer))

    def _header(self, datagram: bytes) -> tuple[bytes, Target]:
        header = datagram[: socks5.datagram_header_size(datagram)]
        return header, self._peers.get(header) or self._meet(header)

    def _meet(self, header: bytes) -> Target:
        """The peer behind a header not seen before."""
        peer = Target(*socks5.parse_datagram_header(header))
        self._remember(header, peer)
        return peer

    def _remember(self, header: bytes, peer: Target) -> None:
        if len(self._peers) >= PEERS:
            del self._peers[next(iter(self._peers))]
        self._peers[header] = peer
