"""The pool: one address per name, and never one name's address for another while anybody may believe it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tunsmith.config import Network
from tunsmith.dns.fakeip import FakeIpPool
from tunsmith.dns.slots import TTL

SMALL = IPv4Network("10.0.0.0/28")
SMALL6 = IPv6Network("2001:2::/48")
OWN = (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), IPv6Address("2001:2::1"), IPv6Address("2001:2::2"))
USABLE = 12


def small() -> FakeIpPool:
    return FakeIpPool(SMALL, SMALL6, OWN)


def test_a_name_has_one_address_of_each_family_and_they_lead_back():
    pool = FakeIpPool.of(Network())
    four = pool.address_of("www.example.com", 4, 0.0)
    six = pool.address_of("www.example.com", 6, 0.0)
    assert four is not None
    assert ip_address(four) in Network().fake
    assert six is not None
    assert ip_address(six) in Network().fake6
    assert pool.name_of(four) == pool.name_of(six) == "www.example.com"


def test_names_are_folded_and_the_trailing_dot_does_not_count__rfc4343():
    pool = small()
    assert pool.address_of("Example.COM.", 4, 0.0) == pool.address_of("example.com", 4, 0.0)
    assert pool.address_of("\u212a.test", 4, 0.0) != pool.address_of("k.test", 4, 0.0), (
        "the Kelvin sign is no k"
    )


def test_network_broadcast_gateway_and_inside_are_never_given_out():
    pool = small()
    given = {pool.address_of(f"{n}.test", 4, 0.0) for n in range(USABLE)}
    assert len(given - {None}) == USABLE
    reserved = {SMALL[0].packed, SMALL[1].packed, SMALL[2].packed, SMALL[-1].packed}
    assert not given & reserved


def test_own_addresses_in_the_middle_of_a_pool_are_spared():
    pool = FakeIpPool(SMALL, None, [IPv4Address("10.0.0.7"), IPv4Address("192.0.2.1")])
    given = {pool.address_of(f"{n}.test", 4, 0.0) for n in range(13)}
    assert None not in given
    assert IPv4Address("10.0.0.7").packed not in given


def test_a_full_pool_reuses_the_name_used_longest_ago():
    pool = small()
    addresses = [pool.address_of(f"{n}.test", 4, 0.0) for n in range(USABLE)]
    pool.address_of("0.test", 4, 1.0)
    assert pool.address_of("new.test", 4, 10.0) == addresses[1]
    assert pool.address_of("0.test", 4, 10.0) == addresses[0]
    assert len(pool) == USABLE


def test_an_address_is_not_reused_while_its_answer_may_be_believed():
    pool = small()
    for n in range(USABLE):
        pool.address_of(f"{n}.test", 4, 100.0)
    assert pool.address_of("new.test", 4, 100.0 + TTL / 2) is None
    assert pool.address_of("new.test", 4, 100.0 + TTL) is not None


def test_an_address_with_live_flows_is_never_reused():
    pool = small()
    live = pool.address_of("live.test", 4, 0.0)
    assert live is not None
    pool.pin(live)
    pool.pin(live)
    pool.unpin(live)
    for n in range(5 * USABLE):
        assert pool.address_of(f"{n}.test", 4, float(n + 1)) not in (None, live)
    assert pool.name_of(live) == "live.test"
    pool.unpin(live)
    for n in range(USABLE):
        pool.address_of(f"{n}.later.test", 4, 1000.0 + n)
    assert pool.name_of(live) != "live.test"


def test_when_all_are_live_there_is_none():
    pool = small()
    for n in range(USABLE):
        address = pool.address_of(f"{n}.test", 4, 0.0)
        assert address is not None
        pool.pin(address)
    assert pool.address_of("new.test", 4, 1e9) is None


def test_names_are_bounded_and_a_forgotten_address_leads_nowhere():
    pool = FakeIpPool(IPv4Network("198.18.0.0/15"), None, names=100)
    first = pool.address_of("0.test", 4, 0.0)
    for n in range(1, 1000):
        pool.address_of(f"{n}.test", 4, float(n * TTL))
    assert len(pool) == 100
    assert first is not None
    assert pool.contains(first)
    assert pool.name_of(first) is None


def test_foreign_addresses_are_neither_inside_nor_named():
    pool = small()
    pool.pin(b"\1\1\1\1")
    pool.unpin(b"\1\1\1\1")
    for text in ("1.1.1.1", "9.255.255.255", "10.0.0.16", "::", "2001:2:1::", "2001:1:ffff::"):
        packed = ip_address(text).packed
        assert not pool.contains(packed)
        assert pool.name_of(packed) is None
    assert not FakeIpPool(SMALL, None).contains(SMALL6[5].packed)
    assert FakeIpPool(None, SMALL6).name_of(SMALL[5].packed) is None


class PoolMachine(RuleBasedStateMachine):
    """Random use. An answer that is still believed, or a live flow, must always lead to its own name."""

    flows = Bundle("flows")

    def __init__(self) -> None:
        super().__init__()
        self.pool = small()
        self.now = 0.0
        self.believed: dict[bytes, tuple[str, float]] = {}
        self.live: list[tuple[bytes, str]] = []

    @rule(target=flows, n=st.integers(0, 40), version=st.sampled_from([4, 6]), connect=st.booleans())
    def look_up(self, n: int, version: int, connect: bool) -> tuple[bytes, str] | None:
        name = f"host{n}.test"
        address = self.pool.address_of(name, version, self.now)
        if address is None:
            return None
        self.believed[address] = (name, self.now + TTL)
        if not connect:
            return None
        self.pool.pin(address)
        self.live.append((address, name))
        return address, name

    @rule(flow=consumes(flows))
    def end(self, flow: tuple[bytes, str] | None) -> None:
        if flow is not None:
            self.pool.unpin(flow[0])
            self.live.remove(flow)

    @rule(seconds=st.sampled_from([0.3, 1.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(octets=st.sampled_from([0, 3, 4, 15, 16, 17]).flatmap(lambda n: st.binary(min_size=n, max_size=n)))
    def any_bytes(self, octets: bytes) -> None:
        self.pool.contains(octets)
        self.pool.name_of(octets)

    @invariant()
    def nobody_is_misled(self) -> None:
        for address, name in self.live:
            assert self.pool.name_of(address) == name
        for address, (name, until) in self.believed.items():
            if self.now < until:
                assert self.pool.name_of(address) == name

    @invariant()
    def bounded(self) -> None:
        assert len(self.pool) <= USABLE


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
