from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stack.port import MAC, PEER_MAC, Bench, Port, packed
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Closed, Datagram, DatagramError, Echo, FlowRequested
from tunsmith.stack.neighbours import State
from tunsmith.stack.nic import Nic
from tunsmith.wire import ndp
from tunsmith.wire.arp import REPLY, REQUEST, UNKNOWN_MAC, Arp, build_arp, parse_arp
from tunsmith.wire.checksum import partial, pseudo_sum
from tunsmith.wire.ethernet import BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, group_mac
from tunsmith.wire.icmp import IcmpError, build_icmp
from tunsmith.wire.ip import IPV4, IPV6, parse_ip
from tunsmith.wire.ndp import build_advertisement, build_solicitation, parse_ndp, solicited_node
from tunsmith.wire.offload import segment
from tunsmith.wire.tcp import ACK, SYN, TCP
from tunsmith.wire.udp import UDP
from tunsmith.wire.vnet import GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, PLAIN, VNET

OURS, PEER = {4: packed("10.0.0.1"), 6: packed("fd00::1")}, {4: packed("10.0.0.2"), 6: packed("fd00::2")}
FAMILY = {4: IPV4, 6: IPV6}
ETHERTYPE = {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}
both = pytest.mark.parametrize("version", [4, 6])


class Tap(Bench):
    """A stack on Ethernet at 10.0.0.1/24 and fd00::1/64."""

    def __init__(self, *, vlan: int = 0, probe: bool = False, **port: int) -> None:
        self.port = Port(ethernet=True, **port)
        self.conflicts: list[tuple[bytes, bytes]] = []
        self.nic = Nic(
            self.port,
            ["10.0.0.1/24", "fd00::1/64"],
            mac=MAC,
            vlan=vlan,
            probe=probe,
            on_conflict=lambda address, mac: self.conflicts.append((address, mac)),
        )
        super().__init__(self.nic)
        assert self.nic.station is not None
        self.station = self.nic.station

    def state(self, version: int) -> State | None:
        entry = self.station.neighbours.entries.get(PEER[version])
        return None if entry is None else entry.state

    def arp(
        self, operation: int, sender: bytes, target: bytes, *, mac: bytes = PEER_MAC, to: bytes = MAC
    ) -> None:
        message = Arp(operation, mac, sender, MAC if operation == REPLY else UNKNOWN_MAC, target)
        self.receive_ethernet(self.nic, ETHERTYPE_ARP, build_arp(message), to=to, of=mac)

    def ndp(self, packet: bytes, *, of: bytes = PEER_MAC) -> None:
        to = packet[24:40]
        self.receive_ethernet(
            self.nic, ETHERTYPE_IPV6, packet, to=group_mac(to) if to[0] == 0xFF else MAC, of=of
        )

    def introduce(self, version: int) -> None:
        """Let the peer answer the question that is under way."""
        if version == 4:
            self.arp(REPLY, PEER[4], OURS[4])
        else:
            self.ndp(build_advertisement(PEER[6], OURS[6], PEER_MAC, solicited=True))

    def datagram(self, version: int, **options: object) -> None:
        """One from the peer."""
        family = FAMILY[version]
        head = family.header(PEER[version], OURS[version], 17, 12)
        vouched = VNET.pack(NEEDS_CSUM, 0, 0, 0, 14 + len(head), 6)
        self.receive_ethernet(
            self.nic,
            ETHERTYPE[version],
            head + UDP.pack(9, 7, 12, 0) + b"data",
            vnet=vouched,
            **options,  # type: ignore[arg-type]
        )

    def send(self, version: int, data: bytes = b"data", to: bytes | None = None) -> None:
        family = FAMILY[version]
        self.stack.send_datagram(family, family.key(OURS[version], 7, to or PEER[version], 9), data)


# --- for whom ---


