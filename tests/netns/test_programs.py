"""Programs people use, unchanged, each against the real server it was made for."""

from __future__ import annotations

import pytest

from tests.netns.caller import Caller
from tests.netns.topology import SERVER

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("family", [4, 6])
def test_curl(caller: Caller, family: int) -> None:
    host = f"[{SERVER[6]}]" if family == 6 else SERVER[4]
    done = caller.run("curl", "-sS", f"http://{host}/")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from S\n", "")
