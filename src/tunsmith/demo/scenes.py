"""What the demo plays: a real program, the upstream it goes through, and what must come of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tunsmith.config import Network
from tunsmith.demo.client import DIRECT, Finished, Flow
from tunsmith.demo.internet import (
    BEHIND_PROXY,
    ECHO,
    ECHO_PORT,
    PROXY,
    PROXY_PORT,
    PUBLIC,
    SIX,
    VAULT,
    WWW,
    has_ipv6,
    name_of,
)
from tunsmith.demo.web import STREAM

VIA_PROXY = f"socks5://{PROXY}:{PROXY_PORT}"
SUCCEEDS = 0
CURL_NO_CONNECTION = 7
PING_NO_ANSWER = 1

TUNSMITH_DNS = f"{Network().gateway}:53"

_PING = ("ping", "-n", "-c1", "-W2")
_PROGRAMS = [sys.executable, "-P", "-m", "tunsmith.demo.programs"]


@dataclass(frozen=True, slots=True)
class Scene:
    """One program, and the flow of it that matters."""

    label: str
    """The program in few letters."""
    command: tuple[str, ...]
    via: str
    protocol: str
    """Of the flow: tcp, udp, icmp or dns."""
    target: str
    """Where the flow goes: `name:port`, or the name alone for icmp."""
    outcome: str
    """How it must end, as `tunsmith run --json` says it."""
    code: int = SUCCEEDS
    """What the program must exit with."""
    says: str = ""
    """What it must have said among other things."""
    seen: bool = True
    """False: tunsmith answers by itself, and no flow comes about."""

    def flow_of(self, finished: Finished) -> Flow | None:
        """The flow that matters."""
        return next((flow for flow in finished.flows if flow.protocol == self.protocol), None)

    def fault_of(self, finished: Finished) -> str:
        """What is not as it must be, in words; empty where everything is."""
        said = " ".join(f"{finished.said} {finished.complaint}".split())
        if finished.code != self.code:
            return f"exit code {finished.code} instead of {self.code}: {said}"
        if self.says not in finished.said:
            return f"said {said!r} instead of {self.says!r}"
        flow = self.flow_of(finished)
        if flow is None:
            return f"no {self.protocol} flow" if self.seen else ""
        if flow.outcome != self.outcome:
            return f"{flow.outcome} instead of {self.outcome}"
        reached = target_of(flow)
        return f"went to {reached} instead of {self.target}" if reached != self.target else ""


def target_of(flow: Flow) -> str:
    """The target of `flow` with its name, also where the flow itself only knows the address."""
    host, _, port = flow.target.rpartition(":")
    name = name_of(host.strip("[]")) or host
    return name if flow.protocol == "icmp" else f"{name}:{port}"


def scenes() -> list[Scene]:
    """All of them in order, as far as this machine has the programs."""
    return [*_direct(), *_through_proxy()]


def measuring(seconds: float) -> list[str]:
    """A download of `seconds`; says bytes, seconds, and seconds to the first byte."""
    url = f"http://{WWW}{STREAM}{seconds:g}"
    if shutil.which("curl"):
        form = "%{size_download} %{time_total} %{time_starttransfer}\\n"
        return ["curl", "--silent", "--show-error", "--output", os.devnull, "--write-out", form, url]
    return [*_PROGRAMS, "measure", url]


def _direct() -> Iterator[Scene]:
    address = PUBLIC[WWW]
    yield _fetch(WWW, DIRECT, says=f"reached {address}")
    if has_ipv6():
        yield _fetch(SIX, DIRECT, what=", IPv6", says=f"reached {PUBLIC[SIX]}")
    yield _fetch_closed(WWW, DIRECT)
    yield _echo(DIRECT)
    look_up = ("dig", "+short", WWW) if shutil.which("dig") else ("getent", "ahosts", WWW)
    yield Scene(look_up[0], look_up, DIRECT, "dns", TUNSMITH_DNS, "answered", says=address)
    if shutil.which("ping"):
        yield Scene("ping", (*_PING, WWW), DIRECT, "icmp", WWW, "answered")


def _through_proxy() -> Iterator[Scene]:
    yield _fetch(VAULT, VIA_PROXY, says=f"reached {BEHIND_PROXY[VAULT]}")
    yield _fetch_closed(VAULT, VIA_PROXY)
    yield _echo(VIA_PROXY)
    if shutil.which("ping"):
        yield Scene(
            "ping",
            (*_PING, VAULT),
            VIA_PROXY,
            "icmp",
            VAULT,
            "unreachable",  # no SOCKS proxy carries it, and it is not let out past the proxy
            PING_NO_ANSWER,
            says="nreachable",
            seen=False,
        )


def _fetch(name: str, via: str, what: str = "", says: str = "") -> Scene:
    program, *command = _fetcher(f"http://{name}/")
    return Scene(program + what, tuple(command), via, "tcp", f"{name}:80", "closed", says=says)


def _fetch_closed(name: str, via: str) -> Scene:
    target = f"{name}:81"
    program, *command = _fetcher(f"http://{target}/")
    return Scene(f"{program} :81", tuple(command), via, "tcp", target, "refused", CURL_NO_CONNECTION)


def _fetcher(url: str) -> list[str]:
    """The name of a program that fetches `url`, and its command line."""
    if shutil.which("curl"):
        return ["curl", "curl", "--silent", "--show-error", url]
    return ["python", *_PROGRAMS, "fetch", url]


def _echo(via: str) -> Scene:
    command = (*_PROGRAMS, "echo", ECHO, str(ECHO_PORT))
    target = f"{ECHO}:{ECHO_PORT}"
    return Scene("python, UDP", command, via, "udp", target, "closed", says="Hello by UDP")