@both
def test_frame_for_us_reaches_the_stack_without_its_header(version: int) -> None:
    tap = Tap()
    tap.datagram(version)
    event = tap.stack.poll_event()
    assert isinstance(event, Datagram)
    assert (event.data, event.source) == (b"data", PEER[version])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"to": b"\x02\0\0\0\0\x77"}, "ethernet_other"),
        ({"of": b"\x03\0\0\0\0\x77"}, "ethernet_source"),
        ({"vlan": 7}, "vlan"),
    ],
)
def test_frames_that_are_not_for_us_are_counted(options: dict[str, object], reason: str) -> None:
    tap = Tap()
    tap.datagram(4, **options)
    assert (tap.stack.poll_event(), tap.stack.drops) == (None, {reason: 1})


@both
def test_packet_for_one_in_a_frame_for_all_is_dropped__rfc1122_3_3_6__rfc1812_5_3_4(version: int) -> None:
    tap = Tap()
    tap.datagram(version, to=BROADCAST)
    assert (tap.stack.poll_event(), tap.stack.drops) == (None, {"ethernet_group": 1})


@pytest.mark.parametrize("address", ["255.255.255.255", "10.0.0.255", "224.0.0.251", "ff02::fb"])
def test_packet_for_a_group_in_a_frame_for_all_is_taken(address: str) -> None:
    tap = Tap()
    version = 6 if ":" in address else 4
    family = FAMILY[version]
    head = family.header(PEER[version], packed(address), 17, 12)
    vouched = VNET.pack(NEEDS_CSUM, 0, 0, 0, 14 + len(head), 6)
    packet = head + UDP.pack(9, 7, 12, 0) + b"data"
    tap.receive_ethernet(tap.nic, ETHERTYPE[version], packet, to=group_mac(packed(address)), vnet=vouched)
    assert isinstance(tap.stack.poll_event(), Datagram)


def test_station_on_a_vlan_takes_and_sends_its_tag() -> None:
    tap = Tap(vlan=7)
    tap.datagram(4, vlan=7)
    assert isinstance(tap.stack.poll_event(), Datagram)
    tap.datagram(4, vlan=8)
    tap.datagram(4)
    assert tap.stack.drops == {"vlan": 2}
    tap.send(4)
    (question,) = tap.port.frames()
    assert (question.ethernet.vlan, question.ethernet.ethertype) == (7, ETHERTYPE_ARP)


def test_priority_tag_is_taken_by_the_untagged() -> None:
    tap = Tap()
    frame = (
        MAC
        + PEER_MAC
        + b"\x81\x00\xa0\x00\x08\x06"
        + build_arp(Arp(REQUEST, PEER_MAC, PEER[4], bytes(6), OURS[4]))
    )
    tap.receive(tap.nic, frame)
    assert len(tap.port.frames()) == 1


@pytest.mark.parametrize(
    ("ethertype", "payload", "reason"),
    [
        (0x88CC, b"LLDP", "ethertype"),
        (ETHERTYPE_ARP, b"short", "arp_short"),
        (ETHERTYPE_IPV4, b"", "tcp_length"),
        (ETHERTYPE_IPV6, b"", "tcp_length"),
    ],
)
def test_other_protocols_and_faults_are_counted(ethertype: int, payload: bytes, reason: str) -> None:
    tap = Tap()
    tap.receive_ethernet(tap.nic, ethertype, payload)
    assert (tap.stack.poll_event(), sum(tap.stack.drops.values())) == (None, 1)
    if payload:
        assert tap.stack.drops == {reason: 1}


def test_short_frame() -> None:
    tap = Tap()
    tap.receive(tap.nic, b"short")
    assert tap.stack.drops == {"ethernet_short": 1}


@given(
    st.binary(max_size=120),
    st.sampled_from([ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6]),
    st.binary(min_size=10, max_size=10),
)
def test_no_frame_makes_it_raise(payload: bytes, ethertype: int, vnet: bytes) -> None:
    tap = Tap()
    tap.receive_ethernet(tap.nic, ethertype, payload, vnet=vnet)


# --- answers ---


def test_arp_request_is_answered_and_the_asker_known__rfc826() -> None:
    tap = Tap()
    tap.arp(REQUEST, PEER[4], OURS[4], to=BROADCAST)
    (answer,) = tap.port.frames()
    assert answer.ethernet[:3] == (PEER_MAC, MAC, ETHERTYPE_ARP)
    assert parse_arp(answer.payload) == Arp(REPLY, MAC, OURS[4], PEER_MAC, PEER[4])
    assert tap.state(4) is State.STALE


