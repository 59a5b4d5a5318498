"""Every script below this folder, on our stack, in both families; what is marked so also on Linux.

IPv6 runs with initial sequence numbers close to the end of their space, so that all of them wrap.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tunsmith.testing.script.parser import parse_file
from tunsmith.testing.script.run import run_on_stack
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

FOLDER = Path(__file__).parent
CAPTURES = FOLDER.parents[1] / ".artifacts" / "scripts"
SCRIPTS = {str(path.relative_to(FOLDER).with_suffix("")): path for path in sorted(FOLDER.rglob("*.script"))}


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["v4", "v6"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, family: IpFamily) -> None:
    capture = CAPTURES / f"{name.replace('/', '_')}_v{family.version}.pcapng"
    run_on_stack(parse_file(SCRIPTS[name]), family, capture=capture)


def test_every_script_says_which_rule_it_holds() -> None:
    for name, path in SCRIPTS.items():
        assert parse_file(path).clauses, name
