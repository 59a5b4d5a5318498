"""The resolver against real servers on real sockets."""

from __future__ import annotations

import asyncio
import os
import random
import resource
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.relay.dns_server import (
    DnsServer,
    Elsewhere,
    Proxy,
    failing,
    free_port,
    silence,
    zone,
)
from tunsmith.config import Network, Settings
from tunsmith.dial.base import Dialer
from tunsmith.dial.block import BlockDialer
from tunsmith.dial.direct import DirectDialer
from tunsmith.dns.fakeip import FakeIpPool
from tunsmith.flow import Target
from tunsmith.relay.dns import AT_ONCE, QUEUED, Resolver

SOON = 0.05
"""Patience in tests of silence; nothing depends on its length."""
NEVER = 60.0


def resolver(
    dialer: Dialer,
    servers: list[str],
    port: int,
    *,
    pool: FakeIpPool | None = None,
    patience: float = NEVER,
    deadline: float = NEVER,
) -> Resolver:
    settings = Settings(resolvers=tuple(servers))
    return Resolver(dialer, settings, pool, patience=patience, deadline=deadline, port=port)


def query(name: str = "www.example.com.", rdtype: str = "A", **options) -> dns.message.Message:
    return dns.message.make_query(name, rdtype, **options)


async def ask(
    subject: Resolver, message: dns.message.Message, *, tcp: bool = False, server: Target | None = None
) -> dns.message.Message:
    reply = await subject.resolve(message.to_wire(), tcp=tcp, server=server)
    assert reply is not None
    read = dns.message.from_wire(reply)
    assert message.is_response(read)
    return read


def values(message: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in message.answer for rdata in rrset]


@pytest.mark.parametrize("remote", [False, True], ids=["loopback", "remote"])
async def test_queries_and_answers_pass_unchanged(remote):
    dialer = Elsewhere()
    async with DnsServer("127.0.0.1", free_port()) as server:
        subject = resolver(dialer, ["192.0.2.1" if remote else "127.0.0.1"], server.port)
        asked = query("wWw.Example.com.", use_edns=0, payload=1400, want_dnssec=True, id=4711)
        reply = await subject.resolve(asked.to_wire(), tcp=False)
        assert server.raw == [asked.to_wire()]
        assert reply == zone(asked, "udp").to_wire()
        assert bool(dialer.targets) == remote
        assert dialer.open == 0


async def test_names_of_answered_addresses_are_known_to_logs():
    async with DnsServer("127.0.0.1", free_port()) as server:
        subject = resolver(DirectDialer(), ["127.0.0.1"], server.port)
        await ask(subject, query("Www.Example.com."))
        assert subject.name_of(ip_address("192.0.2.80").packed) == "www.example.com"
        assert subject.name_of(ip_address("192.0.2.81").packed) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
async def test_truncation_is_passed_on_and_tcp_brings_it_all(host):
    async with DnsServer("127.0.0.1", free_port()) as server:
        subject = resolver(Elsewhere(), [host], server.port)
        short = await ask(subject, query(rdtype="TXT"))
        assert short.flags & dns.flags.TC
        assert len(values(await ask(subject, query(rdtype="TXT"), tcp=True))[0]) > 3000
        assert [transport for *_, transport in server.asked] == ["udp", "tcp"]


async def test_nxdomain_is_an_answer_and_no_failure():
    async with DnsServer("127.0.0.1", free_port()) as server, DnsServer("127.0.0.2", server.port) as second:
        subject = resolver(DirectDialer(), ["127.0.0.1", "127.0.0.2"], server.port)
        assert (await ask(subject, query("a.none."))).rcode() == dns.rcode.NXDOMAIN
        assert second.asked == []


@pytest.mark.parametrize("network", ["127.0.0.", "192.0.2."])
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_a_refusing_resolver_is_replaced_at_once(network, tcp):
    async with DnsServer("127.0.0.2", free_port()) as server:
        subject = resolver(Elsewhere(), [network + "1", network + "2"], server.port)
        assert values(await ask(subject, query(), tcp=tcp)) == ["192.0.2.80"]


