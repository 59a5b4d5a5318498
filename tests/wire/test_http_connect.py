"""RFC 9110 §9.3.6 and RFC 9112 as bytes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.wire import http_connect
from tunsmith.wire.http_connect import MAX_HEAD, Response, parse_response

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_request_names_the_authority_twice() -> None:
    assert http_connect.request("a.test", 443) == (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")


def test_request_brackets_ipv6() -> None:
    assert http_connect.request("2001:db8::1", 80).startswith(b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\n")


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_credentials_go_as_basic__rfc7617(user: bytes, password: bytes) -> None:
    request = http_connect.request("a.test", 1, (user, password))
    _, _, value = request.partition(b"Proxy-Authorization: Basic ")
    assert base64.b64decode(value.removesuffix(b"\r\n\r\n")) == user + b":" + password
    assert request.count(b"\r\n") == 4


@given(st.text(max_size=40))
def test_no_host_can_smuggle_a_line(host: str) -> None:
    """A name comes out of DNS and may hold any byte."""
    try:
        request = http_connect.request(host, 80)
    except WireError:
        return
    assert request.count(b"\r\n") == 3
    assert request.count(b" ") == 3


@pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "a/b", "a@b", "[::1]", "ü", "a\0"])
def test_host_that_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(WireError):
        http_connect.request(host, 80)


def test_every_prefix_is_incomplete_and_what_follows_is_left_alone() -> None:
    for cut in range(len(OK)):
        assert parse_response(OK[:cut]) is None
    expected = Response(200, "Connection established", ""), len(OK)
    assert parse_response(OK) == expected
    assert parse_response(OK + b"SSH-2.0-early\r\n\r\n") == expected


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\nProxy-agent: x\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_success_in_every_dress(head: bytes) -> None:
    for cut in range(len(head)):
        assert parse_response(head[:cut]) is None
    parsed = parse_response(head + b"hello")
    assert parsed is not None
    assert parsed[0].status == 200
    assert parsed[1] == len(head)


def test_proxy_status_names_the_cause__rfc9209() -> None:
    head = (
        b"HTTP/1.1 502 Bad Gateway\r\nVia: x\r\n"
        b'proxy-status: edge.test; received-status=1; error=connection_refused; details="no; error=x"\r\n\r\n'
    )
    parsed = parse_response(head)
    assert parsed is not None
    assert parsed[0] == Response(502, "Bad Gateway", "connection_refused")


def test_reason_is_safe_to_print() -> None:
    parsed = parse_response(b"HTTP/1.1 500 \x1b[31mred\x07" + b"x" * 200 + b"\r\n\r\n")
    assert parsed is not None
    assert parsed[0].reason.isprintable()
    assert len(parsed[0].reason) <= 80


@pytest.mark.parametrize(
    "data",
    [
        b"\x05\x00",
        b"SSH-2.0-x\r\n",
        b"HTTQ",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200x\r\n\r\n",
        b"HTTP/1.1 999 x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with pytest.raises(WireError) as caught:
        parse_response(data)
    assert caught.value.reason == "not http"


def test_head_is_bounded() -> None:
    line = b"HTTP/1.1 200 OK\r\n"
    parse_response(line + b"a" * (MAX_HEAD - len(line)))
    for data in (
        line + b"a" * MAX_HEAD,
        line + b"a" * MAX_HEAD + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    ):
        with pytest.raises(WireError) as caught:
            parse_response(data)
        assert caught.value.reason == "too long"


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"HTTP/1.1 200 " + tail))
def test_any_bytes_are_parsed_or_refused_or_too_few(data: bytes) -> None:
    try:
        parsed = parse_response(data)
    except WireError:
        return
    assert parsed is None or parsed[1] <= len(data)
