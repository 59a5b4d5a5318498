"""Types of options that commands share. Each looks at its value where it stands, so that a configuration file can
name every fault with its line, and returns the text as it is. All raise UsageError."""

from __future__ import annotations


def upstream(text: str) -> str:
    """An upstream URL."""
    from tunsmith.dial.url import parse_upstream

    parse_upstream(text)
    return text


def publish(text: str) -> str:
    """A port to publish."""
    from tunsmith.cli.publish import parse_publish

    parse_publish(text)
    return text
