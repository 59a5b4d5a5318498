from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.pcapng_reader import read
from tests.sim.transfer import V4, converse
from tunsmith.testing.application import Application
from tunsmith.testing.network import Livelock, Network


def conversation(seed: int) -> Network:
    network = Network(seed)
    talk = converse(network, 20_000, 20_000, loss=0.1, reorder=0.1, jitter=0.01, delay=0.01)
    assert network.run()
    talk.check()
    return network


def test_the_same_seed_is_the_same_story() -> None:
    one, same, other = (list(conversation(seed)._frames) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_what_went_over_the_wires_is_saved_by_host(tmp_path: Path) -> None:
    network = conversation(3)
    network.save(tmp_path / "capture")
    recording = read((tmp_path / "capture").read_bytes())
    assert [options[2] for _, _, options in recording.interfaces] == [b"client", b"server"]
    assert len(recording.packets) == len(network._frames)
    assert recording.packets[0].when == 1000 * 10**9


def test_only_the_last_frames_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunsmith.testing.network.REMEMBERED", 5)
    assert len(conversation(1)._frames) == 5


def test_calls_come_at_their_time_in_order() -> None:
    network = Network(1)
    log: list[tuple[str, float]] = []
    for name, seconds in (("late", 2.0), ("early", 1.0), ("as early", 1.0)):
        network.call_later(seconds, lambda name=name: log.append((name, network.now)))  # type: ignore[misc]
    assert network.run()
    assert log == [("early", 1001.0), ("as early", 1001.0), ("late", 1002.0)]
    assert network.next_event() is None


def test_running_for_a_while_stops_on_time() -> None:
    network = Network(1)
    network.call_later(5.0, lambda: None)
    assert not network.run(seconds=2.0)
    assert network.now == 1002.0
    assert network.run()
    assert not network.run(lambda: False)


def test_running_until_something_stops_there() -> None:
    network = Network(1)
    for seconds in range(10):
        network.call_later(float(seconds), lambda: None)
    assert network.run(lambda: network.now >= 1004.0)
    assert network.now == 1004.0


def test_a_network_that_does_not_come_to_rest_is_a_failure() -> None:
    network = Network(1)

    def again() -> None:
        network.call_later(0.0, again)

    again()
    with pytest.raises(Livelock, match="still busy after 100 steps"):
        network.run(steps=100)


def test_a_timer_that_stays_due_is_a_failure() -> None:
    network = Network(1)
    host = network.host("broken")
    host.stack.next_deadline = lambda: network.now  # type: ignore[method-assign]
    with pytest.raises(Livelock, match="stays due"):
        network.run()


def test_nobody_listens_until_somebody_says_so() -> None:
    network = Network(1)
    a, b = network.host("a"), network.host("b")
    network.wire(a, b)
    client = Application(a)
    client.connect((V4[0], 1), (V4[1], 2))
    assert network.run()
    assert client.error == errno.ECONNREFUSED


def test_three_hosts_on_two_wires() -> None:
    """One clock, and each wire for itself."""
    network = Network(1)
    hosts = [network.host(name) for name in "abcd"]
    network.wire(hosts[0], hosts[1], delay=0.1)
    network.wire(hosts[2], hosts[3], delay=0.2)
    apps = []
    for left, right in ((hosts[0], hosts[1]), (hosts[2], hosts[3])):
        client, server = Application(left, b"ping"), Application(right, b"pong")
        right.on_request = server.accept
        client.connect((V4[0], 1), (V4[1], 2))
        apps += [client, server]
    assert network.run()
    assert [bytes(app.received) for app in apps] == [b"pong", b"ping"] * 2


def test_datagrams_pings_and_errors_are_kept() -> None:
    from tests.stack.packets import HOST, STACK, ping, udp_packet
    from tunsmith.wire.icmp import IcmpError, build_error
    from tunsmith.wire.ip import IPV4

    network = Network(1)
    host = network.host("a")
    quoted = IPV4.header(STACK[IPV4], HOST[IPV4], 17, 8) + bytes(8)
    for packet in (
        udp_packet(IPV4, b"x"),
        ping(IPV4),
        build_error(IPV4, HOST[IPV4], STACK[IPV4], IcmpError.PORT, quoted),
    ):
        host.stack.receive(packet, network.now)
    assert (len(host.datagrams), len(host.echoes), len(host.errors)) == (1, 1, 1)
    assert host.sent == 1
