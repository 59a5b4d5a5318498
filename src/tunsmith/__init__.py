"""TUN networking in pure Python: a user-space TCP/IP stack, a proxy, a private network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunsmith.aio.stack import Stack as Stack
    from tunsmith.device.memory import MemoryDevice as MemoryDevice
    from tunsmith.stack.config import StackConfig as StackConfig

__version__ = "0.1.0"

_WHERE = {
    "MemoryDevice": "tunsmith.device.memory",
    "Stack": "tunsmith.aio.stack",
    "StackConfig": "tunsmith.stack.config",
}
"""Names that are imported when they are first used: `import tunsmith` costs nothing."""


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'tunsmith' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
