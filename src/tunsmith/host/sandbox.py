"""A program in a network namespace whose only way out is a TUN that we hold.

    parent (tunsmith)                         child (will be the program)
    spawn: fork ----------------------------> unshare user
           write uid_map, gid_map <---------- "U"
           "M" -----------------------------> unshare net and mount; TUN, routes, files (inside.py)
    imports the engine meanwhile
    ready: receive the TUN <----------------- "R" + descriptor
    release: "G" ---------------------------> exec
    wait: exit status

The program is the child itself: same session, process group, terminal, directory, environment and
descriptors as tunsmith was started with. The namespaces belong to it and its descendants only, and the
TUN to the parent only: when the program ends they go, when the parent dies the TUN goes, and nothing is
left either way. No process stays in between.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

from tunsmith.errors import HostError
from tunsmith.host.idmap import map_ids
from tunsmith.host.inside import FAILED, GO, MAPPED, NUMBER, READY, REFUSED, UNSHARED, run_child
from tunsmith.host.knobs import why_no_namespace

if TYPE_CHECKING:
    from tunsmith.config import Network

_MESSAGE_LIMIT = 4096
_CHILD_DIED = "the process that sets up the namespace died"


class Sandbox:
    """One program and its namespaces, from `spawn` to `wait`. Close it in any case."""

    __slots__ = ("_control", "_network", "_pidfd", "_reaped", "_released", "offload", "pid", "tun_fd")

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        """Process id of the child, later of the program."""
        self.tun_fd = -1
        """The TUN, non-blocking; set by `ready`. Its taker closes it."""
        self.offload = 0
        """TUN_F_* flags the kernel granted; set by `ready`."""
        self._control = control
        self._network: tuple[int, int] | None = None
        """Device and inode of the network namespace."""
        self._pidfd = os.pidfd_open(pid)
        self._released = False
        self._reaped = False

    @classmethod
    def spawn(cls, command: list[str], network: Network, resolv_conf: str) -> Sandbox:
        """Fork the child and give it its ids; it goes on setting up while the caller does other things.

        `command` is looked up along PATH, `network` says how the inside of the TUN is addressed,
        `resolv_conf` is the content of /etc/resolv.conf inside. Call it before there are threads.
        Raises HostError when there can be no process or no user namespace."""
        parent = os.getpid()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pid = os.fork()
            if pid == 0:
                ours.close()
                run_child(theirs, parent, command, network, resolv_conf)
            theirs.close()
            sandbox = cls(pid, ours)
        except OSError as error:
            raise HostError(f"cannot start a process: {error.strerror}") from error
        try:
            sandbox._receive(UNSHARED)
            try:
                map_ids(pid, os.geteuid(), os.getegid())
            except OSError as error:
                raise HostError(why_no_namespace(error)) from error
            ours.send(MAPPED)
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    def ready(self) -> None:
        """Wait until the namespace is complete and take the TUN. Raises HostError with the child's reason."""
        message = self._receive(READY)
        (self.offload,) = NUMBER.unpack(message)
        self._network = _network_of(self.pid)

    def release(self) -> None:
        """Let the program start. Raises HostError when the child has died."""
        try:
            self._control.send(GO)
        except OSError as error:
            raise HostError(_CHILD_DIED) from error
        self._released = True

    def send_signal(self, number: int) -> None:
        """Send a signal to the program; nothing happens when it has ended."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    @property
    def is_running(self) -> bool:
        """Whether the program was released and its end has not been seen by `wait`."""
        return self._released and not self._reaped

    def stopped_by(self) -> int | None:
        """The signal that has stopped the program since this was last asked."""
        try:
            found = os.waitid(os.P_PIDFD, self._pidfd, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:  # it has ended
            return None
        return found.si_status if found is not None else None

    def is_deserted(self) -> bool:
        """Whether no process is left in the namespaces, as far as /proc shows."""
        pids = (entry for entry in os.listdir("/proc") if entry.isdecimal())
        return all(_network_of(pid) != self._network for pid in pids)

    async def wait(self) -> int:
        """The exit code of the program as a shell gives it: its own, or 128 + n after signal n; 127 when it
        was not found and 126 when it could not be executed."""
        import asyncio  # late: the fork comes before the event loop is even imported

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
        return self._reap()

    def close(self) -> None:
        """Let go of the child; one that was never released ends here. A running program goes on, without
        network. Idempotent."""
        self._control.close()
        if not self._released and not self._reaped:
            self.send_signal(signal.SIGKILL)
            self._reap()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _reap(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self._reaped = True
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def _receive(self, kind: bytes) -> bytes:
        message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_LIMIT, 1)
        if descriptors:
            (self.tun_fd,) = descriptors
            os.set_inheritable(self.tun_fd, False)  # recv_fds of Python 3.11 drops its flags argument
        head, body = message[:1], message[1:]
        if head == REFUSED:
            (errno,) = NUMBER.unpack(body)
            raise HostError(why_no_namespace(OSError(errno, os.strerror(errno))))
        if head == FAILED:
            raise HostError(body.decode("utf-8", "replace"))
        if head != kind:
            raise HostError(_CHILD_DIED)
        return body


def _network_of(pid: int | str) -> tuple[int, int] | None:
    """The network namespace of a process; None where it has ended or is not ours to look at."""
    try:
        found = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return None
    return found.st_dev, found.st_ino
