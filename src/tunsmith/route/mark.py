"""Strategy `mark`: a table of our own for all that does not bear our mark; our sockets bear it."""

from __future__ import annotations

from tunsmith.errors import UsageError
from tunsmith.route import policy
from tunsmith.route.draft import Draft
from tunsmith.route.site import Site


def draft(site: Site, made: Draft) -> None:
    """Raises UsageError where no mark is free."""
    mark = site.numbers.mark
    if not mark:
        raise UsageError("every bit of the firewall mark is in use here; try --strategy interface")
    made.mark, made.pin = mark, site.wish.interface
    policy.catch(site, made, mark=mark)
