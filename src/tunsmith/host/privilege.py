"""What this process may do: capabilities(7)."""

from __future__ import annotations

_NET_ADMIN = 12
_SYS_PTRACE = 19


def may_administer() -> bool:
    """Whether we may change the network (CAP_NET_ADMIN)."""
    return _has(_NET_ADMIN)


def may_look_at_all() -> bool:
    """Whether /proc tells us what every process has open (CAP_SYS_PTRACE)."""
    return _has(_SYS_PTRACE)


def _has(capability: int) -> bool:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "CapEff":
                return bool(int(value, 16) >> capability & 1)
    return False
