"""Bytes of TCP flows: all of them, in order, to the last one, each direction on its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, Caller
from tests.netns.pattern import digest
from tests.netns.servers import BIG, Peers, eventually
from tests.netns.topology import SERVER

pytestmark = pytest.mark.netns

MEDIUM = 20 << 20
FAMILIES = pytest.mark.parametrize("family", [4, 6])
FLOW_BUFFER = 4 << 20
"""What one stopped reader may cost."""


def complete(size: int) -> dict[str, object]:
    return {"count": size, "sha256": digest(size), "end": "fin"}


@FAMILIES
def test_large_download(caller: Caller, family: int) -> None:
    caller.captures = False
    host = f"[{SERVER[6]}]" if family == 6 else SERVER[4]
    done = caller.run("sh", "-c", f"curl -sS http://{host}/big | sha256sum")
    assert (done.stdout.split()[0], done.stderr) == (digest(BIG), "")


@FAMILIES
def test_large_upload(caller: Caller, family: int) -> None:
    caller.captures = False
    assert caller.client("upload", SERVER[family], ports.DIGEST, BIG) == complete(BIG)


def test_transfers_with_a_capture_running(caller: Caller) -> None:
    assert caller.client("upload", SERVER[4], ports.DIGEST, MEDIUM) == complete(MEDIUM)
    assert caller.client("download", SERVER[4], ports.SOURCE, MEDIUM) == complete(MEDIUM)


def test_fifty_at_a_time(caller: Caller) -> None:
    caller.captures = False
    size = 1 << 20
    assert caller.client("parallel", SERVER[4], ports.DIGEST, 50, size) == [complete(size)] * 50


@FAMILIES
def test_application_closes_its_half_and_the_answer_still_comes(caller: Caller, family: int) -> None:
    seen = caller.client("download_after_fin", SERVER[family], ports.SOURCE, MEDIUM)
    assert seen == complete(MEDIUM)


@FAMILIES
def test_server_closes_its_half_and_the_upload_still_arrives(
    caller: Caller, peers: Peers, family: int
) -> None:
    seen = caller.client("upload_after_their_fin", SERVER[family], ports.FIN_FIRST, MEDIUM)
    assert (seen["count"], seen["end"]) == (len("hello"), "fin")
    assert peers.next("fin_first") == {"server": "fin_first", **complete(MEDIUM)}


@FAMILIES
@pytest.mark.parametrize("size", [1, 1 << 16, MEDIUM])
def test_last_bytes_of_a_program_that_exits_at_once_arrive(
    caller: Caller, peers: Peers, family: int, size: int
) -> None:
    caller.client("upload_and_leave", SERVER[family], ports.DIGEST, size)
    assert peers.next("digest") == {"server": "digest", **complete(size)}


def test_what_the_upstream_socket_holds_outlives_us(caller: Caller, peers: Peers) -> None:
    size = 100_000
    caller.client("upload_and_leave", SERVER[4], ports.LATE, size)
    peers.go_on()
    assert peers.next("late") == {"server": "late", **complete(size)}


@pytest.fixture
def small_buffers(caller: Caller) -> Iterator[None]:
    """C's kernel keeps little of what a server has no room for."""
    namespace, knob = caller.topology.caller, "net/ipv4/tcp_wmem"
    usual = namespace.run("cat", f"/proc/sys/{knob}")
    namespace.tune({knob: "4096 16384 65536"})
    yield
    namespace.tune({knob: usual.strip()})


@pytest.mark.usefixtures("small_buffers")
def test_slow_server_gets_all_that_a_program_left_behind(caller: Caller, peers: Peers) -> None:
    """As long as it goes on taking it."""
    caller.captures = False
    size = 5 << 20
    done = caller.run(*CLIENT, "upload_and_leave", SERVER[4], str(ports.SLOW), str(size))
    assert done.returncode == 0
    assert peers.next("slow", 30) == {"server": "slow", **complete(size)}
    assert (
        done.stderr == "tunsmith: the program has ended; what it sent is still on its way (Ctrl-C gives up)\n"
    )


def test_what_could_not_be_delivered_is_never_shown_as_a_clean_end(caller: Caller, peers: Peers) -> None:
    """Megabytes wait for a server that does not read, but our patience has a limit."""
    script = 'exec "$@" >/dev/null'
    sender = [*CLIENT, "push", SERVER[4], str(ports.LATE)]
    done = caller.run("sh", "-c", script, "sh", *sender, stdin="end\n")
    assert done.returncode == 0
    peers.go_on()
    assert peers.next("late")["end"] == "reset"


@FAMILIES
def test_reset_of_the_server_arrives_as_reset(caller: Caller, family: int) -> None:
    without = caller.plain_client("be_reset", SERVER[family], ports.RESET)
    assert without["end"] == "ECONNRESET"
    assert caller.client("be_reset", SERVER[family], ports.RESET) == without


@FAMILIES
def test_reset_of_the_application_arrives_as_reset(caller: Caller, peers: Peers, family: int) -> None:
    caller.client("reset", SERVER[family], ports.DIGEST)
    assert peers.next("digest")["end"] == "reset"


def resident(pid: int) -> int:
    """Bytes of memory a process occupies."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def settled(pid: int) -> int:
    """Memory of `pid` once it has stayed the same for half a second."""
    history: list[int] = []

    def steady() -> bool:
        history.append(resident(pid))
        return len(history) > 50 and len(set(history[-50:])) == 1

    eventually(steady, "steady memory")
    return history[-1]


@pytest.mark.parametrize("count", [1, 8])
def test_stopped_reader_costs_little_memory(caller: Caller, count: int) -> None:
    caller.captures = False
    with caller.running("sh", "-c", 'read go; exec "$@"', "sh",
                        *CLIENT, "hold", SERVER[4], str(ports.FLOOD), str(count)) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        before = settled(process.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == str(["open"] * count).replace("'", '"') + "\n"
        assert settled(process.pid) - before < count * FLOW_BUFFER + FLOW_BUFFER
        process.stdin.write("end\n")
        process.stdin.close()
        assert process.wait() == 0


def test_stopped_server_costs_little_memory(caller: Caller) -> None:
    caller.captures = False
    with caller.running("sh", "-c", 'read go; exec "$@"', "sh",
                        *CLIENT, "push", SERVER[4], str(ports.DEAF)) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        before = settled(process.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert int(process.stdout.readline()) < 16 << 20
        assert settled(process.pid) - before < 2 * FLOW_BUFFER
        process.stdin.write("end\n")
        process.stdin.close()
        assert process.wait() == 0