def test_probe_of_another_for_what_is_his_is_his_business() -> None:
    tap = Tap()
    tap.arp(REQUEST, bytes(4), PEER[4], to=BROADCAST)
    assert (tap.port.frames(), tap.station.neighbours.entries) == ([], {})


def test_request_for_somebody_else_teaches_nothing_new__rfc826() -> None:
    tap = Tap()
    tap.arp(REQUEST, PEER[4], packed("10.0.0.9"), to=BROADCAST)
    assert (tap.port.frames(), tap.state(4)) == ([], None)


def test_probe_of_another_for_what_is_ours_is_answered__rfc5227_2_1_1() -> None:
    tap = Tap()
    tap.arp(REQUEST, bytes(4), OURS[4], to=BROADCAST)
    (answer,) = tap.port.frames()
    assert parse_arp(answer.payload)[:3] == (REPLY, MAC, OURS[4])
    assert tap.station.neighbours.entries == {}


@both
def test_gratuitous_claim_moves_a_neighbour(version: int) -> None:
    tap = Tap()
    tap.send(version)
    tap.introduce(version)
    other = b"\x02\0\0\0\0\x33"
    if version == 4:
        tap.arp(REQUEST, PEER[4], PEER[4], mac=other, to=BROADCAST)
    else:
        tap.ndp(build_advertisement(PEER[6], ndp.ALL_NODES, other), of=other)
    assert tap.station.neighbours.entries[PEER[version]].mac == other
    assert tap.state(version) is State.STALE


def test_solicitation_is_answered_and_the_asker_known__rfc4861_7_2_4() -> None:
    tap = Tap()
    tap.ndp(build_solicitation(PEER[6], OURS[6], PEER_MAC))
    (answer,) = tap.port.frames()
    assert answer.ethernet[:3] == (PEER_MAC, MAC, ETHERTYPE_IPV6)
    ip = parse_ip(answer.payload)
    assert (ip.source, ip.destination, ip.ttl) == (OURS[6], PEER[6], 255)
    message = parse_ndp(ip, answer.payload[40:])
    assert message == ndp.NeighbourMessage(False, OURS[6], MAC, False, True, True)


def test_solicitation_without_address_is_answered_after_a_question() -> None:
    tap = Tap()
    packet = build_icmp(IPV6, PEER[6], OURS[6], 135, 0, 0, OURS[6], ttl=255)
    tap.ndp(packet)
    (question,) = tap.port.frames()
    assert parse_ndp(parse_ip(question.payload), question.payload[40:]).target == PEER[6]
    tap.introduce(6)
    (answer,) = tap.port.frames()
    assert parse_ip(answer.payload).destination == PEER[6]


def test_probe_of_another_is_told_to_everybody__rfc4861_7_2_4() -> None:
    tap = Tap()
    tap.ndp(build_solicitation(bytes(16), OURS[6], PEER_MAC))
    (answer,) = tap.port.frames()
    assert (answer.ethernet.destination, parse_ip(answer.payload).destination) == (
        group_mac(ndp.ALL_NODES),
        ndp.ALL_NODES,
    )
    assert not parse_ndp(parse_ip(answer.payload), answer.payload[40:]).solicited


def test_solicitation_from_beyond_the_link_is_not_answered__rfc4861_7_1_1() -> None:
    tap = Tap()
    tap.ndp(build_icmp(IPV6, PEER[6], OURS[6], 135, 0, 0, OURS[6], ttl=64))
    assert (tap.port.frames(), tap.stack.drops) == ([], {"ndp_hop_limit": 1})


@pytest.mark.parametrize("kind", [133, 134, 137])
def test_router_discovery_and_redirects_change_nothing__rfc4861_6_rfc4861_8(kind: int) -> None:
    tap = Tap()
    tap.ndp(build_icmp(IPV6, PEER[6], ndp.ALL_NODES, kind, 0, 0, bytes(40), ttl=255))
    assert (tap.port.frames(), tap.stack.drops) == ([], {"ndp_ignored": 1})


