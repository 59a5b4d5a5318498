"""The DNS server of the private internet, judged by dnspython."""

from __future__ import annotations

import dns.message
import dns.rcode

from tunsmith.demo.nameserver import NameServer

ZONE = {"www.demo.example": "192.0.2.80", "six.demo.example": "2001:db8::80"}


def ask(server: NameServer, name: str, rdtype: str) -> dns.message.Message:
    reply = server.answer(dns.message.make_query(name, rdtype).to_wire())
    assert reply is not None
    return dns.message.from_wire(reply)


def test_known_name_has_its_address_and_no_other() -> None:
    server = NameServer(ZONE)
    for name, rdtype, address in (
        ("www.demo.example.", "A", "192.0.2.80"),
        ("SIX.demo.example.", "AAAA", "2001:db8::80"),
    ):
        (answer,) = ask(server, name, rdtype).answer
        assert [record.to_text() for record in answer] == [address]
    assert ask(server, "www.demo.example.", "AAAA").answer == []


def test_unknown_name_does_not_exist() -> None:
    assert ask(NameServer(ZONE), "vault.demo.example.", "A").rcode() == dns.rcode.NXDOMAIN


def test_questions_are_remembered_in_order() -> None:
    server = NameServer(ZONE)
    ask(server, "b.example.", "A")
    ask(server, "a.example.", "MX")
    assert server.asked == ["b.example", "a.example"]


def test_nonsense_gets_no_answer() -> None:
    assert NameServer(ZONE).answer(b"\0") is None
