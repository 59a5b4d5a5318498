"""Who we are to a proxy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """User name and password, as bytes because no proxy protocol says which characters they are.
    Never printed."""

    user: bytes
    password: bytes

    def __repr__(self) -> str:
        return "Credentials(...)"