@pytest.mark.parametrize("network", ["127.0.0.", "192.0.2."])
async def test_a_silent_resolver_is_joined_by_the_next_and_then_asked_last(network):
    port = free_port()
    async with DnsServer("127.0.0.1", port, silence) as first, DnsServer("127.0.0.2", port) as second:
        dialer = Elsewhere()
        subject = resolver(dialer, [network + "1", network + "2"], port, patience=SOON)
        assert values(await ask(subject, query())) == ["192.0.2.80"]
        assert len(first.asked) == 1
        assert values(await ask(subject, query())) == ["192.0.2.80"]
        assert (len(first.asked), len(second.asked)) == (1, 2)
        assert dialer.open == 0


async def test_a_late_answer_still_counts():
    port = free_port()
    late: list[dns.message.Message] = []

    def second_handler(message, transport):
        first._udp.sendto(zone(late[0], "udp").to_wire(), first_client[0])

    first_client = []

    class Late(DnsServer):
        def datagram_received(self, data, addr):
            first_client.append(addr)
            late.append(dns.message.from_wire(data))

    async with Late("127.0.0.1", port) as first, DnsServer("127.0.0.2", port, second_handler):
        subject = resolver(DirectDialer(), ["127.0.0.1", "127.0.0.2"], port, patience=SOON)
        assert values(await ask(subject, query())) == ["192.0.2.80"]


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
async def test_a_failing_resolver_is_passed_over_but_its_answer_is_the_last_resort(rcode):
    port = free_port()
    async with DnsServer("127.0.0.1", port, failing(rcode)):
        subject = resolver(DirectDialer(), ["127.0.0.1", "127.0.0.2"], port)
        assert (await ask(subject, query())).rcode() == rcode
        async with DnsServer("127.0.0.2", port):
            assert values(await ask(subject, query())) == ["192.0.2.80"]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_when_every_resolver_refuses_it_is_servfail_at_once(tcp):
    subject = resolver(Elsewhere(), ["127.0.0.1", "192.0.2.2"], free_port())
    assert (await ask(subject, query(), tcp=tcp)).rcode() == dns.rcode.SERVFAIL


async def test_when_every_resolver_is_silent_it_is_servfail_at_the_deadline():
    dialer = Elsewhere()
    async with DnsServer("127.0.0.1", free_port(), silence) as server:
        subject = resolver(dialer, ["192.0.2.1"], server.port, patience=SOON, deadline=4 * SOON)
        assert (await ask(subject, query())).rcode() == dns.rcode.SERVFAIL
        assert len(server.asked) == len(server.ports) == 3, "asked again, from new ports"
        assert subject.counts["dns_timeout"] == 1
        assert dialer.open == 0


async def test_an_outage_is_told_once_and_a_failing_resolver_is_none():
    port = free_port()
    told: list[str] = []
    subject = resolver(DirectDialer(), ["127.0.0.1", "127.0.0.2"], port)
    subject.on_outage = told.append
    async with DnsServer("127.0.0.2", port, failing(dns.rcode.SERVFAIL)):
        await ask(subject, query())
    assert told == []
    for _ in range(2):
        await ask(subject, query())
    assert told == ["DNS: no answer from the resolvers of this machine (127.0.0.1, 127.0.0.2)"]


async def test_silence_is_an_outage_unless_other_queries_are_answered_meanwhile():
    told: list[str] = []

    def moody(message, transport):
        return None if "silent" in str(message.question[0].name) else zone(message, transport)

    async with DnsServer("127.0.0.1", free_port(), moody) as server:
        subject = resolver(DirectDialer(), ["127.0.0.1"], server.port, patience=SOON, deadline=4 * SOON)
        subject.on_outage = told.append
        silent = asyncio.create_task(ask(subject, query("silent.example.")))
        await asyncio.sleep(0)
        await ask(subject, query())
        await silent
        assert told == []
        await ask(subject, query("silent.example."))
        assert told == ["DNS: no answer from the resolvers of this machine (127.0.0.1)"]


