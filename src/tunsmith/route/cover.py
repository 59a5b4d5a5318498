"""Strategy `cover`: two halves, each narrower than any default route; the machine's own stays where it is."""

from __future__ import annotations

from tunsmith.route import direct
from tunsmith.route.draft import Draft
from tunsmith.route.site import Site


def draft(site: Site, made: Draft) -> None:
    """Raises UsageError for what cannot be had without policy routing."""
    direct.escape(site, made, "cover")
    for version in site.versions:
        direct.catch(site, made, site.captured(version))
