from __future__ import annotations

import errno

import pytest

from tests.stack.port import MAC, PEER_MAC, Bench, Port, packed
from tunsmith.device.base import ALL_OFFLOADS
from tunsmith.errors import LocalError
from tunsmith.stack import ways
from tunsmith.stack.events import Closed, Datagram, DatagramError, Established, FlowRequested, Readable
from tunsmith.stack.loopback import LOOPBACK_FRAMES
from tunsmith.stack.nic import Nic
from tunsmith.wire import ndp
from tunsmith.wire.arp import REPLY, Arp, build_arp
from tunsmith.wire.checksum import finish, ones_sum, pseudo_sum
from tunsmith.wire.ethernet import ETHERTYPE_ARP
from tunsmith.wire.icmp import IcmpError, build_icmp
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, parse_ip
from tunsmith.wire.udp import UDP


def udp(source: str, destination: str, data: bytes = b"data", **fields: int) -> bytes:
    """A complete packet with one datagram from port 9 to port 7."""
    addresses = packed(source) + packed(destination)
    family: IpFamily = IPV4 if len(addresses) == 8 else IPV6
    half = len(addresses) // 2
    segment = UDP.pack(9, 7, 8 + len(data), 0) + data
    checksum = finish(pseudo_sum(addresses, 17, len(segment)) + ones_sum(segment))
    segment = segment[:6] + checksum.to_bytes(2, "big") + segment[8:]
    return family.header(addresses[:half], addresses[half:], 17, len(segment), **fields) + segment


class Two(Bench):
    """Two TUNs: 10.1.0.1/16 and fd01::1/32 on `left`, 10.2.0.1/16 and fd02::1/32 on `right`."""

    def __init__(self, *, forwarding: bool = False, **right: int) -> None:
        self.left_port, self.right_port = Port(), Port(**right)  # type: ignore[arg-type]
        self.left = Nic(self.left_port, ["10.1.0.1/16", "fd01::1/32"], name="left")
        self.right = Nic(self.right_port, ["10.2.0.1/16", "fd02::1/32"], name="right")
        super().__init__(self.left, self.right, forwarding=forwarding)

    def say(self, source: str, destination: str, data: bytes = b"data") -> None:
        family = IPV4 if "." in source else IPV6
        self.stack.send_datagram(family, family.key(packed(source), 7, packed(destination), 9), data)


# --- out ---


@pytest.mark.parametrize(
    ("source", "destination", "goes_left"),
    [
        ("10.1.0.1", "10.1.9.9", True),
        ("10.1.0.1", "10.2.9.9", False),
        ("fd01::1", "fd02::9", False),
        ("10.2.0.1", "192.0.2.1", True),
        ("fd02::1", "2001:db8::1", True),
    ],
)
def test_packets_leave_by_the_nic_of_their_destination(
    source: str, destination: str, goes_left: bool
) -> None:
    two = Two()
    for _ in range(2):  # the way is found, and remembered
        two.say(source, destination)
        assert (len(two.left_port.take()), len(two.right_port.take())) == (goes_left, not goes_left)


def test_routes_change_what_was_remembered() -> None:
    two = Two()
    two.say("10.1.0.1", "192.0.2.1")
    assert len(two.left_port.take()) == 1
    route = two.router.add_route("192.0.2.0/24", two.right, metric=3)
    two.say("10.1.0.1", "192.0.2.1")
    assert len(two.right_port.take()) == 1
    two.router.remove_route(route)
    two.say("10.1.0.1", "192.0.2.1")
    assert len(two.left_port.take()) == 1


def test_memory_of_ways_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "MOST", 3)
    two = Two()
    for number in range(10):
        two.say("10.1.0.1", f"192.0.2.{number}")
        assert len(two.router._ways.known) <= 3
    assert len(two.left_port.take()) == 10


