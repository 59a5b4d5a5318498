"""wire.dns against dnspython: what either builds, the other reads the same."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.wire import dns as wire

labels = st.binary(min_size=1, max_size=63)
names = st.lists(labels, max_size=6).filter(lambda parts: sum(len(part) + 1 for part in parts) < 255)


@st.composite
def questions(draw):
    message = dns.message.make_query(
        dns.name.Name([*draw(names), b""]),
        draw(st.sampled_from(["A", "AAAA", "HTTPS", "MX", "TXT", "TYPE65280"])),
        draw(st.sampled_from(["IN", "CH"])),
        id=draw(st.integers(0, 65535)),
    )
    if draw(st.booleans()):
        message.use_edns(0, draw(st.sampled_from([0, dns.flags.DO])), draw(st.integers(0, 65535)))
    return message


@given(questions())
def test_a_question_reads_as_dnspython_wrote_it(message):
    query = wire.parse_query(message.to_wire())
    asked = message.question[0]
    assert query.id == message.id
    assert (query.rdtype, query.rdclass) == (asked.rdtype, asked.rdclass)
    assert query.name.count("\\") or query.name == asked.name.to_text(omit_final_dot=True).lower().strip("@.")
    assert (query.edns is not None) == (message.edns == 0)
    if query.edns is not None:
        assert query.edns.payload == message.payload
        assert query.udp_limit == max(512, message.payload)


@given(questions(), st.sampled_from([wire.NOERROR, wire.SERVFAIL, wire.REFUSED]), st.booleans())
def test_a_reply_reads_in_dnspython_as_a_reply_to_its_query(message, rcode, truncated):
    query = wire.parse_query(message.to_wire())
    reply = wire.reply(query, rcode, truncated=truncated)
    read = dns.message.from_wire(reply)
    assert message.is_response(read)
    assert read.rcode() == rcode
    assert bool(read.flags & dns.flags.TC) == truncated
    assert read.flags & dns.flags.RA
    assert (read.flags ^ message.flags) & dns.flags.RD == 0
    assert (read.edns == 0) == (message.edns == 0)
    assert (read.ednsflags ^ message.ednsflags) & dns.flags.DO == 0
    assert wire.is_reply(query, reply)


@given(st.binary(max_size=600))
def test_random_bytes_are_a_query_or_a_wire_error(data):
    try:
        query = wire.parse_query(data)
    except WireError:
        reply = wire.error_reply(data, wire.FORMERR)
        assert reply is None or len(reply) == 12
    else:
        assert wire.is_reply(query, wire.reply(query))
        assert not wire.is_reply(query, data)


@given(questions(), st.data())
def test_a_damaged_query_never_raises_anything_else(message, data):
    octets = bytearray(message.to_wire())
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(octets[: data.draw(st.integers(0, len(octets)))])
    with contextlib.suppress(WireError):
        wire.parse_query(damaged)


@given(questions(), st.binary(max_size=100))
def test_whether_it_is_our_reply_never_raises(message, data):
    wire.is_reply(wire.parse_query(message.to_wire()), data)


def test_extended_rcode_goes_into_the_opt_record__rfc6891_6_1_3():
    query = wire.parse_query(dns.message.make_query("a.test.", "A", use_edns=0).to_wire())
    assert dns.message.from_wire(wire.reply(query, wire.BADVERS)).rcode() == dns.rcode.BADVERS


def test_letter_case_of_the_question_comes_back__0x20():
    message = dns.message.make_query("wWw.ExAmPlE.tEsT.", "A")
    query = wire.parse_query(message.to_wire())
    assert query.name == "www.example.test"
    assert b"wWw" in wire.reply(query)


def test_odd_octets_are_escaped_so_that_names_cannot_be_confused():
    message = dns.message.make_query(dns.name.Name([b"a.b", b"c\r\nd", b"\xc4", b"test", b""]), "A")
    assert wire.parse_query(message.to_wire()).name == r"a\046b.c\013\010d.\196.test"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda octets: octets[:11], "dns_short"),
        (lambda octets: octets[:-3], "dns_short"),
        (lambda octets: octets[:2] + b"\x81\x80" + octets[4:], "dns_not_a_query"),
        (lambda octets: octets[:4] + b"\0\2" + octets[6:], "dns_question_count"),
        (lambda octets: octets[:4] + b"\0\0" + octets[6:], "dns_question_count"),
        (lambda octets: octets[:12] + b"\xc0\x0c" + octets[-4:], "dns_label"),
        (lambda octets: octets[:12] + b"\x01a" * 128 + b"\0" + octets[-4:], "dns_name_length"),
        (lambda octets: octets[:10] + b"\0\1" + octets[12:], "dns_short"),
        (lambda octets: octets[:10] + b"\0\2" + octets[12:] + (b"\0\0\x29" + bytes(8)) * 2, "dns_edns"),
    ],
)
def test_malformed_queries_are_told_apart(change, reason):
    with pytest.raises(WireError) as caught:
        wire.parse_query(change(dns.message.make_query("www.test.", "A").to_wire()))
    assert caught.value.reason == reason


def test_a_reply_is_never_answered_lest_two_servers_loop():
    reply = dns.message.make_response(dns.message.make_query("a.test.", "A")).to_wire()
    assert wire.error_reply(reply, wire.FORMERR) is None


def test_replies_to_other_questions_are_not_ours__rfc5452():
    query = wire.parse_query(dns.message.make_query("a.test.", "A", id=1).to_wire())
    assert wire.is_reply(query, wire.reply(query).replace(b"\x01a", b"\x01A"))
    for ident, name, rdtype in [(2, "a.test.", "A"), (1, "b.test.", "A"), (1, "a.test.", "AAAA")]:
        other = wire.parse_query(dns.message.make_query(name, rdtype, id=ident).to_wire())
        assert not wire.is_reply(query, wire.reply(other))
    assert not wire.is_reply(query, query.wire)


def test_a_reply_too_long_for_the_client_is_cut_to_tc():
    message = dns.message.make_query("a.test.", "TXT", use_edns=0, payload=600)
    query = wire.parse_query(message.to_wire())
    long = wire.reply(query, answers=[wire.record(dns.rdatatype.TXT, 1, b"\xc8" + b"x" * 200)] * 3)
    short = dns.message.from_wire(wire.fit_udp(query, long))
    assert short.flags & dns.flags.TC
    assert not short.answer
    assert short.edns == 0
    assert wire.fit_udp(query, long[:600]) == long[:600]


def test_addresses_in_an_answer_are_found_behind_aliases():
    reply = dns.message.make_response(dns.message.make_query("www.test.", "A"))
    reply.answer = [
        dns.rrset.from_text("www.test.", 1, "IN", "CNAME", "cdn.test."),
        dns.rrset.from_text("cdn.test.", 1, "IN", "A", "192.0.2.1", "192.0.2.2"),
        dns.rrset.from_text("cdn.test.", 1, "IN", "AAAA", "2001:db8::1"),
    ]
    octets = reply.to_wire()
    # dnspython shuffles the records of a set.
    expected = {ip_address(text).packed for text in ("192.0.2.1", "192.0.2.2", "2001:db8::1")}
    assert set(wire.addresses_in(octets)) == expected
    assert all(wire.addresses_in(octets[:cut]) == [] for cut in range(len(octets)))


@given(st.binary(max_size=200))
def test_looking_for_addresses_never_raises(data):
    wire.addresses_in(data)


def test_why_a_query_failed_is_told_in_an_extended_error__rfc8914():
    query = wire.parse_query(dns.message.make_query("a.test.", "MX", use_edns=0).to_wire())
    read = dns.message.from_wire(wire.reply(query, wire.SERVFAIL, why="nobody home"))
    assert read.extended_errors()[0].text == "nobody home"
    plain = wire.parse_query(dns.message.make_query("a.test.", "MX", use_edns=False).to_wire())
    assert dns.message.from_wire(wire.reply(plain, wire.SERVFAIL, why="nobody home")).edns == -1


@pytest.mark.parametrize(
    ("name", "rdtype", "text"),
    [("Www.Test.", "AAAA", "AAAA www.test"), (".", "NS", "NS ."), ("a.", "TYPE999", "TYPE999 a")],
)
def test_a_query_reads_well_in_a_log(name, rdtype, text):
    assert str(wire.parse_query(dns.message.make_query(name, rdtype).to_wire())) == text


def test_what_cannot_be_read_has_no_question_for_people():
    octets = dns.message.make_query("www.test.", "AAAA").to_wire()
    assert wire.question_of(octets) == "AAAA www.test"
    assert [wire.question_of(octets[:cut]) for cut in range(len(octets))] == [""] * len(octets)


def test_every_cut_of_a_question_is_short():
    octets = dns.message.make_query("www.test.", "A", use_edns=0).to_wire()
    for cut in range(len(octets)):
        with pytest.raises(WireError) as caught:
            wire.parse_query(octets[:cut])
        assert caught.value.reason == "dns_short"


def test_a_record_with_a_label_that_cannot_be_is_refused__rfc1035_4_1_4():
    octets = dns.message.make_query("www.test.", "A").to_wire()
    with pytest.raises(WireError) as caught:
        wire.parse_query(octets[:10] + b"\0\1" + octets[12:] + b"\x40" + bytes(20))
    assert caught.value.reason == "dns_label"


def test_records_that_are_not_edns_are_stepped_over__rfc6891_6_1_1():
    message = dns.message.make_query("a.test.", "A", use_edns=0, payload=1400)
    message.authority.append(dns.rrset.from_text("test.", 1, "IN", "NS", "ns.test."))
    query = wire.parse_query(message.to_wire())
    assert query.edns is not None
    assert query.edns.payload == 1400


def test_a_refusal_keeps_id_and_opcode_and_no_more():
    notify = b"\x12\x34" + b"\x21\x00" + bytes(8)  # opcode 4, RD, no question
    octets = wire.error_reply(notify, wire.NOTIMP)
    assert octets is not None
    refusal = dns.message.from_wire(octets)
    assert (refusal.id, refusal.opcode(), refusal.rcode()) == (0x1234, 4, dns.rcode.NOTIMP)
    assert refusal.flags & dns.flags.QR
    assert not refusal.question
    assert wire.error_reply(notify[:11], wire.FORMERR) is None


def test_only_a_failure_may_leave_out_the_question__rfc5452_9_1():
    query = wire.parse_query(dns.message.make_query("a.test.", "A", id=1).to_wire())
    bare = b"\0\1\x80"
    assert wire.is_reply(query, bare + bytes([wire.FORMERR]) + bytes(8))
    assert not wire.is_reply(query, bare + bytes([wire.NOERROR]) + bytes(8))
    assert not wire.is_reply(query, bare)


@pytest.mark.parametrize("name", ["a", "www.example.com", "x" * 63 + ".test"])
def test_a_host_name_is_encoded_as_dnspython_does(name):
    assert wire.encode_name(name) == dns.name.from_text(name).to_wire()


def test_question_of_our_own_is_read_as_it_was_meant() -> None:
    for name in ("www.example.com", "www.example.com."):
        read = dns.message.from_wire(wire.make_query(4711, name, wire.AAAA))
        assert (read.id, read.flags, read.question[0].to_text()) == (
            4711,
            dns.flags.RD,
            "www.example.com. IN AAAA",
        )


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, ".".join(["x" * 60] * 5), "ä.example"])
def test_question_for_no_host_name_cannot_be_made(name: str) -> None:
    with pytest.raises(WireError):
        wire.make_query(1, name, wire.A)
