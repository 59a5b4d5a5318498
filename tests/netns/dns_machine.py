"""A machine with a resolver of its own and a SOCKS5 proxy, for one `tunsmith run`. Started by test_dns.py in
a private network and mount namespace: `dns_machine.py [--proxy] SCRIPT`.

The resolver listens on $RESOLVER. The proxy leads to a web server that says which
host was asked for, and for port 53 to a resolver on 127.0.0.54. Prints as JSON what the script printed, what
each resolver and the proxy were asked, and where packets to port 53 were seen going.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from ipaddress import ip_address

from tests.relay.dns_server import DnsServer

ETH_P_ALL = 3
IP4, IP6 = 0x0800, 0x86DD


class SocksProxy:
    """CONNECT without a password; answers itself as every host."""

    def __init__(self, remote: DnsServer) -> None:
        self._remote = remote
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\5\0")
        _, command, _, kind = await reader.readexactly(4)
        if kind == 3:
            (length,) = await reader.readexactly(1)
            host = (await reader.readexactly(length)).decode()
        else:
            host = ip_address(await reader.readexactly(4 if kind == 1 else 16)).compressed
        (port,) = struct.unpack(">H", await reader.readexactly(2))
        if command != 1:
            writer.write(b"\5\7\0\1" + bytes(6))
            return
        self.asked.append(f"{'name' if kind == 3 else 'address'} {host} {port}")
        writer.write(b"\5\0\0\1" + bytes(6))
        if port == 53:
            await self._remote.serve_stream(reader, writer)
            return
        await reader.readuntil(b"\r\n\r\n")
        body = f"you asked for {host}\n".encode()
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


class Sniffer:
    """Where packets to port 53 go, on all links of the machine."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._sock = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL)
        )
        asyncio.get_running_loop().add_reader(self._sock, self._on_packet)

    def _on_packet(self) -> None:
        packet, (_, ether_type, *_) = self._sock.recvfrom(65536)
        if ether_type == IP4 and packet[9] in (6, 17):
            header, address = (packet[0] & 15) * 4, packet[16:20]
        elif ether_type == IP6 and packet[6] in (6, 17):
            header, address = 40, packet[24:40]
        else:
            return
        if packet[header + 2 : header + 4] == b"\0\x35":
            self.seen.add(ip_address(address).compressed)


async def main(arguments: list[str]) -> None:
    script = arguments[-1]
    via = ["--via", "socks5://127.0.0.1:1080"] if "--proxy" in arguments else []
    async with DnsServer(os.environ["RESOLVER"], 53) as own, DnsServer("127.0.0.54", 53) as remote:
        proxy = SocksProxy(remote)
        sniffer = Sniffer()
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", 1080):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tunsmith",
                "run",
                *via,
                "--",
                "sh",
                "-c",
                script,
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
        print(
            json.dumps(
                {
                    "output": output.decode().splitlines(),
                    "code": process.returncode,
                    "own": own.asked,
                    "remote": remote.asked,
                    "proxy": proxy.asked,
                    "port 53": sorted(sniffer.seen),
                }
            )
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
