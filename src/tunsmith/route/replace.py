"""Strategy `replace`: the TUN's default route comes before the machine's own.

Where the metric of the machine's own leaves room, ours is better, and that is all. Where it is the best there is,
ours and a copy of the machine's own are put behind it, and then it is deleted: in this one step ours holds. There
is no moment without a default route, and when the TUN goes without a word the copy holds.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from tunsmith.route import direct
from tunsmith.route.change import AddRoute, Change, DeleteRoute
from tunsmith.route.draft import Draft
from tunsmith.route.facts import ANY4, ANY6, MAIN, OURS
from tunsmith.route.site import Site, into, route
from tunsmith.route.uplink import is_wide

_BEST = {4: 0, 6: 1}
"""The best metric: IPv6 takes 0 for 1024."""


def draft(site: Site, made: Draft) -> None:
    """Raises UsageError for what cannot be had without policy routing."""
    direct.escape(site, made, "replace")
    for version in site.versions:
        captured = site.captured(version)
        in_one = [] if _has_cover(site, version) else [each for each in captured if not each.prefixlen]
        direct.catch(site, made, [each for each in captured if each not in in_one])
        if in_one:
            reason = f"the default route of IPv{version} goes into {site.tun}; the machine's own stands by"
            made.add(reason, _default(site, version), blocks=True)


def _has_cover(site: Site, version: int) -> bool:
    """Somebody has narrower routes before the default route, so that replacing it would change nothing."""
    wide = (
        each for each in site.snapshot.routes if each.table == MAIN and is_wide(each) and not each.is_default
    )
    return any(each.prefix.version == version for each in wide)


def _default(site: Site, version: int) -> list[Change]:
    theirs = site.snapshot.default_routes(version)
    taken = {each.metric for each in theirs}
    room = 2 if site.wish.fail_closed else 1
    metric = next(first for first in count(_BEST[version]) if taken.isdisjoint(range(first, first + room)))
    ahead = [each for each in theirs if each.metric < metric]
    free = (each for each in count(metric + room) if each not in taken)
    everything = ANY4 if version == 4 else ANY6
    changes: list[Change] = [AddRoute(replace(each, metric=next(free), protocol=OURS)) for each in ahead]
    changes.append(AddRoute(into(site.tun, everything, MAIN, metric=metric), transient=site.transient))
    if site.wish.fail_closed:
        changes.append(AddRoute(route(everything, MAIN, kind="unreachable", metric=metric + 1)))
    return [*changes, *(DeleteRoute(each) for each in reversed(ahead))]
