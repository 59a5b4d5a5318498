"""What a worker is told when it starts."""

from __future__ import annotations

import pickle
import socket
from dataclasses import dataclass

from tunsmith.config import Settings

_ROOM = 1 << 16


@dataclass(frozen=True, slots=True)
class Job:
    """All that the engine of a worker is made of. `via` is the upstream's URL, `interface` and `mark` are how its
    sockets leave; `offload` and `mtu` are those of the TUN."""

    via: str
    interface: str | None
    mark: int
    settings: Settings
    offload: int
    mtu: int
    verbose: bool = False
    json: bool = False


def send(sock: socket.socket, job: Job) -> None:
    """Tell the worker at the other end of `sock`, its own child."""
    sock.send(pickle.dumps(job))


def receive(sock: socket.socket) -> Job:
    """Be told, by our parent: nobody else has the other end. Raises EOFError where it has ended."""
    data = sock.recv(_ROOM)
    if not data:
        raise EOFError
    job: Job = pickle.loads(data)
    return job
