"""Which network namespace this process is in, and which are still there.

A namespace is known by its inode as long as it lives; then the number may go to the next one. Since Linux 5.14 each
also has a cookie that is not used again until the machine boots: SO_NETNS_COOKIE.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from tunsmith.host.privilege import may_look_at_all

_SO_NETNS_COOKIE = 71
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """`inode` is the number that `lsns` and /proc/PID/ns/net show; `cookie` is 0 where the kernel is too old."""

    inode: int
    cookie: int = 0

    @classmethod
    def current(cls) -> NetworkNamespace:
        """The one this process is in."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                cookie = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
            except OSError:
                cookie = 0
        return cls(os.stat("/proc/self/ns/net").st_ino, cookie)


def is_gone(inode: int) -> bool:
    """Whether certainly nothing holds the namespace any longer: no process, mount or descriptor of one.

    Only who may look at every process of the machine can know: on the machine itself, with CAP_SYS_PTRACE. To others
    nothing is ever gone."""
    if os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE or not may_look_at_all():
        return False
    name = f"net:[{inode}]"
    return not any(name in held for held in _held())


def _held() -> Iterator[str]:
    """Texts that name the namespaces that are held, and much else."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it has ended
            yield os.readlink(f"/proc/{pid}/ns/net")
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
                yield file.read()
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(FileNotFoundError):
                    yield os.readlink(f"/proc/{pid}/fd/{fd}")
