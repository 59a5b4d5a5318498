"""Strategy `interface`: a table of our own for everything; our sockets are bound to the uplink.

A socket that is bound to an interface (SO_BINDTODEVICE, IP_UNICAST_IF) finds no route to the TUN in our table, for
that one leads out of another interface, and goes on to main. Only a route that leads nowhere would stop it there:
failing closed needs a rule before it.
"""

from __future__ import annotations

from tunsmith.route import policy
from tunsmith.route.draft import Draft
from tunsmith.route.site import Site


def draft(site: Site, made: Draft) -> None:
    made.pin, made.must_pin = site.pin(), True
    if not made.pin:
        made.notes.append("there is no uplink yet: nothing can be reached until there is one")
    escape = made.pin if site.wish.fail_closed else ""
    policy.catch(site, made, mark=site.numbers.mark if site.wish.nft else 0, escape=escape)
