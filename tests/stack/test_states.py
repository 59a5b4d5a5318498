"""Introspection: the states of RFC 9293 §3.3.2, all of them by name."""

from __future__ import annotations

import pytest

from tests.stack.packets import FAMILIES, name
from tests.stack.tcp.peer import peer
from tunsmith.stack.states import Entry
from tunsmith.stack.tcp.state import State
from tunsmith.wire.ip import IpFamily

both = pytest.mark.parametrize("family", FAMILIES, ids=name)


@both
def test_every_entry_with_its_ends(family: IpFamily) -> None:
    other = peer(family=family)
    here, there = other.destination, other.source
    assert list(other.stack.states()) == []
    other.stack.listen(None, 22)
    other.stack.listen(here, None)
    other.stack.receive(other.packet("S", 0, ports=(1, 22)), other.now)
    other.stack.receive(other.packet("S", 0, ports=(2, 80)), other.now)
    one, two = other.stack.connections.values()
    assert list(other.stack.states()) == [
        Entry("LISTEN", (None, 22)),
        Entry("LISTEN", (here, None)),
        Entry("SYN-RECEIVED", (here, 22), (there, 1), one),
        Entry("SYN-RECEIVED", (here, 80), (there, 2), two),
    ]


def test_a_flow_that_nobody_has_answered_is_in_syn_received() -> None:
    other = peer()
    other.request()
    assert list(other.stack.states()) == [
        Entry("SYN-RECEIVED", (other.destination, 80), (other.source, 40000))
    ]


def test_a_connection_through_its_states() -> None:
    other = peer()
    seen = []

    def look() -> None:
        (entry,) = other.stack.states()
        assert (entry.local, entry.remote) == ((other.destination, 80), (other.source, 40000))
        seen.append(entry.state)

    other.open()
    look()
    other.send("S.", 0)
    look()
    other.connection.close(other.now)
    look()
    other.ack = 2
    other.send(".", 1)
    look()
    other.send("F.", 1)
    look()
    other.wait(20.0)
    assert list(other.stack.states()) == []
    assert seen == ["SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"]
    assert set(seen) <= {state.value for state in State}
