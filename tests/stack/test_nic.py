from __future__ import annotations

import pytest

from tests.stack.port import MAC, Bench, Port, packed
from tunsmith.errors import UsageError
from tunsmith.stack.nic import Nic


@pytest.mark.parametrize(
    ("ethernet", "options", "message"),
    [
        (False, {"addresses": ["nonsense"]}, "no address of an interface"),
        (False, {"addresses": ["10.0.0.1/33"]}, "no address of an interface"),
        (False, {"addresses": ["10.0.0.0/24"]}, "that is the network itself"),
        (False, {"addresses": ["fd00::/64"]}, "that is the network itself"),
        (False, {"addresses": ["10.0.0.255/24"]}, "that is everybody"),
        (False, {"mac": MAC}, "carries no Ethernet"),
        (True, {}, "needs a MAC address"),
        (True, {"mac": "nonsense"}, "hex"),
        (True, {"mac": "01:00:5e:00:00:01"}, "no MAC address of one station"),
        (True, {"mac": bytes(6)}, "no MAC address of one station"),
        (True, {"mac": b"short"}, "no MAC address of one station"),
        (True, {"mac": MAC, "vlan": 4095}, "VLAN 4095"),
        (True, {"mac": MAC, "vlan": -1}, "VLAN -1"),
        (False, {"vlan": 1}, "VLAN 1"),
    ],
)
def test_impossible_nics(ethernet: bool, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Nic(Port(ethernet=ethernet), **options)  # type: ignore[arg-type]


def test_mac_may_be_written() -> None:
    assert Nic(Port(ethernet=True), mac="02:00:00:00:00:01").mac == MAC


def test_link_local_address_is_added_where_ipv6_is_spoken_on_ethernet__rfc4291_2_1() -> None:
    def has(*addresses: str) -> list[str]:
        return [str(interface) for interface in Nic(Port(ethernet=True), addresses, mac=MAC).interfaces]

    assert has("10.0.0.1/24") == ["10.0.0.1/24"]
    assert has("fd00::1/64") == ["fd00::1/64", "fe80::ff:fe00:1/64"]
    assert has("fd00::1/64", "fe80::1/64") == ["fd00::1/64", "fe80::1/64"]
    assert [str(interface) for interface in Nic(Port(), ["fd00::1/64"]).interfaces] == ["fd00::1/64"]


def test_point_to_point_networks_have_no_broadcast__rfc3021() -> None:
    nic = Nic(Port(), ["10.0.0.1/24", "10.1.0.1/31", "10.2.0.1/32", "fd00::1/64"])
    assert nic.broadcasts == {packed("10.0.0.255")}


def test_address_with_the_longest_prefix_in_common_speaks__rfc6724_5() -> None:
    nic = Nic(Port(), ["10.0.0.1/24", "10.0.1.1/24", "fd00::1/64", "fd00:1::1/64"])
    assert nic.source_for(packed("10.0.1.9")) is None
    Bench(nic)
    assert nic.source_for(packed("10.0.1.9")) == packed("10.0.1.1")
    assert nic.source_for(packed("10.0.0.9")) == packed("10.0.0.1")
    assert nic.source_for(packed("fd00:1::9")) == packed("fd00:1::1")


def test_it_says_who_it_is() -> None:
    assert repr(Nic(Port(), ["10.0.0.1/24"], name="tun0")) == "<Nic tun0 10.0.0.1/24>"
