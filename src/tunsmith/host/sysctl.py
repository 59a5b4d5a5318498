"""Kernel switches of the namespaces this process is in: sysctl(8) by way of /proc/sys."""

from __future__ import annotations


def try_sysctl(name: str, value: str) -> None:
    """Set `name`, like "net/ipv4/ping_group_range". Best effort: containers mount /proc/sys read-only, and
    what we set is never more than a comfort."""
    try:
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError:
        pass
