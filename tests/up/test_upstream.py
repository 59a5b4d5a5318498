"""Where the proxy is, and whom to ask for its name."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from tunsmith.config import Settings
from tunsmith.errors import HostError
from tunsmith.up import upstream
from tunsmith.up.upstream import Server, find_server, read_resolvers


def test_proxy_named_by_address_is_there() -> None:
    assert find_server("socks5://192.0.2.1:1080", Settings()).addresses == (ip_address("192.0.2.1"),)
    assert find_server("http://[2001:db8::1]:3128", Settings()).addresses == (ip_address("2001:db8::1"),)


def test_proxy_on_this_machine_needs_no_way_out() -> None:
    server = find_server("127.0.0.1:1080", Settings())
    assert (server.found, server.addresses) == (((socket.AF_INET, "127.0.0.1"),), ())


@pytest.mark.parametrize("via", ["direct", "block"])
def test_upstream_that_is_no_proxy_is_nowhere(via: str) -> None:
    assert find_server(via, Settings()) == Server()


def test_fake_address_for_the_proxy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("198.18.0.7", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(HostError, match="gives a fake address for the proxy"):
        find_server("socks5://proxy.example:1080", Settings())


def test_name_that_leads_nowhere_is_told_before_anything_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(HostError, match="nothing was changed"):
        find_server("socks5://proxy.example:1080", Settings())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(upstream, "RESOLV_CONF", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(upstream, "BEHIND_STUB", str(tmp_path / "behind"))
    return tmp_path


def test_stub_of_systemd_resolved_is_passed_over(files: Path) -> None:
    (files / "resolv.conf").write_text("nameserver 127.0.0.53\nsearch corp.example\n")
    (files / "behind").write_text("nameserver 192.0.2.53\nnameserver 2001:db8::53\n")
    found = read_resolvers()
    assert found.nameservers == ("192.0.2.53", "2001:db8::53")
    assert found.search == ("corp.example",)


def test_other_resolvers_on_loopback_are_asked(files: Path) -> None:
    (files / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    assert read_resolvers().nameservers == ("127.0.0.1",)


def test_resolvers_elsewhere_are_asked_whatever_resolved_knows(files: Path) -> None:
    (files / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    (files / "behind").write_text("nameserver 192.0.2.53\n")
    assert read_resolvers().nameservers == ("192.0.2.1",)
