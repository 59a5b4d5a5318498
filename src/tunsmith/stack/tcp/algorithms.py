"""The congestion control algorithms that have a name."""

from __future__ import annotations

from collections.abc import Callable

from tunsmith.stack.tcp.congestion import Congestion
from tunsmith.stack.tcp.cubic import Cubic
from tunsmith.stack.tcp.reno import Reno

Factory = Callable[[int, int], Congestion]
"""Makes an algorithm for one connection, of its MSS and its initial window in bytes."""

ALGORITHMS: dict[str, Factory] = {"cubic": Cubic, "reno": Reno}


def algorithm(choice: str | Factory) -> Factory:
    """What `StackConfig.congestion` stands for."""
    return ALGORITHMS[choice] if isinstance(choice, str) else choice
