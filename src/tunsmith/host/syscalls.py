"""System calls that Python 3.11 has no function for, by way of the C library.

Each function raises OSError with the errno of the call and what it was about; none keeps state.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

_SIGSET_SIZE = 128
_ARG_START = 48 - 3
"""Field 48 of /proc/PID/stat, counted from behind the name."""
_PIDFD_GETFD = 438
"""The same on every architecture."""


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` (CLONE_NEW*) for new ones: unshare(2)."""
    if _libc().unshare(flags) != 0:
        raise _error("unshare")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, options: str = "") -> None:
    """Attach a file system, bind a path or change propagation: mount(2). Symbolic links are followed."""
    failed = _libc().mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() or None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    if failed:
        raise _error(target)


def detach(target: str) -> None:
    """Take the mount at `target` out of the tree; what is bound from it stays: umount2(2), MNT_DETACH."""
    if _libc().umount2(os.fsencode(target), MNT_DETACH) != 0:
        raise _error(target)


def set_parent_death_signal(signal: int) -> None:
    """Have the kernel send `signal` to this process when its parent ends; 0 switches it off: prctl(2)."""
    if _libc().prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal)) != 0:
        raise _error("prctl")


def set_process_name(name: str) -> None:
    """What ps and top call this process, at most 15 bytes: prctl(2)."""
    if _libc().prctl(PR_SET_NAME, ctypes.c_char_p(name.encode())) != 0:
        raise _error("prctl")


def set_process_title(title: str) -> None:
    """What ps and `pkill -f` see as the command line of this process: it is written over the one that we were started
    with, and cut to its length. For a process that never reads its arguments again. proc(5), arg_start."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_START + 1])
    room = end - start
    if room > 0:
        ctypes.memmove(start, title.encode()[: room - 1].ljust(room, b"\0"), room)


def keep_freed_memory(trim: int, mmap: int) -> None:
    """Let the allocator keep up to `trim` freed bytes and serve requests below `mmap` bytes from its heap:
    mallopt(3). Without it glibc returns each 64 KiB buffer to the kernel and pays page faults for the next.
    Does nothing where the C library is not glibc."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, trim)
        mallopt(M_MMAP_THRESHOLD, mmap)


def signalfd(signals: Iterable[int]) -> int:
    """A non-blocking descriptor of `signals` (which the caller blocks), read as records: signalfd(2)."""
    libc = _libc()
    mask = ctypes.create_string_buffer(_SIGSET_SIZE)
    libc.sigemptyset(mask)
    for number in signals:
        libc.sigaddset(mask, number)
    fd: int = libc.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise _error("signalfd")
    return fd


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A copy of descriptor `fd` of the process behind `pidfd`: pidfd_getfd(2), which takes the right to trace it."""
    copy: int = _libc().syscall(_PIDFD_GETFD, pidfd, fd, 0)
    if copy < 0:
        raise _error("pidfd_getfd")
    return copy


def execvp(command: list[str]) -> OSError:
    """Become `command`, found along PATH, with the present environment; returns only to say why not.

    The C library's own look-up, because `os.execvp` does not hand a script without "#!" to the shell."""
    arguments = (ctypes.c_char_p * (len(command) + 1))(*map(os.fsencode, command), None)
    _libc().execvp(os.fsencode(command[0]), arguments)
    return _error(command[0])


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _error(subject: str) -> OSError:
    errno = ctypes.get_errno()
    return OSError(errno, os.strerror(errno), subject)
