"""HTTP CONNECT (RFC 9110 §9.3.6, RFC 9112): one request, one response, then the bytes are the tunnel's.

`parse_response` takes all bytes heard so far. It stops exactly behind the header block: whatever
follows a 2xx belongs to the destination, even where Content-Length or Transfer-Encoding claim a body
(RFC 9110 says to ignore both).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from tunsmith.errors import WireError

MAX_HEAD = 16384
"""Bytes of header blocks, interim responses included, before the proxy is taken for broken."""

Buffer = bytes | bytearray

_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%-]+|[0-9A-Fa-f:.]+", re.ASCII)
"""reg-name or IPv6address (RFC 3986 §3.2.2): nothing that could end the line or the authority."""
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9][0-9])(?: ([^\r\n]*))?(?=\r?\n)")
_PROXY_ERROR = re.compile(rb"^proxy-status:[^\r\n]*?;\s*error=\"?([a-z_]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Response:
    """A final response: `reason` is for people, `proxy_error` the error type of Proxy-Status
    (RFC 9209 §2.3, such as `connection_refused`), each "" where absent."""

    status: int
    reason: str
    proxy_error: str


def request(host: str, port: int, credentials: tuple[bytes, bytes] | None = None) -> bytes:
    """A CONNECT request; `credentials` (user, password) go as Basic (RFC 7617).

    Raises WireError for a host that has no place in an authority: a name out of DNS may hold any byte."""
    if not _HOST.fullmatch(host):
        raise WireError("name", f"{host!r} cannot stand in an HTTP request")
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if credentials is not None:
        token = base64.b64encode(b":".join(credentials)).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {token}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def parse_response(data: Buffer) -> tuple[Response, int] | None:
    """The final response and where its header block ends, interim ones (1xx) skipped; None while incomplete.

    Raises WireError: "not http" as early as that shows, "too long" beyond MAX_HEAD."""
    start = 0
    while True:
        blank = _BLANK_LINE.search(data, start)
        if blank is None:
            _check_beginning(data, start)
            return None
        if blank.end() > MAX_HEAD:
            raise WireError("too long", f"a response header of more than {MAX_HEAD} bytes")
        line = _STATUS.match(data, start)
        if line is None:
            raise WireError("not http", f"not an HTTP response: {bytes(data[start : start + 20])!r}")
        status = int(line[1])
        if status >= 200:
            break
        start = blank.end()
    error = _PROXY_ERROR.search(data, start, blank.end())
    return (
        Response(
            status,
            _printable(line[2] or b""),
            error[1].decode("ascii").lower() if error else "",
        ),
        blank.end(),
    )


def _check_beginning(data: Buffer, start: int) -> None:
    if len(data) > MAX_HEAD:
        raise WireError("too long", f"a response header of more than {MAX_HEAD} bytes")
    beginning = bytes(data[start : start + 5])
    if not b"HTTP/".startswith(beginning):
        raise WireError("not http", f"not an HTTP response: {bytes(data[start : start + 20])!r}")


def _printable(reason: bytes) -> str:
    """The reason phrase, safe to print on a terminal."""
    return "".join(char for char in reason.decode("latin-1")[:80] if char.isprintable()).strip()
