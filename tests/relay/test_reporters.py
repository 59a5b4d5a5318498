"""What is said of flows, to people and to machines."""

from __future__ import annotations

import json
import os
from ipaddress import ip_address

import pytest

from tunsmith.flow import Target
from tunsmith.relay.report import FlowRecord
from tunsmith.relay.reporters import JsonLines, Lines, human_size
from tunsmith.wire.ip import IPV4, IPV6

WEB = Target("192.0.2.80", 443)


def record(protocol: str, target: Target, upstream: str, *, rule: str = "via", name: str = "") -> FlowRecord:
    family = IPV6 if ":" in target.host else IPV4
    here, there = ("2001:2::1", "2001:2::3") if family is IPV6 else ("198.18.0.1", "198.18.0.3")
    key = family.key(ip_address(here).packed, 40000, ip_address(there).packed, target.port)
    return FlowRecord(
        protocol, family, key, target, rule, upstream, started=1.0, ended=1.31, up=75, down=4301,
        outcome="closed", name=name,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (record("tcp", WEB, "direct"), "192.0.2.80:443 direct"),
        (record("tcp", WEB, "direct by wg0", name="a.test"), "192.0.2.80:443 (a.test) direct by wg0"),
        (record("tcp", Target("2001:db8::1", 80), "direct"), "[2001:db8::1]:80 direct"),
        (
            record("tcp", Target("a.test", 443), "http://proxy:3128", name="a.test"),
            "a.test:443 via http://proxy:3128",
        ),
        (record("icmp", Target("2001:db8::1", 0), "direct"), "2001:db8::1 direct"),
        (
            record("dns", Target("198.18.0.2", 53), "tunsmith", rule="dns", name="AAAA a.test"),
            "198.18.0.2:53 (AAAA a.test)",
        ),
        (record("tcp", Target("127.0.0.1", 80), "tunsmith", rule="loopback"), "127.0.0.1:80, loopback"),
        (
            record("udp", Target("198.18.0.1", 80), "0.0.0.0:8080", rule="publish"),
            "198.18.0.1:40000 to 198.18.0.1:80 published at 0.0.0.0:8080",
        ),
    ],
)
def test_line_for_people(told: FlowRecord, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Lines().flow_ended(told)
    columns = f"{told.protocol:<4}       75 B up    4.2 KiB down     0.31 s"
    assert capsys.readouterr().err == f"{columns}  {line}: closed\n"


def test_object_for_machines_keeps_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLines().flow_ended(record("tcp", WEB, "direct", name="a.test"))
    assert json.loads(capsys.readouterr().err) == {
        "event": "flow", "protocol": "tcp", "source": "198.18.0.1:40000", "destination": "198.18.0.3:443",
        "target": "192.0.2.80:443", "name": "a.test", "rule": "via", "upstream": "direct",
        "outcome": "closed", "up": 75, "down": 4301, "seconds": 0.31,
    }  # fmt: skip


def test_sizes_fit_their_column() -> None:
    sizes = [human_size(count) for shift in range(0, 50, 2) for count in ((1 << shift) - 1, 1 << shift)]
    assert max(map(len, sizes)) <= 10, sizes
    assert (human_size(1023), human_size(1024)) == ("1023 B", "1.0 KiB")


def test_a_reader_who_does_not_read_stops_nobody() -> None:
    """Lines are lost then, whole ones; when there is room again they come again."""
    reading, writing = os.pipe()
    with open(reading) as reader, open(writing, "w") as writer:
        lines = JsonLines(writer)
        for _ in range(5000):
            lines.notice("x" * 90)
        os.set_blocking(reading, False)
        kept = reader.readlines()
        assert 400 < len(kept) < 5000
        assert {json.loads(line)["text"] for line in kept} == {"x" * 90}
        lines.notice("again")
        assert json.loads(reader.readline())["text"] == "again"
