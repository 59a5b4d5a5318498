"""Kernel switches of the namespaces this process is in: sysctl(8) by way of /proc/sys.

A switch is called by its path there, "net/ipv4/conf/eth0.5/rp_filter": names of interfaces have dots in them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from tunsmith.errors import HostError

ROOT = "/proc/sys/"


def read_sysctl(path: str) -> str | None:
    """Its value, white space as one blank; None where there is no such switch, or it cannot be read."""
    try:
        with open(ROOT + path, encoding="ascii", errors="replace") as file:
            return " ".join(file.read().split())
    except OSError:
        return None


def read_sysctls(paths: Iterable[str]) -> dict[str, str]:
    """The values of those that there are."""
    found = ((path, read_sysctl(path)) for path in paths)
    return {path: value for path, value in found if value is not None}


def set_sysctl(path: str, value: str) -> None:
    """Set it. Raises HostError, FileNotFoundError where there is no such switch."""
    try:
        with open(ROOT + path, "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.EROFS:
            why = "/proc/sys is read-only here, as in most containers: set it when the container is started, with "
            hint = f"`--sysctl {path.replace('/', '.')}={value}`"
            raise HostError(f"cannot set {path} to {value}: {why}{hint}") from error
        raise HostError(f"cannot set {path} to {value}: {error.strerror}") from error


def try_sysctl(name: str, value: str) -> None:
    """Set `name`, like "net/ipv4/ping_group_range". Best effort: containers mount /proc/sys read-only, and
    what we set is never more than a comfort."""
    try:
        with open(ROOT + name, "w", encoding="ascii") as file:
            file.write(value)
    except OSError:
        pass
