"""A congestion control of one's own against CUBIC: the same file over the same bad link, in time that is pretended.

The sender tells an algorithm what happened; all it does is keep `cwnd` and `ssthresh` (stack/tcp/congestion.py).
"""

from __future__ import annotations

from tunsmith.stack.config import StackConfig
from tunsmith.stack.tcp.congestion import UNLIMITED, Congestion
from tunsmith.stack.tcp.cubic import Cubic
from tunsmith.testing.application import Application
from tunsmith.testing.network import Network

CLIENT, SERVER = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
SIZE = 2_000_000


class Stubborn:
    """Slow start as everybody's, but of a loss it believes only a tenth. Not for networks with others on them."""

    def __init__(self, mss: int, initial_window: int) -> None:
        self.mss = mss
        self.cwnd = initial_window
        self.ssthresh = UNLIMITED

    def on_ack(self, acked: int, rtt: float, latest: float, now: float) -> None:
        self.cwnd += acked if self.cwnd < self.ssthresh else self.mss * acked // self.cwnd

    def on_congestion(self, flight: int, now: float) -> None:
        self.ssthresh = max(flight * 9 // 10, 2 * self.mss)

    def on_timeout(self, flight: int, now: float) -> None:
        self.ssthresh = max(flight * 9 // 10, 2 * self.mss)

    def on_mss(self, mss: int) -> None:
        self.mss = mss


def seconds(algorithm: type[Congestion], loss: float) -> float:
    """How long the file takes."""
    network = Network(seed=7)
    client = network.host("client", StackConfig(congestion=algorithm))
    server = network.host("server", StackConfig())
    network.wire(client, server, loss=loss, delay=0.02, rate=12_500_000, queue=500_000, back={"delay": 0.02})
    receiver = Application(server)
    server.on_request = receiver.accept
    began = network.now
    Application(client, bytes(SIZE)).connect((CLIENT, 40000), (SERVER, 80))
    network.run(until=lambda: receiver.peer_ended)
    return network.now - began


def main() -> None:
    for loss in (0.0, 0.01, 0.03):
        print(
            f"{loss:4.0%} lost: Cubic {seconds(Cubic, loss):.2f} s, Stubborn {seconds(Stubborn, loss):.2f} s"
        )


if __name__ == "__main__":
    main()