def test_other_icmp_reaches_the_stack() -> None:
    tap = Tap()
    tap.receive_ethernet(
        tap.nic, ETHERTYPE_IPV6, build_icmp(IPV6, PEER[6], OURS[6], 128, 0, 7 << 16 | 1, b"ping")
    )
    assert isinstance(tap.stack.poll_event(), Echo)


# --- questions ---


@both
def test_packet_asks_for_its_neighbour_first(version: int) -> None:
    tap = Tap()
    tap.send(version)
    (question,) = tap.port.frames()
    if version == 4:
        assert question.ethernet.destination == BROADCAST
        assert parse_arp(question.payload) == Arp(REQUEST, MAC, OURS[4], bytes(6), PEER[4])
    else:
        assert question.ethernet.destination == group_mac(solicited_node(PEER[6]))
        message = parse_ndp(parse_ip(question.payload), question.payload[40:])
        assert message == ndp.NeighbourMessage(True, PEER[6], MAC)
    tap.introduce(version)
    (datagram,) = tap.port.frames()
    assert datagram.ethernet[:3] == (PEER_MAC, MAC, ETHERTYPE[version])
    assert datagram.payload.endswith(b"data")
    assert tap.state(version) is State.REACHABLE


@both
def test_neighbour_is_probed_at_his_own_address__rfc4861_7_3_3(version: int) -> None:
    tap = Tap()
    tap.send(version)
    tap.introduce(version)
    tap.run(31.0)
    tap.send(version)
    tap.port.take()
    tap.run(5.0)
    (question,) = tap.port.frames()
    assert question.ethernet.destination == PEER_MAC
    if version == 6:
        assert parse_ip(question.payload).destination == PEER[6]


@both
def test_connection_to_nobody_fails_with_host_unreachable(version: int) -> None:
    tap = Tap()
    connection = tap.stack.connect(OURS[version], 1000, PEER[version], 80, tap.clock())
    assert connection is not None
    tap.run(3.1)
    event = tap.stack.poll_event()
    assert isinstance(event, Closed)
    assert event.error == 113  # EHOSTUNREACH
    assert tap.clock() >= 103.0
    assert tap.stack.drops["neighbour_unreachable"] >= 2  # SYN and SYN again


@both
def test_datagram_to_nobody_is_reported(version: int) -> None:
    tap = Tap()
    tap.send(version)
    tap.run(3.1)
    event = tap.stack.poll_event()
    assert isinstance(event, DatagramError)
    assert (event.error, event.destination) == (IcmpError.HOST, PEER[version])


@pytest.mark.parametrize(
    ("address", "mac"),
    [
        ("224.0.0.251", "01005e0000fb"),
        ("255.255.255.255", "ffffffffffff"),
        ("10.0.0.255", "ffffffffffff"),
        ("ff02::fb", "3333000000fb"),
    ],
)
def test_groups_are_sent_to_at_once(address: str, mac: str) -> None:
    tap = Tap()
    tap.send(6 if ":" in address else 4, to=packed(address))
    (frame,) = tap.port.frames()
    assert frame.ethernet.destination.hex() == mac


def test_question_without_an_address_of_our_own() -> None:
    port = Port(ethernet=True)
    nic = Nic(port, mac=MAC, any_destination=True)
    bench = Bench(nic)
    bench.router.add_route("0.0.0.0/0", nic)
    bench.router.add_route("::/0", nic)
    for version in (4, 6):
        family = FAMILY[version]
        bench.stack.send_datagram(family, family.key(OURS[version], 7, PEER[version], 9), b"data")
    four, six = port.frames()
    assert parse_arp(four.payload)[1:3] == (MAC, bytes(4))
    assert parse_ip(six.payload).source == bytes(16)


# --- super-segments ---


