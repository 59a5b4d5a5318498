"""Open TUN and TAP interfaces, or adopt ones that are open: linux/Documentation/networking/tuntap.rst.

    device = open_tun()                              tun0, or the first free number
    device = open_tap("tap0", mtu=9000)
    queues = [open_tun("tun0", multi_queue=True) for _ in range(4)]
    device = open_tun("tun7")                        made before, for this user: `ip tuntap add tun7 mode tun user ME`
    device = adopt(fd)                               a descriptor that somebody else opened and passed on

An interface vanishes with its last descriptor, however its owner dies, unless it is made persistent. Addresses
and routes are somebody else's business (host/rtnetlink.py, ip(8)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from tunsmith.device.base import ALL_OFFLOADS, CHECKSUM, TSO, TSO_ECN
from tunsmith.device.packets import PacketDevice
from tunsmith.device.tun import TunDevice
from tunsmith.errors import DeviceError, HostError, UsageError
from tunsmith.wire.packet_info import LINUX4, NONE
from tunsmith.wire.vnet import VNET_HDR_LEN

CLONE_DEVICE = "/dev/net/tun"
USUAL_MTU = 1500

IFF_TUN, IFF_TAP = 0x0001, 0x0002
IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR, IFF_TUN_EXCL = 0x0100, 0x1000, 0x4000, 0x8000
_NAME_ROOM = 16

_IFREQ_FLAGS = struct.Struct("16sH22x")
_IFREQ_MTU = struct.Struct("16si20x")
_INT = struct.Struct("i")

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOWNER = 0x400454CC
_TUNSETGROUP = 0x400454CE
_TUNSETOFFLOAD = 0x400454D0
_TUNGETIFF = 0x800454D2
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETVNETLE = 0x400454DC
_SIOCGIFMTU = 0x8921
_SIOCSIFMTU = 0x8922

_GRANTED = (ALL_OFFLOADS, TSO | TSO_ECN, TSO, CHECKSUM, 0)
"""What kernels grant, the most first: USO came with Linux 6.2."""


def open_tun(
    name: str = "tun%d",
    *,
    mtu: int | None = None,
    offload: int = ALL_OFFLOADS,
    vnet_header: bool = True,
    packet_info: bool = False,
    multi_queue: bool = False,
    persist: bool | None = None,
    owner: int | None = None,
    group: int | None = None,
) -> TunDevice:
    """The TUN interface `name` of this network namespace: made, or attached to where there is one that nobody uses.
    "%d" in the name stands for the first free number; the device's `name` says which.

    `mtu` changes that of the interface. `offload` is the most to ask the kernel for (device/base.py); the device
    says what was granted. Without `vnet_header` there is no offload and one packet a system call, with
    `packet_info` behind the kernel's four bytes (they exclude the virtio header here). With `multi_queue` each
    call opens one more queue of the interface. `persist`, `owner` (user id) and `group` change who may use it
    and whether it stays; None leaves that as it is.

    An ordinary user can open an interface that was made for him, and any in a user namespace of his own. Raises
    HostError where this machine has no TUN for us, DeviceError where not this one, UsageError for a name that no
    interface can have."""
    kind = IFF_TUN | (IFF_MULTI_QUEUE if multi_queue else 0)
    return _open(name, kind, mtu, offload, vnet_header, packet_info, persist, owner, group)


def open_tap(
    name: str = "tap%d",
    *,
    mtu: int | None = None,
    offload: int = ALL_OFFLOADS,
    vnet_header: bool = True,
    packet_info: bool = False,
    multi_queue: bool = False,
    persist: bool | None = None,
    owner: int | None = None,
    group: int | None = None,
) -> TunDevice:
    """The TAP interface `name`: as `open_tun`, but frames carry an Ethernet header."""
    kind = IFF_TAP | (IFF_MULTI_QUEUE if multi_queue else 0)
    return _open(name, kind, mtu, offload, vnet_header, packet_info, persist, owner, group)


def adopt(
    fd: int, *, offload: int = ALL_OFFLOADS, packet_info: bool = False, mtu: int | None = None
) -> TunDevice:
    """The device behind `fd`, an open TUN or TAP queue: made by another program, in another namespace perhaps.
    It is asked for its kind, virtio header and name. The descriptor becomes non-blocking and the device's.

    Whether it was opened with packet information (without IFF_NO_PI) the kernel cannot say: TUNGETIFF gives that
    bit another meaning. `mtu` tells that of the interface; None: asked of this network namespace, 1500 if it is
    not here. Raises DeviceError, and leaves `fd` to the caller, where it is no TUN or its format is none of ours."""
    try:
        answer = fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ_FLAGS.size))
    except OSError as error:
        raise DeviceError(
            f"cannot adopt descriptor {fd}: it is not an open TUN or TAP ({error.strerror}); "
            f"for sockets and pipes see tunsmith.device.packets and tunsmith.device.stream"
        ) from error
    raw, flags = _IFREQ_FLAGS.unpack(answer)
    name = raw.rstrip(b"\0").decode("utf-8", "replace")
    flags = flags & ~IFF_NO_PI | (0 if packet_info else IFF_NO_PI)
    if packet_info and flags & IFF_VNET_HDR:
        raise DeviceError(
            f"cannot adopt {name} (descriptor {fd}): it was opened with packet information *and* virtio header; "
            f"have it opened with IFF_NO_PI"
        )
    try:
        device = _device(fd, name, flags, offload, mtu if mtu is not None else _mtu(name))
    except OSError as error:
        raise DeviceError(f"cannot adopt {name} (descriptor {fd}): {error.strerror}") from error
    os.set_blocking(fd, False)
    return device


def make_persistent(
    name: str,
    tap: bool = False,
    owner: int | None = None,
    multi_queue: bool = False,
    group: int | None = None,
) -> None:
    """Make an interface that stays until it is deleted, for the user id `owner`, the group id `group`, or root: what
    `ip tuntap add` does. Raises what `open_tun` raises; DeviceError also where there is an interface of that
    name, which is left as it is."""
    kind = (IFF_TAP if tap else IFF_TUN) | (IFF_MULTI_QUEUE if multi_queue else 0)
    request = _IFREQ_FLAGS.pack(_packed_name(name), kind | IFF_NO_PI | IFF_TUN_EXCL)
    fd = _open_clone_device()
    try:
        fcntl.ioctl(fd, _TUNSETIFF, request)
        for what, value in ((_TUNSETOWNER, owner), (_TUNSETGROUP, group), (_TUNSETPERSIST, 1)):
            if value is not None:
                fcntl.ioctl(fd, what, value)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceError(f"cannot make {name}: there is an interface of that name already") from error
        raise DeviceError(f"cannot make {name}: {error.strerror}") from error
    finally:
        os.close(fd)


def _open(
    name: str,
    kind: int,
    mtu: int | None,
    offload: int,
    vnet_header: bool,
    packet_info: bool,
    persist: bool | None,
    owner: int | None,
    group: int | None,
) -> TunDevice:
    flags = kind | (0 if packet_info else IFF_NO_PI)
    if vnet_header and not packet_info:
        flags |= IFF_VNET_HDR
    request = _IFREQ_FLAGS.pack(_packed_name(name), flags)
    fd = _open_clone_device()
    try:
        try:
            answer = fcntl.ioctl(fd, _TUNSETIFF, request)
        except OSError as error:
            raise DeviceError(_why_not_attached(error, name, kind)) from error
        name = _IFREQ_FLAGS.unpack(answer)[0].rstrip(b"\0").decode()
        for what, value in ((_TUNSETOWNER, owner), (_TUNSETGROUP, group), (_TUNSETPERSIST, persist)):
            if value is not None:
                fcntl.ioctl(fd, what, int(value))
        if mtu is not None:
            _set_mtu(name, mtu)
        return _device(fd, name, flags, offload, _mtu(name))
    except OSError as error:
        os.close(fd)
        raise DeviceError(f"cannot configure {name}: {error.strerror}") from error
    except DeviceError:
        os.close(fd)
        raise


def _open_clone_device() -> int:
    try:
        return os.open(CLONE_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise HostError(_why_no_tun(error)) from error


def _device(fd: int, name: str, flags: int, offload: int, mtu: int) -> TunDevice:
    """A device for an attached descriptor. Raises OSError."""
    ethernet = bool(flags & IFF_TAP)
    if not flags & IFF_VNET_HDR:
        info = NONE if flags & IFF_NO_PI else LINUX4
        return PacketDevice(fd, mtu, packet_info=info, ethernet=ethernet, name=name)
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, _INT.pack(VNET_HDR_LEN))
    fcntl.ioctl(fd, _TUNSETVNETLE, _INT.pack(1))
    return TunDevice(fd, _set_offload(fd, offload), mtu, ethernet=ethernet, name=name)


def _set_offload(fd: int, wanted: int) -> int:
    for granted in _GRANTED:
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, granted & wanted)
        except OSError:
            continue
        return granted & wanted
    return 0


def _packed_name(name: str) -> bytes:
    packed = name.encode()
    longest = packed.replace(b"%d", b"0")
    bad = set("/: \t\n\0") & set(name)
    if (
        not name
        or len(longest) >= _NAME_ROOM
        or bad
        or name in (".", "..")
        or "%" in name.replace("%d", "", 1)
    ):
        raise UsageError(
            f"{name!r} is no name for an interface: 1 to 15 bytes, no slash, colon or space, one %d for a number"
        )
    return packed


def _exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _mtu(name: str) -> int:
    """The MTU of interface `name`; the usual one where it is in another network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, _IFREQ_MTU.pack(name.encode(), 0))
        except OSError:
            return USUAL_MTU
    mtu: int = _IFREQ_MTU.unpack(answer)[1]
    return mtu


