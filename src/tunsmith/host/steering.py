"""Which queue of a TUN a packet goes to: that of its source, address and port.

The kernel's own choice hashes both ends of a flow, so one UDP port of an application would be served by several
queues, and get several ports of this machine where it must have one (endpoint-independent mapping, RFC 4787 §4.1).
A program of thirty eBPF instructions (linux/Documentation/bpf/) chooses by the source alone; a fragment, which
has no ports, by the source address. The choice depends on nothing else, so a flow stays where it is for as long as
the number of queues stays the same.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from collections.abc import Iterator

from tunsmith.errors import HostError

_TUNSETSTEERINGEBPF = 0x800454E0
_BPF_PROG_LOAD = 5
_SOCKET_FILTER = 1
_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}

_INSTRUCTION = struct.Struct("<BBhi")
_LOAD = struct.Struct("=IIQQIIQI")
_ROOM = 128
_INT = struct.Struct("i")

_BYTE, _HALF, _WORD = 0x30, 0x28, 0x20  # r0 = packet[imm]: bytes in network order
_HALF_AT = 0x48  # r0 = packet[src + imm]
_MOVE, _XOR, _SHIFT_RIGHT, _SHIFT_LEFT, _AND = 0xBF, 0xAF, 0x77, 0x67, 0x57
_MULTIPLY32, _EXIT = 0x24, 0x95
_EQUAL, _DIFFERENT, _SET, _ALWAYS = 0x15, 0x55, 0x45, 0x05
_GOLDEN = 0x1E3779B1

Step = tuple[int, int, int, int | str, int] | str
"""Instruction code, destination and source register, jump and constant; a bare string is the target of jumps."""


def steer_by_source(fd: int) -> None:
    """Make the TUN interface of queue `fd` choose queues by the source of a packet. Raises HostError where this
    machine has no eBPF for us (it wants CAP_BPF or root)."""
    try:
        program = _load(b"".join(_assemble(_steps())))
        try:
            fcntl.ioctl(fd, _TUNSETSTEERINGEBPF, _INT.pack(program))
        finally:
            os.close(program)
    except OSError as error:
        raise HostError(
            f"cannot choose the queues of the TUN by source (eBPF: {error.strerror}); use one worker"
        ) from error


def _steps() -> list[Step]:
    """r6 is the packet, r7 its first byte, r8 gathers the source."""
    return [
        (_MOVE, 6, 1, 0, 0),
        (_BYTE, 0, 0, 0, 0),
        (_MOVE, 7, 0, 0, 0),
        (_SHIFT_RIGHT, 0, 0, 0, 4),
        (_EQUAL, 0, 0, "ipv6", 6),
        (_WORD, 0, 0, 0, 12),
        (_MOVE, 8, 0, 0, 0),
        (_HALF, 0, 0, 0, 6),
        (_SET, 0, 0, "choose", 0x3FFF),
        (_BYTE, 0, 0, 0, 9),
        (_EQUAL, 0, 0, "port", 6),
        (_DIFFERENT, 0, 0, "choose", 17),
        "port",
        (_AND, 7, 0, 0, 15),
        (_SHIFT_LEFT, 7, 0, 0, 2),
        (_HALF_AT, 0, 7, 0, 0),
        (_ALWAYS, 0, 0, "add", 0),
        "ipv6",
        (_WORD, 0, 0, 0, 8),
        (_MOVE, 8, 0, 0, 0),
        (_WORD, 0, 0, 0, 12),
        (_XOR, 8, 0, 0, 0),
        (_WORD, 0, 0, 0, 16),
        (_XOR, 8, 0, 0, 0),
        (_WORD, 0, 0, 0, 20),
        (_XOR, 8, 0, 0, 0),
        (_BYTE, 0, 0, 0, 6),
        (_EQUAL, 0, 0, "port6", 6),
        (_DIFFERENT, 0, 0, "choose", 17),
        "port6",
        (_HALF, 0, 0, 0, 40),
        "add",
        (_XOR, 8, 0, 0, 0),
        (_SHIFT_LEFT, 0, 0, 0, 16),
        (_XOR, 8, 0, 0, 0),
        "choose",
        (_MOVE, 0, 8, 0, 0),
        (_MULTIPLY32, 0, 0, 0, _GOLDEN),
        (_SHIFT_RIGHT, 0, 0, 0, 16),
        (_EXIT, 0, 0, 0, 0),
    ]


def _assemble(steps: list[Step]) -> Iterator[bytes]:
    code = [step for step in steps if not isinstance(step, str)]
    places: dict[str, int] = {}
    for step in steps:
        if isinstance(step, str):
            places[step] = sum(not isinstance(before, str) for before in steps[: steps.index(step)])
    for number, (operation, destination, source, jump, constant) in enumerate(code):
        offset = places[jump] - number - 1 if isinstance(jump, str) else jump
        yield _INSTRUCTION.pack(operation, source << 4 | destination, offset, constant)


def _load(program: bytes) -> int:
    """bpf(BPF_PROG_LOAD): the descriptor of the program."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(38, f"not known on {platform.machine()}")
    code = ctypes.create_string_buffer(program, len(program))
    license_ = ctypes.create_string_buffer(b"MIT")
    count = len(program) // _INSTRUCTION.size
    head = _LOAD.pack(_SOCKET_FILTER, count, ctypes.addressof(code), ctypes.addressof(license_), 0, 0, 0, 0)
    attributes = ctypes.create_string_buffer(head, _ROOM)
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(number, _BPF_PROG_LOAD, attributes, _ROOM)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd
