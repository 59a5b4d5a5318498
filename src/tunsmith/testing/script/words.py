"""The words of a line, and what numbers and ranges look like."""

from __future__ import annotations

import re

from tunsmith.testing.script.statements import Range

NUMBER = re.compile(r"-?\d+(\.\d+)?")
UNBOUNDED = 1 << 64


class Wrong(Exception):
    """What is wrong with a line."""


class Words:
    """The words of a line, taken one after the other."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._words)

    @property
    def next(self) -> str:
        """The next word, which stays; empty at the end."""
        return self._words[self._at] if self else ""

    def take(self, what: str) -> str:
        """The next word; `what` is what it should be."""
        if not self:
            raise Wrong(f"{what} is missing")
        self._at += 1
        return self._words[self._at - 1]

    def skip(self, word: str) -> bool:
        """Take the next word if it is `word`."""
        if self.next != word:
            return False
        self._at += 1
        return True

    def integer(self, what: str, most: int = UNBOUNDED) -> int:
        """The next word, a whole number from 0 to `most`."""
        word = self.take(what)
        try:
            number = int(word, 0)
        except ValueError:
            raise Wrong(f"{what} should be a whole number, not {word!r}") from None
        if most < UNBOUNDED and not 0 <= number <= most:
            raise Wrong(f"{what} is 0 to {most}, not {number}")
        return number

    def seconds(self, what: str) -> float:
        """The next word, a number."""
        return number_in(self.take(what), what)

    def span(self, what: str) -> Range:
        """The next word, a number or a range."""
        return range_in(self.take(what), what)

    def end(self) -> None:
        """Nothing may follow."""
        if self:
            raise Wrong(f"{self.next!r} is not understood here")


def number_in(word: str, what: str) -> float:
    """The number that `word` is."""
    if not NUMBER.fullmatch(word):
        raise Wrong(f"{what} should be a number, not {word!r}")
    return float(word)


def range_in(word: str, what: str) -> Range:
    """`5`, or `4..6`."""
    low, dots, high = word.partition("..")
    first = number_in(low, what)
    span = Range(first, number_in(high, what) if dots else first)
    if span.high < span.low:
        raise Wrong(f"{what}: {word} ends before it begins")
    return span
