"""dig in front of the resolver and unbound behind it, where this machine has them."""

from __future__ import annotations

import asyncio
import shutil
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import pytest

from tests.relay.dns_server import DnsServer, Proxy, free_port
from tunsmith.config import Network, Settings
from tunsmith.dial.direct import DirectDialer
from tunsmith.dns.fakeip import FakeIpPool
from tunsmith.relay.dns import Resolver
from tunsmith.wire.dns_stream import Deframer, frame

UNBOUND = shutil.which("unbound", path="/usr/sbin:/usr/bin")
pytestmark = pytest.mark.skipif(shutil.which("dig") is None, reason="needs dig (bind9-dnsutils)")

UNBOUND_CONF = """\
server:
  interface: 127.0.0.1@{port}
  chroot: ""
  username: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  verbosity: 0
  local-zone: "test." static
  local-data: "www.test. A 192.0.2.7"
  local-data: "www.test. AAAA 2001:db8::7"
  local-data: 'big.test. TXT "{text}"'
  local-data: 'big.test. TXT "{text}2"'
  local-data: 'big.test. TXT "{text}3"'
  local-data: 'big.test. TXT "{text}4"'
  local-data: 'big.test. TXT "{text}5"'
  local-data: 'big.test. TXT "{text}6"'
remote-control:
  control-enable: no
"""


class Front(asyncio.DatagramProtocol):
    """What the engine is to the resolver: datagrams and streams of applications."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data, addr) -> None:
        task = asyncio.create_task(self._answer(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data, addr) -> None:
        reply = await self._resolver.resolve(data, tcp=False)
        if reply is not None:
            self._transport.sendto(reply, addr)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deframer = Deframer()
        while data := await reader.read(65536):
            for message in deframer.feed(data):
                reply = await self._resolver.resolve(message, tcp=True)
                if reply is not None:
                    writer.write(frame(reply))
        writer.close()


@asynccontextmanager
async def in_front_of(resolver: Resolver) -> AsyncIterator[int]:
    """Serves `resolver` on a loopback port, which this yields."""
    port = free_port()
    front = Front(resolver)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: front, ("127.0.0.1", port)
    )
    async with await asyncio.start_server(front.serve, "127.0.0.1", port):
        yield port
    transport.close()
    await asyncio.sleep(0)


async def dig(port: int, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "dig", "@127.0.0.1", "-p", str(port), "+tries=1", "+time=5", *words, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode()


@pytest.fixture
async def unbound(tmp_path: Path) -> AsyncIterator[int]:
    if UNBOUND is None:
        pytest.skip("needs unbound")
    port = free_port()
    conf = tmp_path / "unbound.conf"
    conf.write_text(UNBOUND_CONF.format(port=port, directory=tmp_path, text="x" * 250))
    process = await asyncio.create_subprocess_exec(UNBOUND, "-d", "-c", str(conf))
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                assert process.returncode is None, "unbound did not start"
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break
        yield port
    finally:
        process.terminate()
        await process.wait()


async def test_dig_reads_what_unbound_says(unbound: int):
    subject = Resolver(DirectDialer(), Settings(resolvers=("127.0.0.1",)), port=unbound)
    async with in_front_of(subject) as port:
        assert await dig(port, "+short", "www.test", "A") == "192.0.2.7\n"
        assert await dig(port, "+short", "+tcp", "www.test", "AAAA") == "2001:db8::7\n"
        assert "status: NXDOMAIN" in await dig(port, "none.test")
        assert "flags: qr aa tc" in await dig(port, "+ignore", "big.test", "TXT")
        assert (await dig(port, "+short", "big.test", "TXT")).count("xxx") >= 6, "by TCP, for the TC bit"
        assert await dig(port, "+short", "+noedns", "www.test") == "192.0.2.7\n"


async def test_dig_gets_fake_addresses_and_their_names():
    pool = FakeIpPool.of(Network())
    async with (
        DnsServer("127.0.0.1", free_port()) as remote,
        in_front_of(Resolver(Proxy(remote), Settings(resolvers=("8.8.8.8",)), pool)) as port,
    ):
        address = (await dig(port, "+short", "www.test")).strip()
        assert address == "198.18.0.3"
        assert await dig(port, "+short", "-x", address) == "www.test.\n"
        assert await dig(port, "+short", "+tcp", "www.test", "AAAA") == "2001:2::3\n"
        for words in (["HTTPS"], ["A", "+dnssec"], ["ANY"], ["A", "+noedns"], ["A", "+qr", "+ednsopt=15"]):
            output = await dig(port, "www.test", *words)
            assert "status: NOERROR" in output
            assert "WARNING" not in output
        assert (await dig(port, "+short", "www.test", "TXT")).count("x" * 250) == 12
        assert remote.asked == [("www.test.", "TXT", "tcp")] * 2, "once for TC, once over TCP"


async def test_dig_is_told_why_there_is_no_answer():
    proxy = Resolver(Proxy(None), Settings(resolvers=("127.0.0.53",)), FakeIpPool.of(Network()))
    async with in_front_of(proxy) as port:
        output = await dig(port, "www.test", "MX")
        assert "status: SERVFAIL" in output
        assert "no public resolver in resolv.conf" in output


async def test_pipelined_queries_on_one_stream_are_all_answered__rfc7766_6_2_1_1():
    subject = Resolver(Proxy(None), Settings(), FakeIpPool.of(Network()))
    async with in_front_of(subject) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        queries = [dns.message.make_query(f"{n}.test.", "A", id=n) for n in range(20)]
        writer.write(b"".join(frame(query.to_wire()) for query in queries))
        for query in queries:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            assert query.is_response(dns.message.from_wire(await reader.readexactly(length)))
        writer.close()
        await writer.wait_closed()
