"""The name of a proxy, looked up with marked sockets."""

from __future__ import annotations

import socket

import dns.message
import dns.rrset
import pytest

from tests.relay.dns_server import DnsServer, failing, free_port, zone
from tunsmith.config import Settings
from tunsmith.dial.escape import Escape
from tunsmith.errors import DialTimeout, DialUnreachable
from tunsmith.relay.lookup import Lookup

NAME = "proxy.example"
FOUND = [(socket.AF_INET, "192.0.2.80")]


def lookup(server: DnsServer, *search: str) -> Lookup:
    return Lookup(Escape(), Settings(resolvers=(server.host,)), search, port=server.port)


def answer_with(message: dns.message.Message, address: str) -> dns.message.Message:
    reply = dns.message.make_response(message)
    question = message.question[0]
    if question.rdtype.name == "A":
        reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", address))
    return reply


def truncated(message: dns.message.Message, transport: str) -> dns.message.Message:
    if transport == "tcp":
        return answer_with(message, "192.0.2.81")
    reply = dns.message.make_response(message)
    reply.flags |= dns.flags.TC
    return reply


async def test_both_kinds_of_addresses_are_asked_for() -> None:
    async with DnsServer("127.0.0.1", free_port()) as server:
        assert await lookup(server)(NAME) == FOUND
        assert {rdtype for _, rdtype, _ in server.asked} == {"A", "AAAA"}


async def test_hosts_file_comes_first() -> None:
    async with DnsServer("127.0.0.1", free_port()) as server:
        assert (socket.AF_INET, "127.0.0.1") in await lookup(server)("localhost")
        assert server.asked == []


async def test_truncated_answer_is_asked_for_again_over_tcp() -> None:
    async with DnsServer("127.0.0.1", free_port(), truncated) as server:
        assert await lookup(server)(NAME) == [(socket.AF_INET, "192.0.2.81")]


async def test_name_without_a_dot_is_tried_in_the_domains_to_search() -> None:
    async with DnsServer("127.0.0.1", free_port()) as server:
        assert await lookup(server, "none", "corp.example")("proxy") == FOUND
        assert {name for name, _, _ in server.asked} == {"proxy.none.", "proxy.corp.example."}


async def test_name_that_does_not_exist_is_no_destination() -> None:
    async with DnsServer("127.0.0.1", free_port()) as server:
        with pytest.raises(DialUnreachable, match="no such name"):
            await lookup(server)("proxy.none")
        with pytest.raises(DialUnreachable, match="no host name"):
            await lookup(server)("a..b")


async def test_name_that_cannot_be_looked_up_any_more_keeps_its_addresses() -> None:
    async with DnsServer("127.0.0.1", free_port()) as server:
        subject = lookup(server)
        assert await subject(NAME) == FOUND
        server.handler = failing(dns.rcode.SERVFAIL)
        assert await subject(NAME) == FOUND
        with pytest.raises(DialTimeout):
            await subject("other.example")


async def test_address_from_before_our_time_is_kept_until_there_is_a_new_one() -> None:
    async with DnsServer("127.0.0.1", free_port(), failing(dns.rcode.REFUSED)) as server:
        subject = lookup(server)
        subject.remember(NAME, [(socket.AF_INET, "192.0.2.1")])
        assert await subject(NAME) == [(socket.AF_INET, "192.0.2.1")]
        server.handler = zone
        assert await subject(NAME) == FOUND


async def test_fake_address_is_none() -> None:
    async with DnsServer(
        "127.0.0.1", free_port(), lambda message, _: answer_with(message, "198.18.0.77")
    ) as server:
        subject = lookup(server)
        with pytest.raises(DialUnreachable):
            await subject(NAME)
        subject.remember(NAME, FOUND)
        assert await subject(NAME) == FOUND
