"""Open a TUN interface with segmentation offload, the way the whole stack wants it.

Frames are a 10-byte little-endian virtio_net_hdr and an IP packet, no packet information. The
interface is not persistent: it vanishes with the last descriptor, however its owner dies.
"""

from __future__ import annotations

import fcntl
import os
import struct

from tunsmith.errors import HostError

CLONE_DEVICE = "/dev/net/tun"
VNET_HEADER_SIZE = 10

IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETVNETLE = 0x400454DC

_TCP_OFFLOAD = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
_OFFLOADS = (
    _TCP_OFFLOAD | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6,
    _TCP_OFFLOAD | TUN_F_TSO_ECN,  # USO came with Linux 6.2
    _TCP_OFFLOAD,
    TUN_F_CSUM,
    0,
)


def open_tun(name: str) -> tuple[int, int]:
    """Create the TUN interface `name` in this network namespace; returns its descriptor (close-on-exec,
    non-blocking, the caller's) and the offload flags (TUN_F_*) the kernel granted.

    Raises HostError that says what to do when the device is missing or closed to this user."""
    try:
        fd = os.open(CLONE_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise HostError(_why_not_opened(error)) from error
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_SIZE))
        fcntl.ioctl(fd, _TUNSETVNETLE, struct.pack("i", 1))
        return fd, _set_offload(fd)
    except OSError as error:
        os.close(fd)
        raise HostError(f"cannot make the TUN interface {name}: {error.strerror}") from error


def _set_offload(fd: int) -> int:
    for flags in _OFFLOADS:
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, flags)
        except OSError:
            continue
        return flags
    return 0


def _why_not_opened(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return (
            f"{CLONE_DEVICE} is missing: run `modprobe tun` as root, or start the container "
            f"with `--device {CLONE_DEVICE}`"
        )
    if isinstance(error, PermissionError):
        return (
            f"{CLONE_DEVICE} is closed to this user ({error.strerror}): run `chmod 0666 {CLONE_DEVICE}` "
            f"as root (the usual mode), or start the container with `--device {CLONE_DEVICE}`"
        )
    return f"cannot open {CLONE_DEVICE} ({error.strerror}): is the module `tun` loaded (`modprobe tun`)?"
