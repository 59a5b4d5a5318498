"""What a scenario plays on: a machine whose stack answers as it is told, and a list of what went wrong."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from functools import partial

from tests.interop.ends import KernelEnd, StackEnd, begin_connect, new_socket, serve
from tests.interop.machine import Machine
from tests.interop.text import Text
from tunsmith.stack.config import StackConfig
from tunsmith.stack.request import FlowRequest

PORT = 80
PATIENCE = 40.0


class Scene:
    """A machine, and what its stack is asked. `failures` are gathered by `expect`."""

    def __init__(self, version: int, seed: int, faults: dict[str, float], capture: str) -> None:
        self.version = version
        self.seed = seed
        self.failures: list[str] = []
        self.accept: Callable[[FlowRequest], None] = self.refuse
        config = partial(StackConfig, time_wait=1.0)
        self.machine = Machine(
            seed, faults, config=lambda offload: config(offload=offload), handler=self, capture=capture
        )

    def on_flow(self, request: FlowRequest) -> None:
        self.accept(request)

    def on_datagram(self, *_: object) -> None:
        """Router solicitations and the like."""

    on_echo = on_datagram_error = on_datagram

    def refuse(self, request: FlowRequest) -> None:
        request.refuse(self.machine.clock())

    def text(self, number: int, size: int) -> Text:
        return Text(self.seed * 100 + number, size, math.inf)

    def run(self, until: Callable[[], bool], patience: float = PATIENCE) -> None:
        try:
            self.machine.run(until, patience)
        except TimeoutError as error:
            self.failures.append(str(error))

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.failures.append(f"{what}: {found}, not {wanted}")

    def pair(
        self, ours: StackEnd, theirs: Text, *, opener: str, polite: bool = False
    ) -> Callable[[], KernelEnd]:
        """Connect `ours` and a kernel's end that says `theirs`; returns where to find that."""
        made: list[KernelEnd] = []

        def connected(sock: socket.socket) -> None:
            made.append(KernelEnd(self.machine, sock, theirs, polite=polite))

        if opener == "kernel":
            self.accept = ours.accept
            sock = new_socket(self.version)
            begin_connect(sock, self.version, PORT)
            connected(sock)
        else:
            serve(self.machine, new_socket(self.version, PORT), connected)
            ours.connect(self.version, PORT)
            self.run(lambda: bool(made))
        return lambda: made[0]