def _set_mtu(name: str, mtu: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCSIFMTU, _IFREQ_MTU.pack(name.encode(), mtu))
        except OSError as error:
            raise DeviceError(
                f"cannot set the MTU of {name} to {mtu}: {error.strerror}; as root: `ip link set {name} mtu {mtu}`"
            ) from error


def _why_no_tun(error: OSError) -> str:
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


def _why_not_attached(error: OSError, name: str, kind: int) -> str:
    word = "TAP" if kind & IFF_TAP else "TUN"
    mode = word.lower()
    if error.errno == errno.EPERM and _exists(name):
        return (
            f"cannot open the {word} interface {name}: it was made for another user; choose another name, or as root: "
            f"`ip tuntap del dev {name} mode {mode} && ip tuntap add dev {name} mode {mode} user {os.geteuid()}`"
        )
    if error.errno == errno.EPERM:
        return (
            f"cannot open the {word} interface {name}: it was not made for this user, who may make none; as root: "
            f"`ip tuntap add dev {name} mode {mode} user {os.geteuid()}`"
        )
    if error.errno == errno.EBUSY:
        return f"cannot open the {word} interface {name}: another program uses it; end that, or choose another name"
    if error.errno == errno.EINVAL:
        queues = "without" if kind & IFF_MULTI_QUEUE else "with"
        return (
            f"cannot open {name} as a {word} interface: there is one of that name of another kind, or made {queues} "
            f"several queues; look at it with `ip -d link show {name}`, or choose another name"
        )
    return f"cannot open the {word} interface {name}: {error.strerror}"
