"""How connections between our stack and this namespace's kernel begin and end. Wants a network namespace of its own.

    unshare --net python -m tests.interop.endings SCENARIO VERSION SEED [CAPTURE]

Prints one line of JSON, `failures`: what is not as it should be.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial

from tests.interop.ends import KernelEnd, StackEnd, begin_connect, new_socket, serve
from tests.interop.scene import PORT, Scene
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.tcp.state import State

SAID = 300_000
MUCH = 100_000_000
ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: RST instead of FIN."""
BAD = {"loss": 0.02, "duplicate": 0.02, "reorder": 0.05, "corrupt": 0.01, "delay": 0.005}
SLOW = {"delay": 0.05}
SLIGHTLY_BAD = {"loss": 0.001, "reorder": 0.01, "duplicate": 0.001}
SHORT = 10_000
AT_ONCE = 100
QUESTION, ANSWER = 80, 240


def half_close(scene: Scene, opener: str, first: str) -> None:
    """`first` says its text and closes its half; the other speaks only then, and for longer."""
    texts = scene.text(0, SAID), scene.text(1, SAID)
    ours = StackEnd(scene.machine, texts[0], polite=first == "kernel")
    kernel = scene.pair(ours, texts[1], opener=opener, polite=first == "stack")()
    scene.run(lambda: kernel.done and ours.done)
    scene.expect("errors", (kernel.error, ours.error), (0, 0))
    scene.expect("our stack heard", ours.heard.digest, texts[1].digest)
    scene.expect("the kernel heard", kernel.heard.digest, texts[0].digest)
    scene.expect("both said", (texts[0].length, texts[1].length), (SAID, SAID))


def reset(scene: Scene, opener: str, by: str) -> None:
    """`by` resets the connection in the middle of what both say."""
    ours = StackEnd(scene.machine, scene.text(0, MUCH))
    kernel = scene.pair(ours, scene.text(1, MUCH), opener=opener)()
    scene.run(lambda: min(kernel.heard.length, ours.heard.length) > 100_000)
    (connection,) = scene.machine.stack.connections.values()
    if by == "kernel":
        kernel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        kernel.close()
        scene.run(lambda: ours.done)
        scene.expect("our error", ours.error, errno.ECONNRESET)
    else:
        connection.abort(scene.machine.clock())
        scene.run(lambda: kernel.done)
        scene.expect("the kernel's error", kernel.error in (errno.ECONNRESET, errno.EPIPE), True)


def refused(scene: Scene, opener: str) -> None:
    """Nobody listens."""
    if opener == "kernel":
        sock = new_socket(scene.version)
        begin_connect(sock, scene.version, PORT)
        kernel = KernelEnd(scene.machine, sock, scene.text(0, 0))
        scene.run(lambda: kernel.done)
        scene.expect("the kernel's error", kernel.error, errno.ECONNREFUSED)
    else:
        ours = StackEnd(scene.machine, scene.text(0, 0))
        ours.connect(scene.version, PORT)
        scene.run(lambda: ours.done)
        scene.expect("our error", ours.error, errno.ECONNREFUSED)


def simultaneous_open(scene: Scene) -> None:
    """The SYNs meet on the way: RFC 9293 figure 7. One connection, that carries text both ways."""
    texts = scene.text(0, SAID), scene.text(1, SAID)
    ours = StackEnd(scene.machine, texts[0])
    sock = new_socket(scene.version, 1111)
    connection = ours.connect(scene.version, 1111, own_port=2222)
    begin_connect(sock, scene.version, 2222)
    kernel = KernelEnd(scene.machine, sock, texts[1])
    states = {connection.state}

    def done() -> bool:
        states.add(connection.state)
        return kernel.done and ours.done

    scene.run(done)
    scene.expect("it was in SYN-RECEIVED", State.SYN_RECEIVED in states, True)
    scene.expect("errors", (kernel.error, ours.error), (0, 0))
    scene.expect("our stack heard", ours.heard.digest, texts[1].digest)
    scene.expect("the kernel heard", kernel.heard.digest, texts[0].digest)


