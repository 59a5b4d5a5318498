from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim.transfer import converse
from tunsmith.testing.network import Network

NewNetwork = Callable[[int], Network]


@pytest.mark.parametrize("last", ["client", "server"])
def test_the_side_that_closes_last_is_gone_once_its_fin_is_acknowledged(
    new_network: NewNetwork, last: str
) -> None:
    network = new_network(1)
    talk = converse(network, 10, 20, **{last: {"wait_for_peer": True}}, delay=0.01)  # type: ignore[arg-type]
    assert network.run()
    talk.check()
