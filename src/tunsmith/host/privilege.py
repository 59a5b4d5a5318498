"""What this process may do: capabilities(7)."""

from __future__ import annotations

_NET_ADMIN = 12


def may_administer() -> bool:
    """Whether we may change the network (CAP_NET_ADMIN)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "CapEff":
                return bool(int(value, 16) >> _NET_ADMIN & 1)
    return False
