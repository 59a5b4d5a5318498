"""A file over a bad link, on a network that exists only in memory and is the same for the same seed.

    python examples/lossy_link.py [LOSS [SEED [CAPTURE]]]

LOSS is a probability, 0.02 by default. Minutes of network time pass in a moment. CAPTURE is a file that gets
the packets, for Wireshark.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunsmith.stack.config import StackConfig
from tunsmith.testing.application import Application
from tunsmith.testing.network import Network

SIZE = 1_000_000
CLIENT, SERVER = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


def main(loss: float = 0.02, seed: int = 1, capture: Path | None = None) -> None:
    network = Network(seed)
    config = StackConfig(mtu=1500, offload=False, time_wait=1.0)
    client, server = network.host("client", config), network.host("server", config)
    faults, _ = network.wire(
        client,
        server,
        loss=loss,
        reorder=0.02,
        duplicate=0.01,
        corrupt=0.01,
        delay=0.02,
        jitter=0.002,
        rate=1_250_000,  # 10 Mbit/s
        queue=50_000,
    )
    sent = network.random.randbytes(SIZE)
    sender = Application(client, sent)
    receiver = Application(server)
    server.on_request = receiver.accept
    connection = sender.connect((CLIENT, 40000), (SERVER, 80))

    began = network.now
    network.run(until=lambda: receiver.peer_ended)
    seconds = network.now - began
    network.run()  # to rest: FIN, its ACK, and TIME-WAIT

    assert bytes(receiver.received) == sent, "the one thing that must never happen"
    print(f"{SIZE} bytes in {seconds:.1f} s, {SIZE * 8 / seconds / 1e6:.2f} Mbit/s")
    print("on the way there:", ", ".join(f"{count} {what}" for what, count in sorted(faults.counts.items())))
    print("sent again:", connection.sender.retransmits)
    print("dropped by the server:", dict(server.stack.drops))
    if capture is not None:
        network.save(capture)


if __name__ == "__main__":
    main(*[kind(text) for kind, text in zip((float, int, Path), sys.argv[1:], strict=False)])
