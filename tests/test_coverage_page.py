"""docs/rfc-coverage.md says what is so."""

from __future__ import annotations

import re

from tests.coverage_page import PAGE, page

AGAIN = "docs/rfc-coverage.md is out of date: python -m tests.coverage_page"
CODE = re.compile(r"`[\w/]+\.py( [\w.]+)?`(<br>)?")


def test_the_page_is_up_to_date() -> None:
    """But for the code that names a rule, which moves with every change of a docstring."""
    assert CODE.sub("", PAGE.read_text()) == CODE.sub("", page()), AGAIN