def test_no_route_is_network_unreachable() -> None:
    port = Port(ethernet=True)
    bench = Bench(Nic(port, ["10.0.0.1/24", "fd00::1/64"], mac=MAC, probe=False))
    for source, destination in (("10.0.0.1", "192.0.2.1"), ("fd00::1", "2001:db8::1")):
        assert bench.router.source_for(packed(destination)) is None
        connection = bench.stack.connect(packed(source), 1000, packed(destination), 80, bench.clock())
        assert connection is not None
        bench.run()
        event = bench.stack.poll_event()
        assert isinstance(event, Closed)
        assert event.error == 101  # ENETUNREACH
    assert bench.stack.drops["no_route"] == 2
    assert port.take() == []


def test_gateway_is_asked_for_instead_of_the_destination() -> None:
    port = Port(ethernet=True)
    nic = Nic(port, ["10.0.0.1/24"], mac=MAC, probe=False)
    bench = Bench(nic)
    bench.router.add_route("0.0.0.0/0", nic, gateway="10.0.0.254")
    assert nic.station is not None
    nic.station.neighbours.on_sight(packed("10.0.0.254"), PEER_MAC, 0.0)
    bench.stack.send_datagram(IPV4, IPV4.key(packed("10.0.0.1"), 7, packed("192.0.2.1"), 9), b"data")
    (frame,) = port.frames()
    assert frame.ethernet.destination == PEER_MAC
    assert parse_ip(frame.payload).destination == packed("192.0.2.1")


@pytest.mark.parametrize("nic", [None, 0, 1])
def test_gateway_is_on_the_network_of_a_nic(nic: int | None) -> None:
    """As Linux refuses others: "Nexthop has invalid gateway"."""
    bench = Bench(
        Nic(Port(ethernet=True), ["10.0.0.1/24"], mac=MAC, probe=False),
        Nic(Port(ethernet=True), ["10.1.0.1/24", "fd01::1/64"], mac=PEER_MAC, probe=False),
    )
    router = bench.router
    chosen = None if nic is None else router.nics[nic]
    with pytest.raises(LocalError, match=r"10\.9\.0\.1.* on a network with that address") as refused:
        router.add_route("0.0.0.0/0", chosen, gateway="10.9.0.1")
    assert refused.value.errno == errno.ENETUNREACH
    if nic != 0:
        assert router.add_route("0.0.0.0/0", chosen, gateway="10.1.0.254").nic is router.nics[1]
        assert router.add_route("::/0", chosen, gateway="fe80::1").nic in router.nics
        with pytest.raises(LocalError):  # by way of another gateway is not good enough
            router.add_route("192.0.2.0/24", chosen, gateway="203.0.113.1")
        router.add_route("10.9.0.1", router.nics[1])
        assert router.add_route("10.10.0.0/16", chosen, gateway="10.9.0.1").nic is router.nics[1]


def test_gateway_behind_a_tun_is_taken_at_its_owners_word() -> None:
    tun = Nic(Port(), ["10.0.0.1/32"])
    router = Bench(tun, Nic(Port(), ["10.1.0.1/24"])).router
    with pytest.raises(LocalError):
        router.add_route("192.0.2.0/24", gateway="10.0.0.254")
    assert router.add_route("192.0.2.0/24", tun, gateway="10.0.0.254").nic is tun


def test_route_is_by_a_nic_of_this_stack() -> None:
    nic, other = Nic(Port(), ["10.0.0.1/24"]), Nic(Port(), ["10.0.0.1/24"])
    with pytest.raises(LocalError, match="none of this stack's"):
        Bench(nic).router.add_route("0.0.0.0/0", other)


def test_link_local_destinations_belong_to_the_link_of_their_source() -> None:
    ports = [Port(ethernet=True), Port(ethernet=True)]
    macs = [MAC, b"\x02\0\0\0\0\x99"]
    nics = [Nic(port, ["fd00::1/64"], mac=mac, probe=False) for port, mac in zip(ports, macs, strict=True)]
    bench = Bench(*nics)
    for destination in ("fe80::1234", "ff02::fb"):
        for port, mac in zip(ports, macs, strict=True):
            bench.stack.mss(IPV6, packed(destination) + bytes(20))
            key = IPV6.key(ndp.link_local(mac), 7, packed(destination), 9)
            bench.stack.send_datagram(IPV6, key, b"data")
            assert len(port.take()) == 1
    key = IPV6.key(packed("fd00::77"), 7, packed("ff02::fb"), 9)
    bench.stack.send_datagram(IPV6, key, b"from no address of ours")
    assert bench.stack.drops["no_route"] == 1


