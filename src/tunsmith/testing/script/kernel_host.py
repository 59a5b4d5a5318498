"""Packet scripts on Linux, as the oracle: its TCP behind a TUN, in real time.

    with KernelBench() as bench:
        bench.run(script, IPV4)

Wants root in a network namespace of its own: it sets addresses, routes and the switches of TCP. Each script
gets a peer and a port of its own, so that what the kernel remembers of an earlier one does not matter.
"""

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
from types import TracebackType

from tunsmith.device.base import FRAME_ROOM
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import open_tun
from tunsmith.testing.script.host import CallFailed
from tunsmith.testing.script.parser import ScriptError
from tunsmith.testing.script.runner import Runner
from tunsmith.testing.script.statements import OwnerLine, Script
from tunsmith.testing.script.wire import ADDRESSES, Wire, text
from tunsmith.wire.ip import IPV4, IPV6, IpFamily
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN

MTU = 1500
PEER_ISN = 1000
SLACK = 0.1
"""Seconds: a kernel's clock ticks, and this machine has other things to do."""
PEERS = {4: bytes((198, 18, 0, 0)), 6: bytes.fromhex("20010db80001") + bytes(10)}
"""Where the peers are; the last two bytes are theirs."""
SETTINGS = {
    "sack": "tcp_sack",
    "timestamps": "tcp_timestamps",
    "window_scaling": "tcp_window_scaling",
    "retries": "tcp_retries2",
    "syn_retries": "tcp_syn_retries",
    "synack_retries": "tcp_synack_retries",
    "congestion": "tcp_congestion_control",
    "rack": "tcp_recovery",
    "tlp": "tcp_early_retrans",
    "dsack": "tcp_dsack",
    "restart_after_idle": "tcp_slow_start_after_idle",
}
"""Settings of ours and the switch that is the same."""
SWITCHES = {
    "tcp_sack": "off",
    "tcp_timestamps": "off",
    "tcp_window_scaling": "off",
    "tcp_retries2": "15",
    "tcp_syn_retries": "6",
    "tcp_synack_retries": "5",
    "tcp_congestion_control": "reno",
    "tcp_recovery": "on",
    "tcp_early_retrans": "on",
    "tcp_dsack": "on",
    "tcp_invalid_ratelimit": "0",
    "tcp_no_metrics_save": "1",
    "tcp_slow_start_after_idle": "on",
    "icmp_ratelimit": "0",
    "icmp_msgs_per_sec": "100000",
}
"""How a script finds them if it says nothing."""
WORDS = {"on": "1", "off": "0"}
TAIL_LOSS_PROBES = "3"
"""What is "on" for tcp_early_retrans: 1 is none of it, 3 and 4 are."""
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
OPTIONS = {
    "nodelay": (socket.TCP_NODELAY, 1),
    "cork": (socket.TCP_CORK, 1),
    "mss": (socket.TCP_MAXSEG, 1),
    "user_timeout": (socket.TCP_USER_TIMEOUT, 1000),
    "fin_wait_2": (socket.TCP_LINGER2, 1),
}
"""Options of a connection, and how many of Linux's units one of ours is."""
_INFO = struct.Struct("=8B24I")
_INFO_NAMES = {"rto": 0, "mss": 2, "srtt": 15, "rttvar": 16, "ssthresh": 17, "cwnd": 18}
_SIOCOUTQ = termios.TIOCOUTQ


class KernelBench:
    """This network namespace, with a TUN at which the peer of every script sits. A context manager."""

    def __init__(self) -> None:
        for name in ("disable_ipv6", "accept_dad"):
            Path(f"/proc/sys/net/ipv6/conf/default/{name}").write_text("0")
        self.device = open_tun("tun%d", mtu=MTU, vnet_header=False)
        index = socket.if_nametoindex(self.device.name)
        Path(f"/proc/sys/net/ipv6/conf/{self.device.name}/router_solicitations").write_text("0")
        with RtNetlink() as netlink:
            netlink.link_up(index, MTU)
            for family, number in ((IPV4, socket.AF_INET), (IPV6, socket.AF_INET6)):
                netlink.address_add(index, ip_address(ADDRESSES[family.version][1]))
                netlink.default_route_add(index, number)
        self._runs = 0

    def __enter__(self) -> KernelBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.device.close()

    def run(self, script: Script, family: IpFamily) -> None:
        """Run `script`. Raises ScriptFailure, ScriptError."""
        host = self.host(script, family)
        try:
            Runner(script, host).run()
        finally:
            host.close()

    def host(self, script: Script, family: IpFamily) -> KernelHost:
        """The kernel as `script` wants it. Raises ScriptError for a setting without a switch."""
        switches = dict(SWITCHES)
        no_delay = True
        for name, word in script.settings.items():
            if name == "no_delay":
                no_delay = word == "on"
            elif name in SETTINGS:
                switches[SETTINGS[name]] = word
            else:
                raise ScriptError(f"{script.file}: Linux has no switch for {name}")
        for name, value in switches.items():
            with suppress(OSError):
                on = TAIL_LOSS_PROBES if name == "tcp_early_retrans" else WORDS["on"]
                Path(f"/proc/sys/net/ipv4/{name}").write_text(
                    on if value == "on" else WORDS.get(value, value)
                )
        self._runs += 1
        host = KernelHost(self, family, (40000, 1000 + self._runs), no_delay)
        host.wire.peer = PEERS[family.version][:-2] + self._runs.to_bytes(2, "big")
        return host


class KernelHost:
    """Linux with one connection."""

    slack = SLACK

    def __init__(self, bench: KernelBench, family: IpFamily, ports: tuple[int, int], no_delay: bool) -> None:
        self.wire = Wire(family, PEER_ISN, MTU, ports)
        self._device = bench.device
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
        numbers = [float(WORDS.get(word, word)) for word in words]
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
        if name == "told" or name.startswith(("drops.", "timer.")):
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

    def _info(self, name: str) -> float:
        """TCP_INFO, linux/tcp.h."""
        self._of()
        info = self._of().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        value = _INFO.unpack(info)[8 + _INFO_NAMES[name]]
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
