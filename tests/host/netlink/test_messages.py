"""host/netlink: what a request says is what would be read out of it; nothing of a noun gets lost on the way."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.host.netlink.addresses import pack_address, read_address
from tunsmith.host.netlink.attributes import as_number, as_text, attribute, attributes, number, text
from tunsmith.host.netlink.routes import pack_route, read_route, settled
from tunsmith.host.netlink.rules import pack_rule, read_rule
from tunsmith.route.facts import Address, LinkAddress, Prefix, Route, Rule

NAMES = {3: "uplink", 7: "tun0", 2_000_000: "veth1234567890a"}
INDEXES = {name: index for index, name in NAMES.items()}
numbers = st.integers(1, 2**32 - 1)
small = st.integers(0, 255)
versions = st.sampled_from((4, 6))


def addresses_of(version: int) -> st.SearchStrategy[Address]:
    return st.ip_addresses(v=4 if version == 4 else 6)


@st.composite
def prefixes_of(draw: st.DrawFn, version: int) -> Prefix:
    longest = 32 if version == 4 else 128
    return ip_network((draw(addresses_of(version)), draw(st.integers(0, longest))), strict=False)


@st.composite
def all_routes(draw: st.DrawFn) -> Route:
    version = draw(versions)
    kind = draw(st.sampled_from(("unicast", "unreachable", "blackhole", "prohibit", "throw", "local")))
    unicast = kind in ("unicast", "local")
    rest = attribute(8, number(2, draw(numbers))).hex() if draw(st.booleans()) else ""  # RTA_METRICS
    return Route(
        draw(prefixes_of(version)),
        draw(st.sampled_from(list(INDEXES))) if unicast else "",
        draw(st.none() | addresses_of(version) | addresses_of(6)) if unicast else None,
        draw(numbers),
        draw(st.just(0) | numbers),
        kind,
        draw(small),
        draw(st.sampled_from((0, 200, 253, 254))) if version == 4 else 0,
        draw(st.none() | addresses_of(version)),
        unicast and draw(st.booleans()),
        False,
        draw(small) if version == 4 else 0,
        rest,
    )


@st.composite
def all_rules(draw: st.DrawFn) -> Rule:
    version = draw(versions)
    mask = draw(st.just(0) | numbers)
    action = draw(st.sampled_from(("lookup", "goto", "nop", "blackhole", "unreachable", "prohibit")))
    ports = draw(st.just((0, 0)) | st.tuples(st.integers(1, 65535), st.integers(1, 65535)))
    selecting = st.none() | prefixes_of(version).filter(lambda prefix: prefix.prefixlen > 0)
    return Rule(
        version,
        draw(numbers),
        draw(numbers) if action == "lookup" else 0,
        action,
        draw(st.booleans()),
        draw(numbers) if mask else 0,
        mask,
        draw(st.sampled_from(("", *INDEXES))),
        draw(st.sampled_from(("", *INDEXES))),
        draw(selecting),
        draw(selecting),
        draw(small),
        ports,
        draw(st.integers(-1, 128)),
        draw(numbers) if action == "goto" else 0,
        draw(small),
        source_ports=draw(st.just((0, 0)) | st.tuples(st.integers(1, 65535), st.integers(1, 65535))),
    )


@given(all_routes())
def test_a_route_survives_its_message(route: Route) -> None:
    assert read_route(pack_route(route, INDEXES.__getitem__), NAMES.__getitem__) == settled(route)


@given(all_routes())
def test_a_route_that_the_kernel_told_is_settled(route: Route) -> None:
    assert settled(settled(route)) == settled(route)


@given(all_rules())
def test_a_rule_survives_its_message(rule: Rule) -> None:
    assert read_rule(pack_rule(rule)) == rule


@given(st.data(), versions)
def test_an_address_survives_its_message(data: st.DataObject, version: int) -> None:
    length = data.draw(st.integers(0, 32 if version == 4 else 128))
    address = ip_interface((data.draw(addresses_of(version)), length))
    peer = data.draw(st.none() | addresses_of(version).filter(lambda peer: peer != address.ip))
    told = read_address(pack_address(7, address, peer), NAMES.__getitem__)
    assert told == LinkAddress("tun0", address, peer)


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=300)), unique_by=lambda each: each[0]))
def test_attributes_survive(items: list[tuple[int, bytes]]) -> None:
    assert attributes(b"".join(attribute(kind, value) for kind, value in items)) == dict(items)


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_reader(data: bytes) -> None:
    for kind, value in attributes(data).items():
        assert 0 <= kind <= 0x3FFF
        as_number(value)
        as_text(value)


def test_the_last_of_a_type_counts_and_what_is_cut_short_does_not() -> None:
    data = number(5, 1) + number(5, 2) + number(6, 3)
    assert {kind: as_number(value) for kind, value in attributes(data[:-1]).items()} == {5: 2}


def test_a_name_ends_with_a_zero_byte() -> None:
    assert text(3, "tun0") == b"\x09\x00\x03\x00tun0\x00\x00\x00\x00"


def test_an_ipv6_gateway_of_an_ipv4_route_is_rta_via() -> None:
    route = Route(ip_network("10.0.0.0/8"), "tun0", IPv6Address("fe80::1"))
    assert (
        attributes(pack_route(route, INDEXES.__getitem__), 12)[18]
        == b"\x0a\x00" + IPv6Address("fe80::1").packed
    )
    assert 5 not in attributes(pack_route(route, INDEXES.__getitem__), 12)


def test_a_gateway_of_the_same_family_is_rta_gateway() -> None:
    route = Route(ip_network("10.0.0.0/8"), "tun0", IPv4Address("10.9.0.1"))
    assert attributes(pack_route(route, INDEXES.__getitem__), 12)[5] == IPv4Address("10.9.0.1").packed
