"""One cell: a transfer between our stack and this namespace's kernel. Wants a network namespace of its own.

    unshare --net python -m tests.interop.transfer '{"seed": 1, ...}' [CAPTURE]

Prints one line of JSON: `failures`, `bytes`, `seconds`, and what happened on the wire.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from random import Random

from tests.interop import wrapping
from tests.interop.cell import Cell
from tests.interop.ends import KernelEnd, StackEnd, begin_connect, new_socket, serve
from tests.interop.machine import Machine
from tests.interop.text import Text
from tunsmith.stack.config import StackConfig
from tunsmith.stack.request import FlowRequest

PORT = 80
BARELY = 0.03
"""Seconds that a connection has at least before its timestamps wrap."""
PATIENCE = 60.0
"""Seconds that a transfer may take in addition to those it is planned for."""


class Owner:
    """Of our stack: the one flow gets its end."""

    def __init__(self, cell: Cell, text: Text) -> None:
        self.cell = cell
        self.text = text
        self.end: StackEnd | None = None
        self.machine: Machine

    def on_flow(self, request: FlowRequest) -> None:
        if self.end is None:
            self.end = StackEnd(self.machine, self.text)
            self.end.accept(request)
        else:  # an old duplicate of its SYN
            request.refuse(self.machine.clock())

    def on_datagram(self, *_: object) -> None:
        """Router solicitations and the like."""

    on_echo = on_datagram_error = on_datagram


def transfer(cell: Cell, capture: str) -> dict[str, object]:
    """Run `cell`."""
    until = time.monotonic() + cell.seconds
    up = Text(cell.seed * 2, cell.size if cell.sender != "stack" else 0, until)
    down = Text(cell.seed * 2 + 1, cell.size if cell.sender != "kernel" else 0, until)
    owner = Owner(cell, down)
    clock: Callable[[], float] = time.monotonic
    if cell.wraps:
        clock = wrapping.clock(1 << (31 + Random(cell.seed).randrange(2)), BARELY + 2 * cell.rtt)
    with Machine(
        cell.seed,
        cell.faults,
        mtu=cell.mtu,
        offload=cell.offload,
        config=lambda offload: config(cell, offload),
        handler=owner,
        clock=clock,
        capture=capture,
    ) as machine:
        owner.machine = machine
        failures, begin = [], time.monotonic()
        kernels: list[KernelEnd] = []
        if cell.opener == "kernel":
            sock = kernel_socket(cell)
            if cell.wraps:
                wrapping.set_sequence(sock)
            begin_connect(sock, cell.version, PORT)
            kernels.append(kernel_end(cell, machine, sock, up))
        else:
            listener = kernel_socket(cell, PORT)
            serve(
                machine, listener, lambda sock: kernels.append(kernel_end(cell, machine, sock, up)), backlog=1
            )
            owner.end = StackEnd(machine, down)
            owner.end.connect(cell.version, PORT)
        try:
            machine.run(
                lambda: bool(kernels) and kernels[0].done and owner.end is not None and owner.end.done,
                PATIENCE + min(cell.seconds, 3600),
            )
        except TimeoutError as error:
            failures.append(str(error))
        seconds = time.monotonic() - begin
        kernel, ours = kernels[0] if kernels else None, owner.end
        if kernel is None or ours is None:
            failures.append("no connection")
        else:
            if kernel.error or ours.error:
                failures.append(f"errors: kernel {kernel.error}, stack {ours.error}")
            if ours.heard.digest != up.digest:
                failures.append(
                    f"our stack heard {ours.heard.length} of {up.length} bytes, or not the right ones"
                )
            if kernel.heard.digest != down.digest:
                failures.append(
                    f"the kernel heard {kernel.heard.length} of {down.length} bytes, or not the right ones"
                )
        if machine.stack.connections:
            failures.append("a connection is left behind")
        return {
            "failures": failures,
            "bytes": up.length + down.length,
            "seconds": seconds,
            "drops": dict(machine.stack.drops),
            **machine.accidents,
        }


def config(cell: Cell, offload: bool) -> StackConfig:
    """Our stack for `cell`."""
    window = cell.window or 4 << 20
    return StackConfig(
        mtu=cell.mtu,
        offload=offload,
        receive_buffer=cell.window or 1 << 20,
        receive_buffer_limit=window,
        send_buffer=cell.send_buffer,
        isn=(lambda key, now: wrapping.ISN) if cell.wraps else None,
    )


def kernel_socket(cell: Cell, port: int = 0) -> socket.socket:
    """The kernel's socket for `cell`, or its listener."""
    sock = new_socket(cell.version, port)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, cell.send_buffer)
    if cell.window:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * cell.window)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, cell.window)
    return sock


class WrappingEnd(KernelEnd):
    """Its timestamps make a step as soon as it is connected. `soon`: seconds from then until they wrap."""

    soon: float | None = None

    def advance(self) -> None:
        if self.soon is not None:
            try:
                wrapping.set_timestamp(self.sock, self.soon)
                self.soon = None
            except OSError:
                pass  # not connected yet, or never
        super().advance()


def kernel_end(cell: Cell, machine: Machine, sock: socket.socket, text: Text) -> KernelEnd:
    """The kernel's side of `cell`."""
    if not cell.wraps:
        return KernelEnd(machine, sock, text)
    end = WrappingEnd(machine, sock, text)
    end.soon = BARELY + cell.rtt
    return end


if __name__ == "__main__":
    print(json.dumps(transfer(Cell.loads(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")))
