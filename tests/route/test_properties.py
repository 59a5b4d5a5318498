"""Any plan for any machine: it clashes with nothing, breaks nothing on its way, leads where it should, and goes
without a trace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.route.guests import GUESTS, HOSTILE
from tests.route.kernel import Packet, decide, lookup
from tests.route.machines import machine, with_guests
from tunsmith.errors import UsageError
from tunsmith.route.change import AddAddress, AddRoute, AddRule, Change, DeleteLink
from tunsmith.route.effect import apply
from tunsmith.route.facts import MAIN, Address, Link, Prefix, Route, Snapshot
from tunsmith.route.plan import Plan, plan
from tunsmith.route.site import OF_A_LINK, is_private
from tunsmith.route.uplink import WIDE, catches_all
from tunsmith.route.wish import Wish

PREFIXES = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/0", "::/0", "10.0.0.0/8", "10.66.0.0/16", "192.168.0.0/16", "192.168.7.0/24", "192.168.7.64/26",
        "198.51.100.0/24", "9.9.9.9/32", "8.8.8.0/24", "100.64.0.0/10", "172.17.0.0/16", "2000::/3", "fd07::/64",
        "2606:4700::/32", "2606:4700:1::/48",
    )
)  # fmt: skip
ADDRESSES = tuple(
    ip_address(each)
    for each in (
        "1.1.1.1", "8.8.8.8", "9.9.9.9", "9.9.9.200", "198.51.100.1", "198.51.100.200", "203.0.113.9", "192.168.7.9",
        "192.168.7.70", "192.168.9.9", "10.66.0.1", "10.67.3.3", "100.100.2.2", "172.17.0.2", "169.254.169.254",
        "224.0.0.251", "255.255.255.255", "198.18.7.7", "2606:4700::1", "2606:4700:1::1", "2a00::1", "fd07::9",
        "fd7a:115c:a1e0::9", "2001:2::77",
    )
)  # fmt: skip
some = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much]
)
prefixes = st.lists(st.sampled_from(PREFIXES), max_size=3, unique=True).map(tuple)


@dataclass(frozen=True)
class Host:
    """A machine in few words."""

    guests: tuple[int, ...] = ()
    has_default: bool = True
    has_force_forwarding: bool = True
    served: tuple[int, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()

    def snapshot(self) -> Snapshot:
        plain = machine(has_default=self.has_default, served=self.served, changed=dict(self.changed))
        host = with_guests(plain, [GUESTS[index] for index in self.guests])
        kept = {
            path: value
            for path, value in host.settings.items()
            if self.has_force_forwarding or "force_" not in path
        }
        return replace(host, settings=kept)


_SWITCHES = {
    "net/ipv4/conf/all/rp_filter": "012",
    "net/ipv4/conf/eth0/rp_filter": "012",
    "net/ipv4/conf/eth0/src_valid_mark": "01",
    "net/ipv6/conf/all/forwarding": "01",
    "net/ipv6/conf/eth0/forwarding": "01",
    "net/ipv6/conf/default/disable_ipv6": "01",
}
hosts = st.builds(
    Host,
    st.lists(st.integers(0, len(GUESTS) - 1), max_size=4, unique=True).map(tuple),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(1, 65535), max_size=4, unique=True).map(tuple),
    st.tuples(*(st.tuples(st.just(path), st.sampled_from(values)) for path, values in _SWITCHES.items())),
)


@st.composite
def wishes(
    draw: st.DrawFn, strategies: tuple[str, ...] = ("auto", "mark", "interface", "replace", "cover")
) -> Wish:
    include, exclude = draw(prefixes), draw(prefixes)
    strategy = draw(st.sampled_from(strategies))
    servers = (ip_address("203.0.113.77"), ip_address("192.168.7.8"), ip_address("2a00::77"))
    return Wish(
        include=tuple(each for each in include if each not in exclude),
        exclude=exclude,
        servers=draw(st.sampled_from(((), servers))),
        interface=draw(st.sampled_from(("", "eth0"))),
        strategy=strategy,
        strict=draw(st.booleans()) and strategy not in ("replace", "cover"),
        gateway=draw(st.booleans()),
        fail_closed=draw(st.booleans()),
        nft=draw(st.booleans()),
    )


def planned(wish: Wish, host: Snapshot) -> Plan:
    try:
        return plan(wish, host)
    except UsageError:
        assume(False)
        raise


def with_tun(host: Snapshot, name: str) -> Snapshot:
    """The TUN is open."""
    switches = {path.replace("/eth0/", f"/{name}/"): "0" for path in host.settings if "/eth0/" in path}
    return replace(
        host, links=(*host.links, Link(name, 99, "tun", up=False)), settings={**host.settings, **switches}
    )


def without_tun(host: Snapshot, name: str) -> Snapshot:
    """The TUN is closed: what led to it is gone."""
    return apply(DeleteLink(name), host)


def carried_out(host: Snapshot, changes: Iterable[Change], tun: str) -> Snapshot:
    host = with_tun(host, tun)
    for change in changes:
        host = apply(change, host)
    return host


def as_set(host: Snapshot) -> tuple[object, ...]:
    """Two of these are equal where nobody could tell the machines apart."""
    return (
        set(host.links),
        set(host.addresses),
        sorted(map(repr, host.routes)),
        host.rules,
        dict(host.settings),
        host.firewalls,
    )


@some
@given(wishes(), hosts)
def test_what_is_made_and_taken_back_leaves_nothing(wish: Wish, picture: Host) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    for count in range(len(made.changes) + 1):
        now = carried_out(host, made.changes[:count], made.tun)
        for change in reversed(made.changes[:count]):
            undo = change.undo()
            now = apply(undo, now) if undo is not None else now
        assert as_set(without_tun(now, made.tun)) == as_set(host)


@some
@given(wishes(), hosts)
def test_a_plan_uses_nothing_that_is_in_use(wish: Wish, picture: Host) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    used = {route.table for route in host.routes} | {rule.table for rule in host.rules}
    seen = {(route.table, route.prefix, route.metric) for route in host.routes}
    now = host
    for change in made.changes:
        if isinstance(change, AddRoute):
            place = change.route.table, change.route.prefix, change.route.metric
            assert place not in seen
            seen.add(place)
            assert change.route.table == MAIN or change.route.table not in used
        if isinstance(change, AddRule):
            assert change.rule not in now.rules
            assert all(
                rule.priority != change.rule.priority
                for rule in host.rules
                if rule.version == change.rule.version and made.changes and catches_all(rule, host)
            )
    if made.mark:
        assert not any(mark & made.mark for mark, _ in host.marks)


@some
@given(wishes(), hosts, st.sampled_from(ADDRESSES))
def test_killed_anywhere_it_leaves_the_machine_with_its_ways(wish: Wish, picture: Host, to: Address) -> None:
    """Not if it is to fail closed."""
    assume(not wish.fail_closed)
    host = picture.snapshot()
    made = planned(wish, host)
    before = lookup(host, Packet(to))
    for count in range(len(made.changes) + 1):
        alive = carried_out(host, made.changes[:count], made.tun)
        way = lookup(alive, Packet(to))
        assert way is not None or before is None
        assert way == before or is_like(way, before) or (way is not None and way.device == made.tun)
        assert is_like(lookup(without_tun(alive, made.tun), Packet(to)), before)


def is_like(route: Route | None, other: Route | None) -> bool:
    """They lead to the same place."""
    if route is None or other is None:
        return route is other
    return (route.device, route.gateway) == (other.device, other.gateway) or route.prefix in OF_A_LINK


def wanted(wish: Wish, host: Snapshot, made: Plan, to: Address) -> bool:
    """Whether an ordinary packet to `to` belongs into the TUN: said once more, without tables and rules."""
    found = decide(host, Packet(to))
    if found is not None and not catches_all(found[0], host):
        neutral = found[0].table == MAIN and found[0].suppress_prefixlength >= 0
        if not neutral:
            return False  # a rule of somebody else is about it
    own = [address.network for address in wish.addresses if address.version == to.version]
    include = [*wish.included(to.version), *own]
    spared = [*wish.excluded(to.version), *OF_A_LINK]
    length_in = longest(to, include)
    if length_in < 0 or longest(to, [each for each in spared if each not in include]) > length_in:
        return False
    narrow = [
        route.prefix
        for route in host.routes
        if route.table == MAIN and route.prefix.prefixlen > WIDE[to.version] and route.prefix.version == to.version
        and (not wish.strict or (route.protocol == 2 and is_private(route.prefix)))
    ]  # fmt: skip
    return longest(to, narrow) <= length_in


def longest(to: Address, prefixes: Iterable[Prefix]) -> int:
    return max((each.prefixlen for each in prefixes if to in each), default=-1)


@some
@given(wishes(("auto", "mark", "interface")), hosts, st.sampled_from(ADDRESSES))
def test_traffic_goes_where_it_was_wished(wish: Wish, picture: Host, to: Address) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    now = carried_out(host, made.changes, made.tun)
    before, after = lookup(host, Packet(to)), lookup(now, Packet(to))
    has_ipv6 = any(change.rule.version == 6 for change in made.changes if isinstance(change, AddRule))
    if wanted(wish, host, made, to) and (to.version == 4 or has_ipv6):
        assert after is not None
        assert after.device == made.tun
    else:
        assert is_like(after, before)


@some
@given(wishes(("replace", "cover")), hosts, st.sampled_from(ADDRESSES))
def test_traffic_goes_where_it_was_wished__routes_in_main(wish: Wish, picture: Host, to: Address) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    now = carried_out(host, made.changes, made.tun)
    before, after = lookup(host, Packet(to)), lookup(now, Packet(to))
    is_ours = any(
        isinstance(change, AddAddress) and change.address.version == to.version for change in made.changes
    )
    if wanted(wish, host, made, to) and is_ours:
        assert after is not None
        assert after.device == made.tun
    else:
        assert is_like(after, before)


@some
@given(wishes(("mark",)), hosts, st.sampled_from(ADDRESSES))
def test_our_own_sockets_go_as_before__mark(wish: Wish, picture: Host, to: Address) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    now = carried_out(host, made.changes, made.tun)
    assert lookup(now, Packet(to, mark=made.mark)) == lookup(host, Packet(to))


@some
@given(wishes(("interface", "replace", "cover")), hosts, st.sampled_from(ADDRESSES))
def test_our_own_sockets_go_as_before__bound_to_the_uplink(wish: Wish, picture: Host, to: Address) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    assume(made.must_pin and made.pin)
    now = carried_out(host, made.changes, made.tun)
    before, after = lookup(host, Packet(to, oif=made.pin)), lookup(now, Packet(to, oif=made.pin))
    assert is_like(after, before)


@some
@given(wishes(("replace", "cover")), hosts)
def test_the_proxy_is_reached_as_before__direct_routes(wish: Wish, picture: Host) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    assume(wish.servers and not made.must_pin)
    now = carried_out(host, made.changes, made.tun)
    for server in wish.servers:
        if not wish.interface:
            assert is_like(lookup(now, Packet(server)), lookup(host, Packet(server)))


@some
@given(wishes(), hosts, st.sampled_from(ADDRESSES))
def test_nothing_gets_past_once_we_are_dead__fail_closed(wish: Wish, picture: Host, to: Address) -> None:
    wish = replace(wish, fail_closed=True)
    host = picture.snapshot()
    made = planned(wish, host)
    now = carried_out(host, made.changes, made.tun)
    way = lookup(now, Packet(to))
    assume(way is not None and way.device == made.tun and to not in ip_network("198.18.0.0/15"))
    assume(to not in ip_network("2001:2::/48"))
    for change in reversed(made.changes):
        undo = change.undo()
        if undo is not None and change not in made.blocks:
            now = apply(undo, now)
    assert lookup(without_tun(now, made.tun), Packet(to)) is None


@some
@given(wishes(("mark", "interface")), hosts)
def test_a_hostile_route_pulls_nothing_out__strict(wish: Wish, picture: Host) -> None:
    wish = replace(wish, strict=True, include=(), exclude=())
    host = picture.snapshot()
    made = planned(wish, host)
    now = carried_out(host, made.changes, made.tun)
    hostile = replace(now, routes=(*now.routes, *HOSTILE.routes))
    for to in ("9.9.9.9", "198.51.100.1"):
        way = lookup(hostile, Packet(ip_address(to)))
        assert way is not None
        assert way.device == made.tun


@some
@given(wishes(("auto", "mark", "interface")), hosts)
def test_what_is_forwarded_is_left_alone_without_gateway(wish: Wish, picture: Host) -> None:
    host = picture.snapshot()
    made = planned(wish, host)
    now = carried_out(host, made.changes, made.tun)
    through = Packet(ip_address("1.1.1.1"), iif="docker0")
    taken = wish.gateway and longest(through.to, wish.included(4)) > longest(through.to, wish.excluded(4))
    if not taken:
        assert lookup(now, through) == lookup(host, through)
