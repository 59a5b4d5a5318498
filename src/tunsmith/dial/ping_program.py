"""Pings by ping(8), for the many machines where only that program may send them.

Debian 12, to name one, closes net.ipv4.ping_group_range to everyone and gives /usr/bin/ping a file capability
instead. Each echo request is then one run of the program for one request, of the same size, with the same
TTL and the same way out, and what it prints is what the network answered. Its data is its own:
a reply is handed over with the data that was to be sent. A run costs a few milliseconds, so there are not
many at a time.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
from collections import deque
from collections.abc import Iterator

from tunsmith.dial.base import PingFault, PingReply
from tunsmith.dial.escape import Escape
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

AT_ONCE = 16
"""Runs at the same time; further requests are lost."""
PATIENCE = 10
"""Seconds that an answer may take; longer than ping(8) itself waits."""
_READ = 4096

_REPLY = re.compile(r"^\d+ bytes from (\S+): icmp_seq=\d+ ttl=(\d+)", re.MULTILINE)
_FAULT = re.compile(r"^From (\S+?):? icmp_seq=\d+ (.+)$", re.MULTILINE)
_MTU = re.compile(r"mtu ?= ?(\d+)")
_MEANINGS = {
    "Destination Net": IcmpError.NETWORK,
    "Destination unreachable: No route": IcmpError.NETWORK,
    "Destination Host": IcmpError.HOST,
    "Destination unreachable: Address": IcmpError.HOST,
    "Destination Protocol": IcmpError.PROTOCOL,
    "Destination Port": IcmpError.PORT,
    "Destination unreachable: Port": IcmpError.PORT,
    "Destination unreachable: Admin": IcmpError.PROHIBITED,
    "Packet filtered": IcmpError.PROHIBITED,
    "Time to live exceeded": IcmpError.TIME_EXCEEDED,
    "Time exceeded: Hop limit": IcmpError.TIME_EXCEEDED,
    "Frag needed": IcmpError.TOO_BIG,
    "Packet too big": IcmpError.TOO_BIG,
}
"""How a line of iputils begins, for both IP versions."""
_LOCAL_MEANINGS = {
    "Network is unreachable": IcmpError.NETWORK,
    "No route to host": IcmpError.HOST,
    "not permitted": IcmpError.PROHIBITED,
    "Permission denied": IcmpError.PROHIBITED,
}
"""What it says, and no reply, when the request could not even leave."""


def privileged_ping() -> str | None:
    """The path of a ping(8) of iputils that has the right we lack, if this machine has one."""
    path = shutil.which("ping")
    if path is None or not _has_privilege(path):
        return None
    try:
        shown = subprocess.run([path, "-V"], capture_output=True, timeout=1, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if b"iputils" in shown else None


def _has_privilege(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & 0o4000 or os.getxattr(path, "security.capability"))
    except OSError:
        return False


class _Run:
    """One request under way."""

    __slots__ = ("data", "host", "output", "process", "sequence")

    def __init__(self, process: subprocess.Popen[bytes], host: str, sequence: int, data: bytes) -> None:
        self.process = process
        self.host = host
        self.sequence = sequence
        self.data = data
        self.output = b""


class ProgramPings:
    """A `Pings` by the ping(8) at `program`."""

    __slots__ = ("_epoll", "_family", "_faults", "_options", "_program", "_runs")

    def __init__(self, program: str, family: int, escape: Escape | None) -> None:
        self._family: IpFamily = IPV4 if family == socket.AF_INET else IPV6
        self._program = program
        self._options = ["-n", "-c1", f"-W{PATIENCE}"]
        if escape is not None and escape.interface is not None:
            self._options += ["-I", escape.interface]
        if escape is not None and escape.mark:
            self._options += ["-m", str(escape.mark)]
        self._epoll = select.epoll()
        self._runs: dict[int, _Run] = {}
        """By the descriptor that the output comes from."""
        self._faults: deque[PingFault] = deque()

    def fileno(self) -> int:
        """The descriptor to watch for reading."""
        return self._epoll.fileno()

    def send(self, host: str, sequence: int, data: bytes, ttl: int) -> None:
        """See `Pings.send`."""
        if len(self._runs) >= AT_ONCE:
            raise BlockingIOError
        process = subprocess.Popen(
            [self._program, *self._options, "-s", str(len(data)), "-t", str(ttl), host],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"LC_ALL": "C"},
        )
        assert process.stdout is not None
        fd = process.stdout.fileno()
        self._runs[fd] = _Run(process, host, sequence, data)
        self._epoll.register(fd, select.EPOLLIN)

    def receive(self) -> PingReply:
        """See `Pings.receive`."""
        for fd, _ in self._epoll.poll(0):
            run = self._runs[fd]
            piece = os.read(fd, _READ)
            run.output += piece
            if not piece:
                self._end(fd)
                reply = self._understand(run)
                if reply is not None:
                    return reply
        raise BlockingIOError

    def faults(self) -> Iterator[PingFault]:
        """See `Pings.faults`."""
        while self._faults:
            yield self._faults.popleft()

    def close(self) -> None:
        """Close; idempotent."""
        for fd in list(self._runs):
            self._runs[fd].process.kill()
            self._end(fd)
        self._epoll.close()

    def _end(self, fd: int) -> None:
        process = self._runs.pop(fd).process
        self._epoll.unregister(fd)
        assert process.stdout is not None
        process.stdout.close()
        process.wait()

    def _understand(self, run: _Run) -> PingReply | None:
        """What a run that has ended found out; a fault goes to its queue."""
        output = run.output.decode("utf-8", "replace")
        if match := _REPLY.search(output):
            return PingReply(match[1].partition("%")[0], run.sequence, run.data, int(match[2]))
        if match := _FAULT.search(output):
            text = match[2]
            error = next((error for begin, error in _MEANINGS.items() if text.startswith(begin)), None)
            if error is not None:
                mtu = _MTU.search(text)
                self._fail(run, error, match[1].partition("%")[0], int(mtu[1]) if mtu else 0)
            return None
        for words, error in _LOCAL_MEANINGS.items():
            if words in output:
                self._fail(run, error, "", 0)
                break
        return None

    def _fail(self, run: _Run, error: IcmpError, offender: str, mtu: int) -> None:
        icmp_type, code = error.code(self._family)
        self._faults.append(PingFault(run.host, run.sequence, offender, icmp_type, code, mtu, run.data))