def test_narrow_link_gets_small_packets() -> None:
    two = Two(mtu=1280)
    key = IPV4.key(packed("10.2.0.9"), 9, packed("10.2.0.1"), 7)
    assert two.stack.mss(IPV4, key) == 1240
    assert two.stack.mss(IPV4, IPV4.key(packed("10.1.0.9"), 9, packed("10.2.0.1"), 7)) == 1460
    two.say("10.2.0.1", "10.2.0.9", bytes(1400))
    two.say("10.1.0.1", "10.1.0.9", bytes(1400))
    assert [len(frame) - 10 <= 1280 for frame in two.right_port.take()] == [True, True]
    assert len(two.left_port.take()) == 1
    assert two.stack.mss(IPV4, IPV4.key(packed("10.2.0.1"), 9, packed("10.2.0.1"), 7)) == 1460


def test_errors_given_in_two_parts_find_their_way() -> None:
    two = Two()
    two.stack.send_datagram_error(
        IPV4, IPV4.key(packed("10.2.0.9"), 9, packed("10.2.0.1"), 7), IcmpError.PORT, two.clock()
    )
    assert len(two.right_port.take()) == 1


# --- who speaks ---


def test_source_is_chosen_by_the_way() -> None:
    two = Two()
    two.router.add_route("192.0.2.0/24", two.right, gateway="10.2.0.254")
    for destination, source in (
        ("10.1.0.9", "10.1.0.1"),
        ("10.2.0.9", "10.2.0.1"),
        ("192.0.2.9", "10.2.0.1"),
        ("198.51.100.1", "10.1.0.1"),
        ("fd02::9", "fd02::1"),
        ("10.2.0.1", "10.2.0.1"),
    ):
        assert two.router.source_for(packed(destination)) == packed(source)


def test_unnumbered_nic_speaks_with_the_address_of_another() -> None:
    tap = Nic(Port(ethernet=True), ["10.0.0.1/24", "fe80::1/64"], mac=MAC, probe=False)
    tun = Nic(Port())
    bench = Bench(tap, tun)
    assert bench.router.source_for(packed("192.0.2.1")) == packed("10.0.0.1")
    assert bench.router.source_for(packed("2001:db8::1")) == packed("fe80::1")
    assert bench.router.any_address(IPV6) == packed("fe80::1")
    assert Bench(Nic(Port())).router.source_for(packed("2001:db8::1")) is None


# --- in ---


@pytest.mark.parametrize(
    ("source", "destination"), [("10.1.0.9", "10.1.0.1"), ("10.1.0.9", "10.2.0.1"), ("fd01::9", "fd02::1")]
)
def test_our_addresses_are_ours_on_every_nic__rfc1122_3_3_4_2(source: str, destination: str) -> None:
    two = Two()
    two.receive(two.left, udp(source, destination))
    assert isinstance(two.stack.poll_event(), Datagram)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (udp("10.1.0.9", "192.0.2.1"), "not_our_address"),
        (udp("10.2.0.1", "10.1.0.1"), "martian"),
        (udp("fd02::1", "fd01::1"), "martian"),
        (build_icmp(IPV4, packed("10.1.0.9"), packed("10.1.255.255"), 8, 0, 1, b""), "group"),
        (build_icmp(IPV6, packed("fd01::9"), packed("ff02::1"), 128, 0, 1, b""), "group"),
    ],
)
def test_what_is_not_for_us_is_counted(packet: bytes, reason: str) -> None:
    two = Two()
    two.receive(two.left, packet)
    assert (two.stack.poll_event(), two.stack.drops) == (None, {reason: 1})


@pytest.mark.parametrize("destination", ["10.1.255.255", "255.255.255.255", "224.0.0.251"])
def test_datagrams_to_groups_are_taken(destination: str) -> None:
    two = Two()
    two.receive(two.left, udp("10.1.0.9", destination))
    event = two.stack.poll_event()
    assert isinstance(event, Datagram)
    assert event.destination == packed(destination)