async def test_without_resolvers_it_is_servfail():
    subject = resolver(DirectDialer(), [], 53)
    assert (await ask(subject, query())).rcode() == dns.rcode.SERVFAIL


async def test_unusable_resolver_addresses_are_skipped():
    async with DnsServer("127.0.0.1", free_port()) as server:
        subject = resolver(DirectDialer(), ["nonsense", "fe80::1%gone0", "127.0.0.1"], server.port)
        assert values(await ask(subject, query())) == ["192.0.2.80"]


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
async def test_forged_answers_are_ignored__rfc5452(host):
    def forging(message, transport):
        wrong_id = zone(query(id=message.id ^ 1), "udp")
        server._udp.sendto(wrong_id.to_wire(), client[0])
        server._udp.sendto(zone(query("evil.test.", id=message.id), "udp").to_wire(), client[0])
        server._udp.sendto(b"\xff" * 40, client[0])
        other._udp.sendto(zone(query("evil.test.", id=message.id), "udp").to_wire(), client[0])
        return zone(message, "udp")

    client = []

    class Noting(DnsServer):
        def datagram_received(self, data, addr):
            client.append(addr)
            super().datagram_received(data, addr)

    port = free_port()
    async with Noting("127.0.0.1", port, forging) as server, DnsServer("127.0.0.3", port) as other:
        subject = resolver(Elsewhere(), [host], port)
        assert values(await ask(subject, query())) == ["192.0.2.80"]


async def test_a_server_that_hangs_up_is_a_failure():
    async def hang_up(reader, writer):
        await reader.read(10)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(hang_up, "127.0.0.1", port):
        subject = resolver(DirectDialer(), ["127.0.0.1"], port)
        assert (await ask(subject, query(), tcp=True)).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
