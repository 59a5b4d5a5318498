"""What the `with` lines of a script make of our stack's configuration."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from tunsmith.stack.config import StackConfig
from tunsmith.testing.script.parser import ScriptError

PLAIN = StackConfig(timestamps=False, sack=False, window_scaling=False, receive_buffer_limit=0)
"""No options but the MSS, no buffer that grows: a script sees nothing that it did not ask for."""
WORDS: dict[str, Any] = {"on": True, "off": False}
NAMES = frozenset(field.name for field in fields(StackConfig))


def configured(settings: dict[str, str], file: str) -> StackConfig:
    """The configuration that `with` lines ask for: names are those of StackConfig. Raises ScriptError."""
    values: dict[str, Any] = {}
    for name, word in settings.items():
        if name not in NAMES:
            raise ScriptError(f"{file}: a stack has no setting {name!r}")
        if isinstance(getattr(PLAIN, name), str):
            values[name] = word
            continue
        if word in WORDS:
            values[name] = WORDS[word]
            continue
        try:
            values[name] = float(word) if isinstance(getattr(PLAIN, name), float) else int(word, 0)
        except ValueError:
            raise ScriptError(f"{file}: {name} cannot be {word!r}") from None
    try:
        return replace(PLAIN, **values)
    except ValueError as error:
        raise ScriptError(f"{file}: {error}") from None
