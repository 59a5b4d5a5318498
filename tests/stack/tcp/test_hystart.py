"""HyStart++, RFC 9406: when slow start gets slower, and when it ends."""

from __future__ import annotations

import pytest

from tunsmith.stack.config import StackConfig
from tunsmith.stack.tcp.congestion import UNLIMITED
from tunsmith.stack.tcp.cubic import Cubic
from tunsmith.stack.tcp.hystart import CSS_ROUNDS, N_RTT_SAMPLE, HyStart
from tunsmith.testing.application import Application
from tunsmith.testing.network import Network

MSS = 1000
RTT = 0.1


def rounds(cc: Cubic, *rtts: float, samples: int = 10) -> list[int]:
    """Rounds in which every ACK takes so long; returns the windows behind each, in segments."""
    windows = []
    for rtt in rtts:
        window = cc.cwnd
        for _ in range(samples):
            cc.on_ack(window // samples, rtt, rtt, 0.0)
        windows.append(cc.cwnd // MSS)
    return windows


def started(window: int = 100) -> Cubic:
    return Cubic(MSS, window * MSS)


def test_while_round_trips_stay_as_they_are_the_window_doubles__rfc9406_4_2() -> None:
    assert rounds(started(), RTT, RTT, RTT + 0.01, RTT) == [200, 400, 800, 1600]


def test_longer_round_trips_make_it_a_quarter_as_fast__rfc9406_4_2() -> None:
    cc = started(800)
    rounds(cc, RTT)
    assert rounds(cc, RTT + 0.013) == [pytest.approx(1600 + 7 * 160 + 3 * 40, abs=2)]
    before = cc.cwnd
    rounds(cc, RTT + 0.013)
    assert cc.cwnd == pytest.approx(1.25 * before, rel=0.01)


def test_after_five_such_rounds_congestion_avoidance_begins__rfc9406_4_2() -> None:
    cc = started()
    rounds(cc, RTT, RTT + 0.02)
    for _ in range(CSS_ROUNDS - 1):
        assert cc.ssthresh == UNLIMITED
        rounds(cc, RTT + 0.03)
    assert cc.ssthresh == cc.cwnd
    at = cc.cwnd
    rounds(cc, RTT + 0.03)
    assert cc.cwnd < 1.05 * at


def test_shorter_round_trips_make_it_as_fast_as_before__rfc9406_4_2() -> None:
    cc = started()
    rounds(cc, RTT, RTT + 0.02, RTT + 0.02)
    before = cc.cwnd
    rounds(cc, RTT + 0.01)
    after = cc.cwnd
    assert after > 1.25 * before
    rounds(cc, RTT + 0.01)
    assert cc.cwnd == pytest.approx(2 * after, rel=0.01)


@pytest.mark.parametrize(("rtt", "longer"), [(0.001, 0.0041), (0.01, 0.0041), (0.1, 0.0126), (1.0, 0.0161)])
def test_longer_is_an_eighth_but_from_4_to_16_ms__rfc9406_4_3(rtt: float, longer: float) -> None:
    for more, slower in ((longer - 0.0003, False), (longer, True)):
        cc = started()
        rounds(cc, rtt, rtt + more)
        assert (cc.cwnd < 400 * MSS) is slower


def test_a_round_with_few_samples_says_nothing__rfc9406_4_2() -> None:
    cc = started()
    assert rounds(cc, RTT, 2 * RTT, 3 * RTT, samples=N_RTT_SAMPLE - 1)[-1] == pytest.approx(800, rel=0.02)


def test_after_a_loss_slow_start_is_what_it_was() -> None:
    cc = started()
    rounds(cc, RTT)
    cc.on_timeout(cc.cwnd, 0.0)
    cc.cwnd = 10 * MSS
    assert rounds(cc, RTT, 3 * RTT) == [20, 40]


def test_growth_is_asked_for_ack_by_ack() -> None:
    start = HyStart(10 * MSS)
    assert start.growth(MSS, RTT, 10 * MSS) == MSS
    assert not start.is_over


def overflowed(algorithm: str) -> int:
    """Packets that a bottleneck with room for two round trips has dropped of a transfer."""
    network = Network(seed=1)
    client = network.host("client", StackConfig(offload=False, congestion=algorithm))
    server = network.host("server", StackConfig(offload=False))
    there, _ = network.wire(client, server, delay=0.01, rate=1_250_000, queue=50_000)
    receiver = Application(server)
    server.on_request = receiver.accept
    Application(client, bytes(1_000_000)).connect((bytes((192, 0, 2, 1)), 40000), (bytes((192, 0, 2, 2)), 80))
    network.run(until=lambda: receiver.peer_ended)
    return there.counts["overflowed"]


def test_a_queue_is_not_filled_to_the_brim__rfc9406() -> None:
    assert overflowed("cubic") < overflowed("reno") / 2
