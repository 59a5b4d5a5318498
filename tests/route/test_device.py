"""route/device.py: a TUN set up by hand, or what a found one lacks; and what there can be none like."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from tunsmith.errors import UsageError
from tunsmith.route.change import AddAddress, AddLink, SetLink
from tunsmith.route.device import DeviceWish, as_it_is, set_up
from tunsmith.route.facts import Link, LinkAddress, Snapshot

TUN = AddLink("tun7", user=1000)
V4, V6 = ip_interface("10.7.0.1/24"), ip_interface("fd07::1/64")
UP = Link("tun7", 3, "tun", up=True, mtu=1400)


def test_what_is_not_there_is_made_and_set_up() -> None:
    wish = DeviceWish(TUN, (V4, V6, V4), 9000, up=True)
    assert set_up(wish, None, Snapshot()) == [
        TUN,
        SetLink("tun7", True, 9000, was_up=False, was_mtu=1500),
        AddAddress("tun7", V4),
        AddAddress("tun7", V6),
    ]


def test_without_options_it_is_only_made() -> None:
    assert set_up(DeviceWish(TUN), None, Snapshot()) == [TUN]


def test_to_what_is_there_only_what_it_lacks_is_added() -> None:
    snapshot = Snapshot(links=(UP,), addresses=(LinkAddress("tun7", V4),))
    assert set_up(DeviceWish(TUN, (V4, V6)), TUN, snapshot) == [AddAddress("tun7", V6)]
    assert set_up(DeviceWish(TUN, (V4,), 1400, up=True), TUN, snapshot) == []
    assert set_up(DeviceWish(TUN, (V4,), 1500), TUN, snapshot) == [
        SetLink("tun7", True, 1500, was_up=True, was_mtu=1400)
    ]


def test_what_it_is_set_up_as_is_what_it_is_then() -> None:
    """The undo of a deletion makes it again."""
    snapshot = Snapshot(links=(UP,), addresses=(LinkAddress("tun7", V4), LinkAddress("tun7", V6)))
    link_local = LinkAddress("tun7", ip_interface("fe80::1/64"), scope=253)
    again = as_it_is(TUN, Snapshot(links=(UP,), addresses=(*snapshot.addresses, link_local)))
    assert again == set_up(DeviceWish(TUN, (V4, V6), 1400, up=True), None, Snapshot())


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "no TUN or TAP"),
        (AddLink("tun7"), "a TUN for root with one queue, not a TUN for user 1000 with one queue"),
        (AddLink("tun7", tap=True, user=1000), "a TAP for user 1000"),
        (AddLink("tun7", user=1000, group=50), "a TUN for user 1000 and group 50"),
        (AddLink("tun7", user=1000, many_queues=True), "with many queues"),
    ],
)
def test_another_of_that_name_is_not_touched(found: AddLink | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        set_up(DeviceWish(TUN, (V4,)), found, Snapshot(links=(UP,)))


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        (LinkAddress("eth0", ip_interface("10.7.0.1/8")), "eth0 has the address 10.7.0.1/8 already"),
        (LinkAddress("tun7", ip_interface("10.7.0.1/25")), "tun7 has the address 10.7.0.1/25 already"),
    ],
)
def test_an_address_that_somebody_has_is_refused(holder: LinkAddress, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        set_up(DeviceWish(TUN, (V4,)), TUN, Snapshot(links=(UP,), addresses=(holder,)))


def test_where_ipv6_is_switched_off_an_address_of_it_is_refused() -> None:
    settings = {"net/ipv6/conf/default/disable_ipv6": "1"}
    with pytest.raises(UsageError, match="IPv6 is switched off"):
        set_up(DeviceWish(TUN, (V6,)), None, Snapshot(settings=settings))
    assert set_up(DeviceWish(TUN, (V4,)), None, Snapshot(settings=settings))
    own = {**settings, "net/ipv6/conf/tun7/disable_ipv6": "0"}
    assert set_up(DeviceWish(TUN, (V6,)), TUN, Snapshot(links=(UP,), settings=own))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0/0",
        "::/0",
        "127.0.0.2/8",
        "::1/128",
        "224.0.0.1/24",
        "ff02::1/64",
        "255.255.255.255/32",
        "10.7.0.0/24",
        "10.7.0.255/24",
    ],
)
def test_what_no_interface_can_have_as_its_address(address: str) -> None:
    with pytest.raises(UsageError, match=address):
        DeviceWish(TUN, (ip_interface(address),))


@pytest.mark.parametrize("address", ["10.7.0.0/31", "10.7.0.1/32", "fd07::/64"])
def test_what_only_looks_like_that(address: str) -> None:
    DeviceWish(TUN, (ip_interface(address),))


@pytest.mark.parametrize("mtu", [67, 65536, -1])
def test_mtus_that_there_are_not(mtu: int) -> None:
    with pytest.raises(UsageError, match=f"MTU of {mtu}"):
        DeviceWish(TUN, mtu=mtu)


def test_ipv6_needs_1280__rfc8200_5() -> None:
    with pytest.raises(UsageError, match="1280"):
        DeviceWish(TUN, (V6,), mtu=1279)
    DeviceWish(TUN, (V6,), mtu=1280)
    DeviceWish(TUN, (V4,), mtu=1279)


@pytest.mark.parametrize("name", ["", "tun/7", "a" * 16, "all", "tun 7", ".."])
def test_names_that_there_are_not(name: str) -> None:
    with pytest.raises(UsageError, match="name of an interface"):
        DeviceWish(AddLink(name))
