"""Linux with one connection, in real time: sockets, TCP_INFO and /proc/net/tcp. kernel_bench.py makes them."""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from tunsmith.device.base import FRAME_ROOM, Device
from tunsmith.testing.script.host import CallFailed
from tunsmith.testing.script.statements import OwnerLine
from tunsmith.testing.script.wire import Wire, text
from tunsmith.wire.ip import IPV4
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN

SLACK = 0.1
"""Seconds: a kernel's clock ticks, and this machine has other things to do."""
SWITCH = {"on": 1.0, "off": 0.0}
OPTIONS = {
    "nodelay": (socket.TCP_NODELAY, 1),
    "cork": (socket.TCP_CORK, 1),
    "mss": (socket.TCP_MAXSEG, 1),
    "user_timeout": (socket.TCP_USER_TIMEOUT, 1000),
    "fin_wait_2": (socket.TCP_LINGER2, 1),
}
"""Options of a connection, and how many of Linux's units one of ours is."""
STATES = {
    1: "ESTABLISHED",
    2: "SYN-SENT",
    3: "SYN-RECEIVED",
    4: "FIN-WAIT-1",
    5: "FIN-WAIT-2",
    6: "TIME-WAIT",
    7: "CLOSED",
    8: "CLOSE-WAIT",
    9: "LAST-ACK",
    11: "CLOSING",
    12: "SYN-RECEIVED",
}
"""include/net/tcp_states.h"""
_INFO = struct.Struct("=8B24I")
_INFO_NAMES = {
    "rto": 0,
    "mss": 2,
    "packets_out": 4,
    "sacked": 5,
    "srtt": 15,
    "rttvar": 16,
    "ssthresh": 17,
    "cwnd": 18,
    "retransmitted": 23,
}
UNLIMITED = 0x7FFFFFFF
UNKNOWN = ("told", "lost", "phase", "space", "drops.", "timer.")
"""What our stack tells and Linux does not, or in other words."""
_SIOCOUTQ = termios.TIOCOUTQ


