"""What the keeper of a crew tells its workers: functions, pickled, one in a message.

The first is the *job*, which makes the worker's engine; what follows are *orders*, each done to that engine, like
`methodcaller("on_resumed")`. The other end of the socket is our own parent and nobody else.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunsmith.dns.slots import Slots
    from tunsmith.engine import Engine

    Job = Callable[[int, Slots], Engine]
    """Makes the engine for the open TUN queue of that descriptor."""
    Order = Callable[[Engine], object]

_ROOM = 1 << 17


def send(sock: socket.socket, message: Job | Order) -> None:
    """Tell a worker. Raises OSError where it has ended."""
    sock.send(pickle.dumps(message))


def receive(sock: socket.socket) -> Any:
    """Be told. Raises EOFError where the keeper has ended, or wants us to."""
    data = sock.recv(_ROOM)
    if not data:
        raise EOFError
    return pickle.loads(data)
