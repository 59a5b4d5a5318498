from __future__ import annotations

import pytest

from tunsmith.cli.publish import parse_all, parse_publish
from tunsmith.config import Publish
from tunsmith.errors import UsageError


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("8080:80", Publish("", 8080, 80)),
        ("8080:80/tcp", Publish("", 8080, 80, ("tcp",))),
        ("127.0.0.1:53:5353/udp", Publish("127.0.0.1", 53, 5353, ("udp",))),
        ("[::1]:1:65535", Publish("::1", 1, 65535)),
        ("0.0.0.0:8080:80", Publish("0.0.0.0", 8080, 80)),
        (":8080:80", Publish("", 8080, 80)),
    ],
)
def test_every_form_is_read(text: str, published: Publish) -> None:
    assert parse_publish(text) == published


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("80", "not of the form"),
        ("", "not of the form"),
        ("80:", "not of the form"),
        ("a:b", "not of the form"),
        ("::1:80:80", "not of the form"),
        ("80:80/", "not of the form"),
        ("٨٠:80", "not of the form"),
        ("80:80/sctp", "neither tcp nor udp"),
        ("0:80", "0 is not a port"),
        ("80:65536", "65536 is not a port"),
        ("localhost:80:80", "localhost is not an IP address"),
        ("256.0.0.1:80:80", "256.0.0.1 is not an IP address"),
    ],
)
def test_anything_else_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_publish(text)


def test_one_outer_port_leads_to_one_place() -> None:
    with pytest.raises(UsageError, match="tcp port 80 is published already"):
        parse_all(("80:1", "80:2/tcp"))
    assert len(parse_all(("80:1/udp", "80:2/tcp", "127.0.0.1:80:3/tcp"))) == 3