class KernelHost:
    """Linux with one connection."""

    slack = SLACK

    def __init__(self, device: Device, wire: Wire, no_delay: bool) -> None:
        self.wire = wire
        self._device = device
        self._buffer = memoryview(bytearray(FRAME_ROOM))
        self._no_delay = no_delay
        self._listener: socket.socket | None = None
        self._socket: socket.socket | None = None
        self._seen = False
        """Whether there has been a connection."""
        self._read_at = self._sent_to = 1
        self._begin = time.monotonic()
        self._poller = select.poll()
        self._poller.register(self._device.fileno(), select.POLLIN)

    def now(self) -> float:
        return time.monotonic() - self._begin

    def inject(self, packet: bytes) -> None:
        self._device.write((PLAIN + packet,))
        self._accept()

    def packet(self, until: float) -> bytes | None:
        while True:
            try:
                length = self._device.read(self._buffer)
            except BlockingIOError:
                left = until - self.now()
                if left <= 0:
                    return None
                self._poller.poll(max(1, left * 1000))
                continue
            packet = bytes(self._buffer[VNET_HDR_LEN:length])
            if self._is_ours(packet):
                return packet

    def _is_ours(self, packet: bytes) -> bool:
        """Not what the kernel sends for other reasons, or for earlier scripts."""
        family, header = self.wire.family, self.wire.family.header_length
        if packet[0] >> 4 != family.version:
            return False
        protocol = packet[9 if family is IPV4 else 6]
        if protocol == family.icmp:
            return packet[header] in (1, 2, 3, 4, 11, 12)
        return protocol == 6 and int.from_bytes(packet[header : header + 2], "big") == self.wire.ports[1]

    def close(self) -> None:
        for sock in (self._socket, self._listener):
            if sock is not None:
                self._reset(sock)
        self.packet(self.now())

    # --- what the owner does ---

    def call(self, line: OwnerLine) -> None:
        if line.call not in CALLS:
            raise CallFailed(f"Linux has no call {line.call}")
        CALLS[line.call](self, line)

    def _new_socket(self) -> socket.socket:
        family = socket.AF_INET if self.wire.family is IPV4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(ip_address(self.wire.stack)), self.wire.ports[1]))
        return sock

    def _listen(self, line: OwnerLine) -> None:
        self._listener = self._new_socket()
        self._listener.listen(5)

    def _connect(self, line: OwnerLine) -> None:
        self._socket = self._new_socket()
        self._prepare(self._socket)
        code = self._socket.connect_ex((str(ip_address(self.wire.peer)), self.wire.ports[0]))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "connect")

    def _prepare(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, self._no_delay)

    def _accept(self) -> None:
        if self._socket is None and self._listener is not None:
            with suppress(OSError):
                self._socket = self._listener.accept()[0]
                self._prepare(self._socket)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)

    def _of(self) -> socket.socket:
        self._accept()
        if self._socket is None:
            raise CallFailed("there is no connection")
        return self._socket

    def _send(self, line: OwnerLine) -> None:
        number = line.number or 0
        flags = socket.MSG_MORE if "more" in line.arguments else 0
        taken = self._of().send(text(self._sent_to, number), flags)
        self._sent_to += taken
        if taken != (number if line.takes is None else line.takes):
            raise CallFailed(f"{taken} bytes were taken")

    def _read(self, line: OwnerLine) -> None:
        number = line.number or 0
        data = b""
        with suppress(BlockingIOError):
            data = self._of().recv(number or 1, socket.MSG_PEEK if line.call == "peek" else 0)
        if len(data) != number:
            raise CallFailed(f"{len(data)} bytes were there to read")
        if data != text(self._read_at, number):
            raise CallFailed("the text is not what the peer sent")
        if line.call == "read":
            self._read_at += number

    def _set(self, line: OwnerLine) -> None:
        """Socket options, socket(7) and tcp(7)."""
        sock = self._of()
        name, *words = line.arguments
        numbers = [float(SWITCH.get(word, word)) for word in words]
        if name == "keepalive":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, number in zip(
                (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), numbers, strict=True
            ):
                sock.setsockopt(socket.IPPROTO_TCP, option, int(number))
        elif name == "linger":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, int(numbers[0])))
        elif name in OPTIONS:
            option, scale = OPTIONS[name]
            sock.setsockopt(socket.IPPROTO_TCP, option, int(numbers[0] * scale))
        else:
            raise CallFailed(f"Linux has no option {name}")

    def _shutdown(self, line: OwnerLine) -> None:
        self._of().shutdown(socket.SHUT_WR)

    def _close(self, line: OwnerLine) -> None:
        self._of().close()

    def _abort(self, line: OwnerLine) -> None:
        self._reset(self._of())

    @staticmethod
    def _reset(sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    # --- what can be looked at ---

    def value(self, name: str) -> float | str | None:
        if name == "state":
            return self._state()
        if name.startswith(UNKNOWN):
            return None
        if name in _INFO_NAMES:
            return self._info(name)
        sock = self._of()
        if name == "error":
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return errno.errorcode[code] if code else "none"
        if name == "readable":
            return int(struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0])
        if name == "unacknowledged":
            return int(struct.unpack("i", fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)))[0])
        raise KeyError(name)

    def _info(self, name: str) -> float | str:
        """TCP_INFO, linux/tcp.h."""
        info = self._of().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        value = _INFO.unpack(info)[8 + _INFO_NAMES[name]]
        if name == "ssthresh" and value == UNLIMITED:
            return "none"
        return float(value / 1e6) if name in ("rto", "srtt", "rttvar") else float(value)

    def _state(self) -> str:
        ours, theirs = (f"{port:04X}" for port in (self.wire.ports[1], self.wire.ports[0]))
        table = Path("/proc/net/tcp" if self.wire.family is IPV4 else "/proc/net/tcp6")
        for row in table.read_text().splitlines()[1:]:
            _, local, remote, state, *_ = row.split()
            if local.endswith(":" + ours) and remote.endswith(":" + theirs):
                self._seen = True
                return STATES.get(int(state, 16), state)
        return "LISTEN" if self._listener is not None and not self._seen else "CLOSED"


CALLS: dict[str, Callable[[KernelHost, OwnerLine], None]] = {
    "listen": KernelHost._listen,
    "connect": KernelHost._connect,
    "send": KernelHost._send,
    "set": KernelHost._set,
    "read": KernelHost._read,
    "peek": KernelHost._read,
    "shutdown": KernelHost._shutdown,
    "close": KernelHost._close,
    "abort": KernelHost._abort,
}
