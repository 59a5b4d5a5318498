"""What an application behind a proxy is told, read with dnspython."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.config import Network
from tunsmith.dns.answer import answer
from tunsmith.dns.fakeip import FakeIpPool
from tunsmith.wire import dns as wire


@pytest.fixture
def pool() -> FakeIpPool:
    return FakeIpPool.of(Network())


def ask(pool: FakeIpPool, message: dns.message.Message) -> dns.message.Message:
    reply = answer(wire.parse_query(message.to_wire()), pool, 0.0)
    assert reply is not None
    assert len(reply) <= 512
    read = dns.message.from_wire(reply)
    assert message.is_response(read)
    return read


def look_up(pool: FakeIpPool, name: str, rdtype: str) -> dns.message.Message:
    return ask(pool, dns.message.make_query(name, rdtype))


def values(message: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in message.answer for rdata in rrset]


def is_no_data(message: dns.message.Message) -> bool:
    soa = message.authority[0]
    return not message.answer and message.rcode() == 0 and soa.ttl == soa[0].minimum == 1


def test_a_and_aaaa_are_fake_with_ttl_1(pool):
    for rdtype, network in (("A", Network().fake), ("AAAA", Network().fake6)):
        reply = look_up(pool, "Www.Example.com.", rdtype)
        (address,) = values(reply)
        assert ip_address(address) in network
        assert pool.name_of(ip_address(address).packed) == "www.example.com"
        assert reply.answer[0].ttl == 1
        assert reply.answer[0].name.to_text() == "Www.Example.com."


def test_any_gets_both(pool):
    assert len(values(look_up(pool, "a.test.", "ANY"))) == 2


def test_aaaa_is_empty_where_the_pool_is_v4_only():
    pool = FakeIpPool(IPv4Network("198.18.0.0/15"), None)
    assert is_no_data(look_up(pool, "a.test.", "AAAA"))
    assert is_no_data(look_up(pool, "localhost.", "AAAA"))
    assert len(values(look_up(pool, "a.test.", "ANY"))) == 1


@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
def test_service_bindings_are_empty_so_that_no_hint_passes_the_fake_address(pool, rdtype):
    assert is_no_data(look_up(pool, "a.test.", rdtype))


@pytest.mark.parametrize("rdtype", ["MX", "TXT", "SRV", "NS", "SOA", "CNAME", "CAA", "DS", "TYPE65280"])
def test_what_has_no_fake_form_is_forwarded(pool, rdtype):
    query = wire.parse_query(dns.message.make_query("a.test.", rdtype).to_wire())
    assert answer(query, pool, 0.0) is None


@pytest.mark.parametrize("rdtype", ["A", "AAAA"])
def test_ptr_of_a_fake_address_is_its_name(pool, rdtype):
    (address,) = values(look_up(pool, "a.test.", rdtype))
    reverse = dns.reversename.from_address(address).to_text()
    assert values(look_up(pool, reverse.upper(), "PTR")) == ["a.test."]


@pytest.mark.parametrize("address", ["198.18.0.2", "198.19.7.7", "2001:2::7777"])
def test_ptr_of_a_fake_address_without_a_name_does_not_exist(pool, address):
    reply = look_up(pool, dns.reversename.from_address(address).to_text(), "PTR")
    assert reply.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("name", ["8.8.8.8.in-addr.arpa.", "18.198.in-addr.arpa.", "1.ip6.arpa.", "x.test."])
def test_ptr_of_anything_else_is_forwarded(pool, name):
    query = wire.parse_query(dns.message.make_query(name, "PTR").to_wire())
    assert answer(query, pool, 0.0) is None


def test_localhost_is_this_machine__rfc6761_6_3(pool):
    assert values(look_up(pool, "localhost.", "A")) == ["127.0.0.1"]
    assert values(look_up(pool, "App.LocalHost.", "AAAA")) == ["::1"]
    assert is_no_data(look_up(pool, "localhost.", "MX"))
    assert values(look_up(pool, "1.0.0.127.in-addr.arpa.", "PTR")) == ["localhost."]
    assert len(pool) == 0


def test_invalid_does_not_exist__rfc6761_6_4(pool):
    assert look_up(pool, "a.invalid.", "A").rcode() == dns.rcode.NXDOMAIN
    assert look_up(pool, "a.invalid.", "MX").rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    "name", ["printer.local.", "abc.onion.", "intranet.", "_x.a_b.test.", "r3---sn-1.test."]
)
def test_names_that_only_the_proxy_may_know_are_ordinary(pool, name):
    assert values(look_up(pool, name, "A"))


@pytest.mark.parametrize(
    "labels",
    [
        [b"1.2.3.4"],
        [b"1", b"2", b"3", b"4"],
        [b"host", b"0x7f"],
        [b"a\r\nX: y", b"test"],
        [b"a b", b"test"],
        ["ä".encode(), b"test"],
        [b"*", b"test"],
        [b"a:80", b"test"],
        [],
    ],
)
def test_names_that_no_host_can_have_do_not_exist(pool, labels):
    message = dns.message.make_query(dns.name.Name([*labels, b""]), "A")
    assert ask(pool, message).rcode() == dns.rcode.NXDOMAIN
    assert len(pool) == 0


def test_a_full_pool_is_a_server_failure_not_a_wrong_address():
    pool = FakeIpPool(IPv4Network("10.0.0.0/30"), None)
    assert values(look_up(pool, "a.test.", "A"))
    assert values(look_up(pool, "b.test.", "A"))
    assert look_up(pool, "c.test.", "A").rcode() == dns.rcode.SERVFAIL


def test_edns_is_answered_in_kind(pool):
    message = dns.message.make_query("a.test.", "A", use_edns=0, want_dnssec=True, payload=4096)
    reply = ask(pool, message)
    assert reply.edns == 0
    assert reply.ednsflags & dns.flags.DO
    assert ask(pool, dns.message.make_query("a.test.", "A", use_edns=False)).edns == -1


def test_unknown_edns_version_is_badvers__rfc6891_6_1_3(pool):
    reply = ask(pool, dns.message.make_query("a.test.", "A", use_edns=1))
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0


def test_other_opcodes_are_not_implemented(pool):
    message = dns.message.make_query("a.test.", "SOA")
    message.set_opcode(dns.opcode.NOTIFY)
    reply = ask(pool, message)
    assert (reply.rcode(), reply.opcode()) == (dns.rcode.NOTIMP, dns.opcode.NOTIFY)


def test_other_classes_are_refused(pool):
    assert ask(pool, dns.message.make_query("version.bind.", "TXT", "CH")).rcode() == dns.rcode.REFUSED


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    st.integers(0, 65535).filter(
        lambda rdtype: rdtype not in (wire.OPT, 250)
    ),  # of these dnspython asks more
    st.booleans(),
)
def test_whatever_is_asked_the_answer_reads_well(labels, rdtype, edns):
    pool = FakeIpPool.of(Network())
    name = dns.name.Name([*labels, b""])
    message = dns.message.make_query(name, rdtype, use_edns=0 if edns else None)
    if answer(wire.parse_query(message.to_wire()), pool, 0.0) is not None:
        ask(pool, message)
