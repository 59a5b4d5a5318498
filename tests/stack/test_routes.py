from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stack.port import Port, packed
from tunsmith.errors import UsageError
from tunsmith.stack.nic import Nic
from tunsmith.stack.routes import Route, RouteTable, parse_route

NIC, OTHER = Nic(Port()), Nic(Port())


def _table(*networks: str) -> RouteTable:
    table = RouteTable()
    for network in networks:
        table.add(parse_route(network, NIC))
    return table


def _found(table: RouteTable, address: str) -> str | None:
    route = table.find(packed(address))
    return None if route is None else str(route.network)


def test_longest_prefix_wins() -> None:
    table = _table("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "fd00::/8")
    assert _found(table, "10.1.2.3") == "10.1.2.3/32"
    assert _found(table, "10.1.2.4") == "10.1.0.0/16"
    assert _found(table, "10.9.9.9") == "10.0.0.0/8"
    assert _found(table, "11.0.0.1") == "0.0.0.0/0"
    assert _found(table, "fd12::1") == "fd00::/8"
    assert _found(table, "2001:db8::1") == "::/0"


def test_no_route() -> None:
    assert _found(_table("10.0.0.0/8"), "11.0.0.1") is None
    assert _found(_table("10.0.0.0/8"), "::a00:1") is None


def test_smallest_metric_wins_and_the_older_of_two() -> None:
    table = RouteTable()
    routes = [
        parse_route("10.0.0.0/8", NIC, f"192.0.2.{number}", metric)
        for number, metric in ((1, 5), (2, 3), (3, 3))
    ]
    for route in routes:
        table.add(route)
    assert table.find(packed("10.0.0.1")) == routes[1]
    table.remove(routes[1])
    assert table.find(packed("10.0.0.1")) == routes[2]
    table.remove(routes[2])
    table.remove(routes[0])
    assert table.find(packed("10.0.0.1")) is None
    with pytest.raises(KeyError):
        table.remove(routes[0])


def test_all_routes_the_most_particular_first() -> None:
    table = _table("0.0.0.0/0", "10.0.0.1/32", "10.0.0.0/8")
    assert [str(route.network) for route in table] == ["10.0.0.1/32", "10.0.0.0/8", "0.0.0.0/0"]


@pytest.mark.parametrize(
    ("network", "gateway"),
    [("10.0.0.1/8", None), ("nonsense", None), ("10.0.0.0/8", "nonsense"), ("10.0.0.0/8", "fd00::1")],
)
def test_impossible_routes(network: str, gateway: str | None) -> None:
    with pytest.raises(UsageError, match="no route to"):
        parse_route(network, NIC, gateway)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFFFFFF), st.integers(0, 32), st.integers(0, 3), st.sampled_from([NIC, OTHER])
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=10),
)
def test_it_finds_what_looking_at_every_route_finds(wishes, destinations) -> None:
    routes = [
        Route(ip_network((number, length), strict=False), nic, None, metric)
        for number, length, metric, nic in wishes
    ]
    table = RouteTable()
    for route in routes:
        table.add(route)
    for number in destinations:
        destination = ip_address(number)
        fitting = [route for route in routes if destination in route.network]
        best = min(fitting, key=lambda route: (-route.network.prefixlen, route.metric), default=None)
        assert table.find(destination.packed) == best