async def test_ten_thousand_queries_come_from_new_ports_and_leave_no_socket(host):
    dialer = Elsewhere()
    message = query().to_wire()

    class Quick(DnsServer):
        def _answer(self, data: bytes, transport: str) -> bytes:
            return data[:2] + b"\x81\x80" + data[4:]

    async with Quick("127.0.0.1", free_port()) as server:
        subject = resolver(dialer, [host], server.port, patience=2.0)
        idle = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            assert None not in await asyncio.gather(
                *(subject.resolve(message, tcp=False) for _ in range(1000))
            )
        assert len(os.listdir("/proc/self/fd")) == idle
        assert len(server.ports) > 1000
    assert dialer.most_open <= AT_ONCE


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
async def test_without_descriptors_it_is_servfail_and_with_them_it_goes_on(host):
    async with DnsServer("127.0.0.1", free_port()) as server:
        subject = resolver(Elsewhere(), [host], server.port)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            reply = await subject.resolve(query().to_wire(), tcp=False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert reply is not None
        assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL
        assert values(await ask(subject, query())) == ["192.0.2.80"]


async def test_too_many_queries_are_dropped_and_counted():
    async with DnsServer("127.0.0.1", free_port(), silence) as server:
        subject = resolver(DirectDialer(), ["127.0.0.1"], server.port)
        bound = AT_ONCE + QUEUED
        waiting = [asyncio.create_task(subject.resolve(query().to_wire(), tcp=False)) for _ in range(bound)]
        await asyncio.sleep(0)
        assert await subject.resolve(query().to_wire(), tcp=False) is None
        assert subject.counts["dns_overload"] == 1
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        server.handler = zone
        assert values(await ask(subject, query())) == ["192.0.2.80"]


async def test_malformed_messages_are_counted_and_get_formerr_or_nothing():
    subject = resolver(DirectDialer(), ["127.0.0.1"], 53)
    assert await subject.resolve(b"", tcp=False) is None
    assert await subject.resolve(dns.message.make_response(query()).to_wire(), tcp=False) is None
    reply = await subject.resolve(query().to_wire()[:-2], tcp=False)
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.FORMERR
    assert subject.counts == {"dns_short": 2, "dns_not_a_query": 1}


async def test_through_a_proxy_addresses_are_fake_and_nothing_is_dialed():
    pool = FakeIpPool.of(Network())
    proxy = Proxy(None)
    subject = resolver(proxy, ["127.0.0.53", "8.8.8.8"], 53, pool=pool)
    for rdtype in ("A", "AAAA", "HTTPS"):
        reply = await ask(subject, query(rdtype=rdtype))
        for address in values(reply):
            assert pool.name_of(ip_address(address).packed) == "www.example.com"
    assert proxy.targets == []


@pytest.mark.parametrize(
    ("asked", "dialed"),
    [
        (None, Target("8.8.8.8", 53)),
        (Target("9.9.9.9", 53), Target("9.9.9.9", 53)),
        (Target("10.0.0.53", 53), Target("10.0.0.53", 53)),
        (Target("198.18.0.2", 53), Target("8.8.8.8", 53)),
        (Target("198.18.0.3", 53), Target("dns.example", 53)),
        (Target("198.18.0.4", 53), Target("8.8.8.8", 53)),
        (Target("2001:2::3", 53), Target("dns.example", 53)),
        (Target("dns.example", 53), Target("dns.example", 53)),
    ],
)
async def test_through_a_proxy_the_rest_is_asked_behind_it_over_tcp(asked, dialed):
    pool = FakeIpPool.of(Network())
    pool.address_of("dns.example", 4, 0.0)
    async with DnsServer("127.0.0.1", free_port()) as server:
        proxy = Proxy(server)
        subject = resolver(proxy, ["127.0.0.53", "192.168.1.1", "8.8.8.8", "9.9.9.9"], 53, pool=pool)
        long = await ask(subject, query(rdtype="TXT"), tcp=True, server=asked)
        assert len(values(long)[0]) > 3000
        assert proxy.targets == [dialed]
        assert server.asked == [("www.example.com.", "TXT", "tcp")]


async def test_an_answer_from_behind_the_proxy_too_long_for_udp_is_truncated():
    async with DnsServer("127.0.0.1", free_port()) as server:
        subject = resolver(Proxy(server), ["8.8.8.8"], 53, pool=FakeIpPool.of(Network()))
        reply = await ask(subject, query(rdtype="TXT", use_edns=0, payload=1232))
        assert reply.flags & dns.flags.TC
        assert not reply.answer
        assert reply.edns == 0
        assert values(await ask(subject, query(rdtype="TXT", use_edns=0, payload=8192)))


async def test_private_resolvers_are_never_asked_behind_a_proxy():
    proxy = Proxy(None)
    pool = FakeIpPool.of(Network())
    subject = resolver(proxy, ["127.0.0.53", "192.168.1.1", "fe80::1%lo", "::1"], 53, pool=pool)
    assert (await ask(subject, query(rdtype="MX"))).rcode() == dns.rcode.SERVFAIL
    assert proxy.targets == []


@pytest.mark.parametrize("dialer", [Proxy(None), BlockDialer()], ids=["down", "block"])
async def test_a_proxy_that_cannot_ask_is_servfail(dialer):
    subject = resolver(dialer, ["8.8.8.8"], 53, pool=FakeIpPool.of(Network()))
    assert (await ask(subject, query(rdtype="MX"))).rcode() == dns.rcode.SERVFAIL
    assert subject.counts["dns_failed"] == 1


async def test_random_bytes_never_raise():
    pool = FakeIpPool.of(Network())
    generator = random.Random(7)
    for subject in (resolver(Proxy(None), [], 53, pool=pool), resolver(DirectDialer(), [], 53)):
        valid = query(use_edns=0).to_wire()
        for _ in range(2000):
            octets = bytearray(valid if generator.random() < 0.7 else generator.randbytes(60))
            for _ in range(generator.randrange(5)):
                octets[generator.randrange(len(octets))] = generator.randrange(256)
            await subject.resolve(bytes(octets[: generator.randrange(len(octets) + 1)]), tcp=False)