@pytest.mark.parametrize("vlan", [0, 5])
@both
def test_super_segments_stay_whole_both_ways(version: int, vlan: int) -> None:
    tap = Tap(vlan=vlan)
    family, shift = FAMILY[version], 18 if vlan else 14
    tap.station.neighbours.on_sight(PEER[version], PEER_MAC, tap.clock())
    text = bytes(range(256)) * 200
    length = 20 + len(text)
    tcp = TCP.pack(
        1000, 2000, 1, 1, 0x5000 | ACK, 500, partial(pseudo_sum(OURS[version] + PEER[version], 6, length)), 0
    )
    ip = family.header(OURS[version], PEER[version], 6, length)
    vnet = VNET.pack(NEEDS_CSUM, family.gso_tcp, len(ip) + 20, 1400, len(ip), 16)
    tap.router.emit((vnet + ip + tcp, text))
    (frame,) = tap.port.frames()
    assert (frame.ethernet.vlan, frame.payload) == (vlan, ip + tcp + text)
    gso = GSO_TCPV4 if version == 4 else GSO_TCPV6
    assert VNET.unpack(frame.vnet) == (NEEDS_CSUM, gso, shift + len(ip) + 20, 1400, shift + len(ip), 16)

    seen: list[bytes] = []
    tap.station._deliver = lambda view, length, now: seen.append(bytes(view[:length]))
    back = MAC + PEER_MAC + (b"\x81\0\0\5" if vlan else b"") + ETHERTYPE[version].to_bytes(2, "big")
    tap.receive(tap.nic, back + frame.payload, frame.vnet)
    assert seen == [vnet + frame.payload]


def test_device_without_offload_gets_finished_frames() -> None:
    tap = Tap(offload=0)
    tap.station.neighbours.on_sight(PEER[4], PEER_MAC, tap.clock())
    tap.stack.send_datagram(IPV4, IPV4.key(OURS[4], 7, PEER[4], 9), bytes(2400), 800)
    frames = tap.port.frames()
    assert [frame.vnet for frame in frames] == [PLAIN] * 3
    assert [len(frame.payload) for frame in frames] == [828] * 3
    whole = [segment(PLAIN + frame.payload)[0][10:] for frame in frames]
    assert whole == [frame.payload for frame in frames]


def test_device_without_uso_gets_datagrams_but_tcp_whole() -> None:
    tap = Tap(offload=0x0F)
    tap.station.neighbours.on_sight(PEER[4], PEER_MAC, tap.clock())
    tap.stack.send_datagram(IPV4, IPV4.key(OURS[4], 7, PEER[4], 9), bytes(2400), 800)
    assert len(tap.port.take()) == 3
    tap.send(4)
    (frame,) = tap.port.frames()
    assert frame.vnet[0] == NEEDS_CSUM


def test_a_lost_checksum_offset_does_not_go_below_zero() -> None:
    tap = Tap()
    tap.datagram(4)
    seen: list[bytes] = []
    tap.station._deliver = lambda view, length, now: seen.append(bytes(view[:10]))
    for vnet in (VNET.pack(NEEDS_CSUM, 1, 3, 100, 2, 16), VNET.pack(2, 0, 0, 0, 0, 0)):
        tap.receive_ethernet(tap.nic, ETHERTYPE_IPV4, bytes(40), vnet=vnet)
    assert seen == [VNET.pack(NEEDS_CSUM, 1, 0, 100, 0, 16), VNET.pack(2, 0, 0, 0, 0, 0)]


# --- addresses of ours ---


def test_addresses_are_probed_for_announced_and_used__rfc4862_5_4__rfc5227_2_1__rfc4861_7_2_6() -> None:
    port = Port(ethernet=True)
    nic = Nic(port, ["10.0.0.1/24", "fd00::1/64"], mac=MAC)
    bench = Bench(nic)
    settled_at_once = bench.router.is_settled
    assert (settled_at_once, nic.usable) == (False, set())
    bench.receive_ethernet(
        nic, ETHERTYPE_ARP, build_arp(Arp(REQUEST, PEER_MAC, PEER[4], bytes(6), OURS[4])), to=BROADCAST
    )
    bench.receive_ethernet(nic, ETHERTYPE_IPV6, build_solicitation(PEER[6], OURS[6], PEER_MAC), to=MAC)
    assert port.frames() == []
    bench.run(1.0)
    assert (bench.router.is_settled, nic.usable) == (True, {OURS[4], OURS[6], ndp.link_local(MAC)})
    arp_frame, *ndp_frames = port.frames()
    assert parse_arp(arp_frame.payload) == Arp(REQUEST, MAC, OURS[4], bytes(6), OURS[4])
    for frame in ndp_frames:
        ip = parse_ip(frame.payload)
        assert ip.destination == ndp.ALL_NODES
        message = parse_ndp(ip, frame.payload[40:])
        assert (message.target, message.mac, message.override) == (ip.source, MAC, True)


