"""What work an interface leaves to whoever reads its packets: ethtool(8) by its ioctl.

On a TUN they are on as far as the program that has it open has asked for them (TUNSETOFFLOAD).
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_QUESTIONS = {"checksum": 0x16, "tso": 0x1E, "gso": 0x23}
"""ETHTOOL_GTXCSUM, ETHTOOL_GTSO, ETHTOOL_GGSO."""
_REQUEST = struct.Struct("16sP16x")


def offloads(name: str) -> list[str]:
    """Those that are on, of checksum, tso and gso; none where it cannot be told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return [word for word, question in _QUESTIONS.items() if _is_on(sock, name, question)]


def _is_on(sock: socket.socket, name: str, question: int) -> bool:
    value = (ctypes.c_uint32 * 2)(question, 0)
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, _REQUEST.pack(name.encode(), ctypes.addressof(value)))
    except OSError:
        return False
    return bool(value[1])
