"""User and group ids inside the namespace: everybody stays who he is.

An ordinary user may map one id only, his own. Root maps everything 1:1, so that clients that drop
privileges (apt-get to `_apt`) still can. user_namespaces(7).
"""

from __future__ import annotations

import os


def map_ids(pid: int, uid: int, gid: int) -> None:
    """Give the fresh user namespace of process `pid` its ids; called from the namespace it left.

    `uid` and `gid` are the caller's. Raises OSError."""
    try:
        _write(pid, "uid_map", _every_id("uid_map"))
    except PermissionError:
        _write(pid, "uid_map", f"{uid} {uid} 1\n")
    try:
        _write(pid, "gid_map", _every_id("gid_map"))
    except PermissionError:
        # Without CAP_SETGID, setgroups(2) must be given up first (CVE-2014-8989).
        _write(pid, "setgroups", "deny")
        _write(pid, "gid_map", f"{gid} {gid} 1\n")


def _every_id(name: str) -> str:
    """A map of all the ids this namespace has, each to itself."""
    with open(f"/proc/self/{name}", encoding="ascii") as file:
        ranges = [line.split() for line in file]
    return "".join(f"{first} {first} {count}\n" for first, _, count in ranges)


def _write(pid: int, name: str, text: str) -> None:
    # One write(2): the kernel takes a map whole, once.
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