def test_probes_are_sent_from_nobody() -> None:
    port = Port(ethernet=True)
    bench = Bench(nic := Nic(port, mac=MAC))
    assert nic.station is not None
    nic.station.addresses.add(OURS[4], bench.clock(), probe=True)
    nic.station.addresses.add(OURS[6], bench.clock(), probe=True)
    four, six = port.frames()
    assert parse_arp(four.payload) == Arp(REQUEST, MAC, bytes(4), bytes(6), OURS[4])
    assert parse_ip(six.payload).source == bytes(16)
    assert six.ethernet.destination == group_mac(solicited_node(OURS[6]))


@both
@pytest.mark.parametrize("how", ["has it", "probes, too"])
def test_duplicate_is_not_used__rfc4862_5_4(version: int, how: str) -> None:
    tap = Tap(probe=True)
    if version == 4:
        sender = OURS[4] if how == "has it" else bytes(4)
        tap.arp(
            REPLY if how == "has it" else REQUEST, sender, OURS[4], to=MAC if how == "has it" else BROADCAST
        )
    elif how == "has it":
        tap.ndp(build_advertisement(OURS[6], ndp.ALL_NODES, PEER_MAC))
    else:
        tap.ndp(build_solicitation(bytes(16), OURS[6], PEER_MAC))
    tap.run(2.0)
    assert tap.conflicts == [(OURS[version], PEER_MAC)]
    assert OURS[version] not in tap.nic.usable
    assert OURS[10 - version] in tap.nic.usable
    tap.datagram(version)
    assert tap.stack.poll_event() is None
    assert tap.stack.drops["not_our_address"] == 1


def test_our_own_frames_come_back_without_harm__rfc4862_5_4_3() -> None:
    tap = Tap(probe=True)
    tap.arp(REQUEST, bytes(4), OURS[4], mac=MAC, to=BROADCAST)
    tap.ndp(build_solicitation(bytes(16), OURS[6], MAC), of=MAC)
    tap.run(2.0)
    assert (tap.conflicts, len(tap.nic.usable)) == ([], 3)


@both
def test_address_in_use_is_defended(version: int) -> None:
    tap = Tap()
    if version == 4:
        tap.arp(REQUEST, OURS[4], PEER[4], to=BROADCAST)
    else:
        tap.ndp(build_advertisement(OURS[6], ndp.ALL_NODES, PEER_MAC))
    assert tap.conflicts == [(OURS[version], PEER_MAC)]
    (frame,) = tap.port.frames()
    if version == 4:
        assert parse_arp(frame.payload)[1:3] == (MAC, OURS[4])
    else:
        assert parse_ip(frame.payload).source == OURS[6]
    assert OURS[version] in tap.nic.usable


@both
def test_a_handshake_over_ethernet(version: int) -> None:
    tap = Tap()
    tap.station.neighbours.on_sight(PEER[version], PEER_MAC, tap.clock())
    family = FAMILY[version]
    ip = family.header(PEER[version], OURS[version], 6, 20)
    vouched = VNET.pack(NEEDS_CSUM, 0, 0, 0, 14 + len(ip), 16)
    syn = ip + TCP.pack(1000, 80, 7, 0, 0x5000 | SYN, 500, 0, 0)
    tap.receive_ethernet(tap.nic, ETHERTYPE[version], syn, vnet=vouched)
    event = tap.stack.poll_event()
    assert isinstance(event, FlowRequested)
    event.request.accept(None, tap.clock())
    (answer,) = tap.port.frames()
    assert answer.ethernet.destination == PEER_MAC
    assert answer.payload[len(ip) + 13] == SYN | ACK


def test_config_is_passed_on() -> None:
    bench = Bench(Nic(Port(ethernet=True, mtu=9000), mac=MAC), config=StackConfig(time_wait=7.0))
    assert (bench.stack.config.time_wait, bench.stack.config.mtu) == (7.0, 9000)
