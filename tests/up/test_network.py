"""The network of a TUN, alone and beside others."""

from __future__ import annotations

from ipaddress import IPv4Interface

import pytest

from tunsmith.config import Network
from tunsmith.errors import UsageError
from tunsmith.route.facts import LinkAddress, Snapshot
from tunsmith.up.network import SHARES, addresses, network_for


def beside(*networks: Network) -> Snapshot:
    return Snapshot(addresses=tuple(LinkAddress("tun0", IPv4Interface(each.inside)) for each in networks))


def test_who_takes_everything_has_the_whole() -> None:
    assert network_for(True, Snapshot()) == Network()
    assert [str(each) for each in addresses(Network())] == ["198.18.0.1/15", "2001:2::1/48"]


def test_others_have_a_share_that_nobody_else_has() -> None:
    found: list[Network] = []
    for _ in range(SHARES):
        found.append(network_for(False, beside(*found)))
    assert len({each.fake for each in found}) == len({each.fake6 for each in found}) == SHARES
    for each in found:
        assert {each.inside, each.gateway} <= set(each.fake.hosts())
        assert each.fake.subnet_of(Network().fake)
        assert each.fake6.subnet_of(Network().fake6)
    with pytest.raises(UsageError, match="there can be no more"):
        network_for(False, beside(*found))


def test_interface_that_is_to_be_used_is_no_obstacle() -> None:
    first = network_for(False, Snapshot())
    assert network_for(False, beside(first), but=("tun0",)) == first
