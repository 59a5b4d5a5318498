"""What fuzzing has found worth keeping, again and again. See tests/fuzz/__main__.py."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.__main__ import load
from tests.fuzz.targets import TARGETS, run


@pytest.mark.parametrize("name", TARGETS)
def test_saved_inputs_do_no_harm(name: str) -> None:
    inputs = load(name)
    assert inputs
    for data in inputs:
        run(name, data)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_do_no_harm(name: str) -> None:
    random = Random(name)
    inputs = load(name)
    for _ in range(200):
        data = bytearray(random.choice(inputs))
        for _ in range(random.randrange(1, 4)):
            if data:
                data[random.randrange(len(data))] = random.randrange(256)
        run(name, bytes(data))