def test_any_destination_holds_for_its_nic_only() -> None:
    any_nic, own_nic = Nic(Port(), any_destination=True), Nic(Port(), ["10.2.0.1/16"])
    bench = Bench(any_nic, own_nic)
    bench.receive(any_nic, udp("10.1.0.9", "203.0.113.7"))
    assert isinstance(bench.stack.poll_event(), Datagram)
    bench.receive(own_nic, udp("10.1.0.9", "203.0.113.7"))
    assert (bench.stack.poll_event(), bench.stack.drops) == (None, {"not_our_address": 1})


# --- a single NIC ---


def test_single_tun_is_joined_to_the_stack_directly() -> None:
    port = Port()
    nic = Nic(port, ["10.0.0.1/24"])
    bench = Bench(nic)
    assert bench.router.receiver(nic) == bench.stack.receive_frame
    assert bench.stack.emit == port.write
    bench.receive(nic, udp("10.0.0.9", "10.0.0.1"))
    assert isinstance(bench.stack.poll_event(), Datagram)
    bench.receive(nic, udp("10.0.0.9", "10.0.0.2"))
    assert bench.stack.drops == {"not_our_address": 1}
    assert bench.router.source_for(packed("192.0.2.1")) == packed("10.0.0.1")


def test_single_tun_may_take_any_destination() -> None:
    nic = Nic(Port(offload=0), ["10.0.0.1/24"], any_destination=True)
    bench = Bench(nic)
    bench.receive(nic, udp("10.0.0.9", "192.0.2.2"))
    assert isinstance(bench.stack.poll_event(), Datagram)
    assert not bench.stack.config.offload


@pytest.mark.parametrize("nics", [1, 2])
def test_taking_any_destination_can_be_switched(nics: int) -> None:
    bench = Bench(*[Nic(Port(), [f"10.{number}.0.1/16"]) for number in range(nics)])
    nic = bench.router.nics[0]
    for wanted in (True, False, True):
        bench.router.take_any(wanted)
        bench.receive(nic, udp("10.0.0.9", "192.0.2.2"))
        assert isinstance(bench.stack.poll_event(), Datagram) == wanted
    bench.router.take_any(False)
    bench.receive(nic, udp("10.0.0.9", "10.0.0.1"))
    assert isinstance(bench.stack.poll_event(), Datagram)


def test_duplicates_are_known() -> None:
    tap = Nic(Port(ethernet=True), ["10.0.0.1/24", "10.0.0.2/24"], mac=MAC)
    bench = Bench(tap, Nic(Port(), ["10.1.0.1/24"]))
    assert tap.station is not None
    tap.station.addresses.on_claim(packed("10.0.0.2"), PEER_MAC, bench.clock())
    assert bench.router.duplicates == [packed("10.0.0.2")]


# --- to ourselves ---


@pytest.mark.parametrize(("source", "destination"), [("10.1.0.1", "10.2.0.1"), ("fd01::1", "fd01::1")])
def test_connection_to_ourselves(source: str, destination: str) -> None:
    two = Two()
    client = two.stack.connect(packed(source), 1000, packed(destination), 80, two.clock())
    assert client is not None
    heard = b""
    for _ in range(20):
        two.run(0.01)
        while (event := two.stack.poll_event()) is not None:
            if isinstance(event, FlowRequested):
                event.request.accept(None, two.clock())
            elif isinstance(event, Established) and event.connection is client:
                client.send(b"hello", two.clock())
            elif isinstance(event, Readable):
                heard += event.connection.read(10, two.clock())
    assert heard == b"hello"
    assert two.left_port.take() == two.right_port.take() == []