def simultaneous_close(scene: Scene, opener: str) -> None:
    """The FINs meet on the way: RFC 9293 figure 13. Both ends go through CLOSING."""
    texts = scene.text(0, 0), scene.text(1, 0)
    ours = StackEnd(scene.machine, texts[0], polite=True)
    kernel = scene.pair(ours, texts[1], opener=opener, polite=True)()
    scene.run(lambda: ours.established)
    (connection,) = scene.machine.stack.connections.values()
    states: set[State] = set()

    def done() -> bool:
        states.add(connection.state)
        return ours.done and kernel.peer_ended

    scene.run(lambda: connection.unacknowledged == 0)
    connection.shutdown(scene.machine.clock())
    kernel.sock.shutdown(socket.SHUT_WR)
    scene.run(done)
    scene.expect("it was in CLOSING", State.CLOSING in states, True)
    scene.expect("our error", ours.error, 0)
    scene.expect("in TIME-WAIT", len(scene.machine.stack.time_waits.records), 1)
    scene.run(lambda: not scene.machine.stack.time_waits.records)


def short_connections(scene: Scene, opener: str, number: int = SHORT) -> None:
    """One question, one answer, and the end; very often, and many at a time."""
    machine = scene.machine
    kernels: list[KernelEnd] = []
    ours: list[StackEnd] = []

    def opened() -> KernelEnd | StackEnd:
        """One more, of which the opener asks."""
        if opener == "stack":
            ours.append(StackEnd(machine, scene.text(0, QUESTION)))
            ours[-1].connect(scene.version, PORT)
            return ours[-1]
        sock = new_socket(scene.version)
        begin_connect(sock, scene.version, PORT)
        kernels.append(KernelEnd(machine, sock, scene.text(0, QUESTION)))
        return kernels[-1]

    def accept(request: FlowRequest) -> None:
        ours.append(StackEnd(machine, scene.text(1, ANSWER), polite=True))
        ours[-1].accept(request)

    def accepted(sock: socket.socket) -> None:
        kernels.append(KernelEnd(machine, sock, scene.text(1, ANSWER), polite=True))

    scene.accept = accept
    if opener == "stack":
        serve(machine, new_socket(scene.version, PORT), accepted, backlog=2 * AT_ONCE)
    asking: list[KernelEnd | StackEnd] = []
    asked = 0

    def done() -> bool:
        nonlocal asked
        asking[:] = [end for end in asking if not end.done]
        while len(asking) < AT_ONCE and asked < number:
            asking.append(opened())
            asked += 1
        return not asking

    scene.run(done, patience=80)
    ends: list[KernelEnd | StackEnd] = [*kernels, *ours]
    scene.run(lambda: all(end.done for end in ends) and not machine.stack.connections)
    scene.expect("ends", (len(kernels), len(ours)), (number, number))
    scene.expect("errors", {end.error for end in ends}, {0})
    heard = {end.heard.digest for end in kernels}, {end.heard.digest for end in ours}
    texts = scene.text(1, ANSWER), scene.text(0, QUESTION)
    for text in texts:
        text.more()
    answer, question = texts[0].digest, texts[1].digest
    scene.expect("heard", heard, ({answer}, {question}) if opener == "kernel" else ({question}, {answer}))


ENDS = ("kernel", "stack")
Scenario = tuple[Callable[[Scene], None], dict[str, float]]
SCENARIOS: dict[str, Scenario] = {
    "simultaneous open": (simultaneous_open, SLOW),
    "simultaneous open, bad path": (simultaneous_open, {**BAD, **SLOW}),
}
"""What is played, and on which path."""
for opener in ENDS:
    for other in ENDS:
        SCENARIOS[f"half close, {opener} opens, {other} first"] = (
            partial(half_close, opener=opener, first=other),
            BAD,
        )
        SCENARIOS[f"reset, {opener} opens, by {other}"] = partial(reset, opener=opener, by=other), BAD
    SCENARIOS[f"refused, {opener} opens"] = partial(refused, opener=opener), BAD
    SCENARIOS[f"simultaneous close, {opener} opens"] = partial(simultaneous_close, opener=opener), SLOW
    SCENARIOS[f"200 connections, {opener} opens"] = (
        partial(short_connections, opener=opener, number=200),
        BAD,
    )
    SCENARIOS[f"10,000 connections, {opener} opens"] = partial(short_connections, opener=opener), SLIGHTLY_BAD


def main(name: str, version: str, seed: str, capture: str = "") -> None:
    act, faults = SCENARIOS[name]
    scene = Scene(int(version), int(seed), faults, capture)
    with scene.machine:
        act(scene)
    print(json.dumps({"failures": scene.failures}))


if __name__ == "__main__":
    main(*sys.argv[1:])
