from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tunsmith.stack.config import StackConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mtu": 67}, "mtu is 67, not between 68 and 65535"),
        ({"mtu": 65536}, "mtu is 65536"),
        ({"receive_buffer": 0}, "receive_buffer is 0"),
        ({"delayed_ack": 0.6}, "delayed_ack is 0.6, not between 0.0 and 0.5"),
        ({"max_rto": 0.5}, "max_rto is 0.5, less than min_rto or initial_rto"),
        ({"min_rto": 121.0}, "max_rto is 120.0, less than"),
        ({"isn_secret": b""}, "isn_secret has 0 bytes"),
        ({"isn_secret": bytes(65)}, "isn_secret has 65 bytes"),
        ({"ephemeral_ports": (2, 1)}, "ephemeral_ports is (2, 1)"),
        ({"ephemeral_ports": (0, 1)}, "ephemeral_ports is (0, 1)"),
        ({"addresses": (b"abc",)}, "b'abc' in addresses is no packed address"),
        ({"addresses": ("10.0.0.1",)}, "'10.0.0.1' in addresses is no packed address"),
    ],
)
def test_a_value_that_cannot_be_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        StackConfig(**settings)
    assert message in str(caught.value)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"mtu is 1, .*; retries is -1"):
        replace(StackConfig(), mtu=1, retries=-1)