@pytest.mark.parametrize("offload", [ALL_OFFLOADS, 0])
@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
def test_single_tun_reaches_itself_once_somebody_wants_to(host: str, offload: int) -> None:
    port = Port(offload=offload)
    bench = Bench(Nic(port, ["10.0.0.1/24", "fd00::1/64"]))
    bench.router.reach_ourselves()
    bench.router.reach_ourselves()
    ours = packed(host)
    assert bench.router.source_for(ours) == ours
    client = bench.stack.connect(ours, 1000, ours, 80, bench.clock())
    bench.run(0.01)
    events = list(iter(bench.stack.poll_event, None))
    (request,) = [event.request for event in events if isinstance(event, FlowRequested)]
    request.accept(None, bench.clock())
    client.send(bytes(100_000), bench.clock())
    bench.run(1.0)
    readable = {
        event.connection for event in iter(bench.stack.poll_event, None) if isinstance(event, Readable)
    }
    assert [connection.readable_bytes for connection in readable] == [100_000]
    assert port.take() == []
    bench.stack.send_datagram(IPV4, IPV4.key(packed("10.0.0.1"), 7, packed("10.0.0.9"), 9), b"to others")
    assert len(port.take()) == 1


def test_queue_to_ourselves_is_bounded() -> None:
    two = Two()
    for _ in range(LOOPBACK_FRAMES + 5):
        two.say("10.1.0.1", "10.1.0.1")
    assert two.stack.drops == {"loopback_queue": 5}
    two.run()
    events = list(iter(two.stack.poll_event, None))
    assert len(events) == LOOPBACK_FRAMES


def test_two_that_answer_each_other_do_not_stop_the_world() -> None:
    two = Two()
    two.say("10.1.0.1", "10.1.0.1")
    now = two.clock()
    due = two.stack.next_deadline()
    assert due is not None
    assert now < due < now + 0.001
    two.clock.advance_to(due)
    two.stack.handle_timeout(due)
    assert isinstance(two.stack.poll_event(), Datagram)
    two.say("10.1.0.1", "10.1.0.1")
    later = two.stack.next_deadline()
    assert later is not None
    assert later > due


def test_error_about_a_datagram_to_nobody_reaches_its_owner() -> None:
    port = Port(ethernet=True)
    bench = Bench(Nic(port, ["10.0.0.1/24"], mac=MAC, probe=False))
    bench.stack.send_datagram(IPV4, IPV4.key(packed("10.0.0.1"), 7, packed("192.0.2.1"), 9), b"data")
    bench.run()
    event = bench.stack.poll_event()
    assert isinstance(event, DatagramError)
    assert event.error is IcmpError.NETWORK


# --- what is for us changes ---


def test_a_single_tun_may_begin_and_stop_to_take_any_destination() -> None:
    nic = Nic(Port(), ["10.0.0.1/24"])
    bench = Bench(nic)
    elsewhere = udp("10.0.0.9", "192.0.2.2")
    for wanted in (True, False):
        bench.router.take_any(wanted)
        bench.receive(nic, elsewhere)
        assert isinstance(bench.stack.poll_event(), Datagram) is wanted
        bench.receive(nic, udp("10.0.0.9", "10.0.0.1"))
        assert isinstance(bench.stack.poll_event(), Datagram)
    assert bench.stack.drops == {"not_our_address": 1}


def test_all_nics_may_begin_and_stop_to_take_any_destination() -> None:
    two = Two()
    for wanted in (True, False):
        two.router.take_any(wanted)
        for nic, source in ((two.left, "10.1.0.9"), (two.right, "10.2.0.9")):
            two.receive(nic, udp(source, "192.0.2.2"))
            assert isinstance(two.stack.poll_event(), Datagram) is wanted
    assert two.stack.drops == {"not_our_address": 2}


def test_addresses_that_somebody_else_has_are_listed__rfc5227_2_1_1() -> None:
    port = Port(ethernet=True)
    nic = Nic(port, ["10.0.0.1/24", "10.0.0.2/24"], mac=MAC)
    bench = Bench(nic, Nic(Port(), ["10.9.0.1/24"]))
    assert bench.router.duplicates == []
    claim = build_arp(Arp(REPLY, PEER_MAC, packed("10.0.0.1"), MAC, bytes(4)))
    bench.receive_ethernet(nic, ETHERTYPE_ARP, claim)
    assert bench.router.duplicates == [packed("10.0.0.1")]
