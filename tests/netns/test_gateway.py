"""`tunsmith up --gateway` on C: hosts of the LAN and containers go through the TUN, too, as who they are; what comes
from outside goes on as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.netns import ports
from tests.netns.caller import Caller
from tests.netns.house import PUBLISHED, SSH, WEB, Guest, House
from tests.netns.machine import UP, Up, up
from tests.netns.servers import Peers, eventually
from tests.netns.sessions import EchoServer, Session, check_all
from tests.netns.topology import CALLER, SERVER, Namespace

pytestmark = pytest.mark.netns

SOCKS = f"socks5://{SERVER[4]}:{ports.SOCKS}"
NAME = "www.example.test"


@pytest.fixture
def root(caller: Caller) -> Caller:
    """C, with root at the keyboard."""
    caller.user = 0
    return caller


@pytest.fixture
def house(root: Caller, request: pytest.FixtureRequest) -> Iterator[House]:
    """C must be afterwards what it was before, to every switch."""
    found = House(root.topology, **getattr(request, "param", {"forwards": True, "strict": False}))
    try:
        before = found.state()
        yield found
        assert found.state() == before
    finally:
        found.close()


HOUSES = pytest.mark.parametrize(
    "house",
    [
        {"forwards": False, "strict": False},
        {"forwards": True, "strict": False},
        {"forwards": True, "strict": True},
    ],
    ids=["a plain machine", "a router", "a router with strict filters"],
    indirect=True,
)
GUESTS = pytest.mark.parametrize("name", ["lan", "container"])


def sources(running: Up, protocol: str) -> set[str]:
    """Who has had flows."""
    flows = [each for each in running.told("flow") if each["protocol"] == protocol]
    return {each["source"].rpartition(":")[0].strip("[]") for each in flows}


@HOUSES
@pytest.mark.parametrize("via", ["direct", SOCKS], ids=["direct", "socks5"])
def test_hosts_and_containers_go_through_the_tun_as_who_they_are(
    root: Caller, house: House, via: str
) -> None:
    guests = [house.lan, house.container]
    with up(root, "--gateway", "--via", via) as running:
        for guest in guests:
            for family in (4, 6):
                assert guest.client("connect", SERVER[family], ports.ECHO) == "open"
                assert guest.client("udp_echo", SERVER[family], ports.ECHO, 1200) == [True]
                assert guest.pings(SERVER[family]) is (via == "direct")
        assert running.told("up")[0]["hosts"] == ["lan0", "docker0"]
    everybody = {address for guest in guests for address in guest.addresses.values()}
    for protocol in ("tcp", "udp", *(["icmp"] if via == "direct" else [])):
        assert sources(running, protocol) == everybody


@GUESTS
def test_names_asked_for_by_others_reach_the_proxy_as_names(
    root: Caller, house: House, peers: Peers, name: str
) -> None:
    guest: Guest = getattr(house, name)
    with up(root, "--gateway", "--via", SOCKS):
        fake = guest.look_up(NAME, SERVER[4])
        assert fake.startswith("198.18.")
        assert guest.client("connect", fake, ports.HTTP) == "open"
    assert [seen["target"] for seen in peers.forget()] == [f"{NAME}:{ports.HTTP}"]


@HOUSES
def test_without_gateway_others_are_left_alone(root: Caller, house: House) -> None:
    known = {4: CALLER[4], 6: house.container.addresses[6]}  # masqueraded, and not
    forwards = bool(house.host.run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1")
    with up(root, "--via", "block"):
        for family in (4, 6):
            if forwards:
                assert (
                    house.lan.client("ask", SERVER[family], ports.WHO).split()[0]
                    == house.lan.addresses[family]
                )
                assert house.container.client("ask", SERVER[family], ports.WHO).split()[0] == known[family]
                assert house.lan.pings(SERVER[family])
            else:
                assert house.lan.client("connect", SERVER[family], ports.WHO, 1) != "open"
        if forwards:
            assert house.lan.look_up(NAME, SERVER[4]) == SERVER[4]


@pytest.mark.parametrize(
    "house",
    [{"forwards": True, "strict": False}, {"forwards": True, "strict": True}],
    ids=["loose", "strict"],
    indirect=True,
)
@pytest.mark.parametrize("options", [[], ["--gateway"]], ids=["alone", "gateway"])
def test_services_and_published_ports_go_on_through_start_run_and_stop(
    root: Caller, house: House, options: list[str]
) -> None:
    """Connections from before, and those that begin meanwhile."""
    with EchoServer(house.host, SSH), EchoServer(house.container.namespace, WEB), ExitStack() as sessions:

        def begin() -> list[Session]:
            return [
                sessions.enter_context(Session(root.topology.server, CALLER[4], port))
                for port in (SSH, PUBLISHED)
            ]

        before = begin()
        check_all(before)
        with up(root, "--via", "block", *options):
            check_all(before)
            meanwhile = begin()
            check_all([*before, *meanwhile])
        check_all([*before, *meanwhile, *begin()])


@HOUSES
def test_killed_it_leaves_no_switch_behind(root: Caller, house: House) -> None:
    before = house.state()
    with up(root, "--gateway") as running:
        assert house.state() != before
        running.process.kill()
        running.process.wait()
        eventually(lambda: house.state() == before, "the machine as it was", 2.0)


@pytest.mark.parametrize(
    "house",
    [{"forwards": True, "strict": False}, {"forwards": True, "strict": True}],
    ids=["loose", "strict"],
    indirect=True,
)
def test_a_container_may_be_the_first_to_speak_in_a_connection_from_before(
    root: Caller, house: House
) -> None:
    with (
        EchoServer(house.container.namespace, WEB) as server,
        Session(root.topology.server, CALLER[4], PUBLISHED) as session,
    ):
        session.check()
        session.say(b"later\n")
        with up(root, "--gateway", "--via", "block"):
            server.go_on()
            session.hear()
        session.check()


@GUESTS
def test_connections_of_others_from_before_end(root: Caller, house: House, name: str) -> None:
    guest: Guest = getattr(house, name)
    with EchoServer(root.topology.server, WEB + 1), Session(guest.namespace, SERVER[4], WEB + 1) as session:
        session.check()
        with up(root, "--gateway", "--via", "block"):
            session.say(b"are you there?\n")
            eventually(session.ended, "the end of the connection", 5.0)


@pytest.mark.parametrize(
    "options",
    [
        ["--strategy", "interface"],
        ["--strategy", "replace"],
        ["--strategy", "cover"],
        ["--strict"],
        ["--workers", "2"],
        ["--fail-closed"],
    ],
    ids=" ".join,
)
def test_every_strategy_serves_others(root: Caller, house: House, options: list[str]) -> None:
    with up(root, "--gateway", *options) as running:
        for guest in (house.lan, house.container):
            for family in (4, 6):
                assert guest.client("connect", SERVER[family], ports.ECHO) == "open"
    assert sources(running, "tcp") == {*house.lan.addresses.values(), *house.container.addresses.values()}


def test_a_container_network_that_is_made_meanwhile_is_served(root: Caller, house: House) -> None:
    with up(root, "--gateway") as running, house.network() as found:
        assert found.client("connect", SERVER[4], ports.ECHO) == "open"
        running.stop()
    assert sources(running, "tcp") == {found.addresses[4]}


@contextmanager
def counted(router: Namespace) -> Iterator[Callable[[], int]]:
    """How many packets of guests R has passed on that did not come by a proxy."""
    router.run("nft", "-f", "-", stdin=COUNTER)
    try:
        yield lambda: int(
            router.run("nft", "list", "counter", "inet", "watch", "past").split("packets ")[1].split()[0]
        )
    finally:
        router.run("nft", "delete", "table", "inet", "watch")


COUNTER = f"""
table inet watch {{
  counter past {{ }}
  chain forward {{
    type filter hook forward priority -10
    iifname "rc0" meta l4proto {{ tcp, udp }} th dport {{ {ports.ECHO}, 53 }} counter name past
    iifname "rc0" meta l4proto {{ icmp, icmpv6 }} counter name past
  }}
}}
"""


def test_nothing_of_others_leaves_past_the_proxy(root: Caller, house: House) -> None:
    with counted(root.topology.router) as past:
        assert house.lan.client("connect", SERVER[4], ports.ECHO) == "open"
        before = past()
        assert before > 0
        with up(root, "--gateway", "--via", SOCKS):
            speak_in_every_way(house)
            assert past() == before


def speak_in_every_way(house: House) -> None:
    for guest in (house.lan, house.container):
        for family in (4, 6):
            guest.client("connect", SERVER[family], ports.ECHO, 1)
            guest.client("udp_ask", SERVER[family], ports.ECHO, 1)
            guest.pings(SERVER[family])


def test_fail_closed_keeps_others_in_as_well_and_published_ports_open(root: Caller, house: House) -> None:
    with counted(root.topology.router) as past, EchoServer(house.container.namespace, WEB):
        with up(root, "--gateway", "--via", SOCKS, "--fail-closed") as running:
            running.process.kill()
            running.process.wait()
        eventually(
            lambda: house.lan.client("connect", SERVER[4], ports.ECHO, 1) == "EHOSTUNREACH", "the block", 5.0
        )
        before = past()
        speak_in_every_way(house)
        assert past() == before
        with Session(root.topology.server, CALLER[4], PUBLISHED) as session:
            session.check()
        done = root.plain(*UP[:-1], "restore", "--state", str(root.home / "state"))
        assert done.returncode == 0, done.stderr
        assert house.lan.client("connect", SERVER[4], ports.ECHO) == "open"
