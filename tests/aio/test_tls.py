from __future__ import annotations

import asyncio
import errno
import random
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.aio.pair import NOBODY, RIGHT, Pair

BODY = random.Random(1).randbytes(1_000_000)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server that is "example.test", and of a client that trusts it."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=example.test",
         "-addext", "subjectAltName=DNS:example.test", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(Path(certificate)))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_what_is_said_is_heard_whole(
    pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    left, right = pair
    server, client = contexts
    await right.start_server(echo, None, 443, ssl=server)
    reader, writer = await left.open_connection(RIGHT[4], 443, ssl=client, server_hostname="example.test")
    assert writer.get_extra_info("peername") == (RIGHT[4], 443)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.write(BODY)
    assert await reader.readexactly(len(BODY)) == BODY
    writer.close()
    await writer.wait_closed()


async def test_start_tls_in_the_middle(pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    left, right = pair
    server, client = contexts

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(server)
        await echo(reader, writer)

    await right.start_server(serve, None, 25)
    reader, writer = await left.open_connection(RIGHT[6], 25)
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client, server_hostname="example.test")
    writer.write(b"secret")
    assert await reader.readexactly(6) == b"secret"
    writer.close()
    await writer.wait_closed()


async def test_a_wrong_name_and_a_stranger_are_refused(
    pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    left, right = pair
    server, client = contexts
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's half of the story
    await right.start_server(echo, None, 443, ssl=server)
    with pytest.raises(ssl.SSLCertVerificationError):
        await left.open_connection(RIGHT[4], 443, ssl=client, server_hostname="other.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        await left.open_connection(RIGHT[4], 443, ssl=True)


async def test_the_timeout_covers_the_handshake_of_tls(
    pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    left, right = pair
    _, client = contexts
    await right.start_server(lambda *_: None, None, 443)
    for host in (RIGHT[4], NOBODY[4]):
        with pytest.raises(TimeoutError) as raised:
            await left.open_connection(host, 443, ssl=client, server_hostname="example.test", timeout=0.05)
        assert raised.value.errno == errno.ETIMEDOUT
