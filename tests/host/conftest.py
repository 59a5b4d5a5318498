from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.host.machine import USERS, User
from tests.host.private_network import Network, private_network


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns") and (os.geteuid() != 0 or not shutil.which("unshare")):
        pytest.skip("needs root and unshare(1)")


@pytest.fixture(params=USERS, ids=lambda user: user.name)
def user(request: pytest.FixtureRequest) -> User:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def network() -> Iterator[Network]:
    """This process in a network of its own, with an uplink, for one test (mark it `netns`)."""
    with private_network() as found:
        yield found
