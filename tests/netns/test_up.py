"""`tunsmith up` on C: everything goes through the TUN, our own traffic does not, and afterwards all is as it was.

The fixture `caller` compares links, addresses, routes, rules and the firewall of C before and after each test.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, ORDINARY, Caller
from tests.netns.leaks import network
from tests.netns.machine import UP, Up, fails, up
from tests.netns.servers import Peers, eventually
from tests.netns.sessions import EchoServer, Session
from tests.netns.topology import CALLER, SERVER

pytestmark = pytest.mark.netns

SOCKS = f"socks5://{SERVER[4]}:{ports.SOCKS}"
HTTP = f"http://{SERVER[4]}:{ports.CONNECT}"
FAMILIES = pytest.mark.parametrize("family", [4, 6])
STRATEGIES = pytest.mark.parametrize("strategy", ["mark", "interface"])


@pytest.fixture
def root(caller: Caller) -> Caller:
    """C, with root at the keyboard."""
    caller.user = 0
    return caller


def flows(running, protocol: str) -> list[str]:
    return [each["destination"] for each in running.told("flow") if each["protocol"] == protocol]


@pytest.mark.parametrize("strategy", ["mark", "interface", "replace", "cover"])
@FAMILIES
def test_tcp_udp_and_ping_go_through_the_tun(root: Caller, strategy: str, family: int) -> None:
    host = SERVER[family]
    with up(root, "--strategy", strategy) as running:
        assert root.plain_client("connect", host, ports.ECHO) == "open"
        assert root.plain_client("udp_echo", host, ports.ECHO, 1200) == [True]
        assert root.plain("ping", "-c1", "-W2", host).returncode == 0
        assert running.told("up")[0]["strategy"] == strategy
    name = f"[{host}]" if family == 6 else host
    assert f"{name}:{ports.ECHO}" in flows(running, "tcp")
    assert f"{name}:{ports.ECHO}" in flows(running, "udp")
    assert any(host in each for each in flows(running, "icmp"))


def test_answers_are_those_of_the_network(root: Caller) -> None:
    with up(root):
        assert root.plain_client("connect", SERVER[4], ports.CLOSED) == "ECONNREFUSED"
        assert root.plain_client("connect", "10.82.0.1", 80) == "ENETUNREACH"


@pytest.mark.parametrize("strategy", ["interface", "replace", "cover"])
def test_every_strategy_reaches_a_proxy(root: Caller, strategy: str) -> None:
    with up(root, "--via", SOCKS, "--strategy", strategy) as running:
        assert root.plain_client("ask", SERVER[6], ports.WHO).split()[0] == SERVER[6]
        assert root.plain_client("udp_echo", SERVER[6], ports.ECHO, 1200) == [True]
    assert f"[{SERVER[6]}]:{ports.ECHO}" in flows(running, "udp")


@pytest.mark.parametrize("via", [SOCKS, HTTP], ids=["socks5", "http"])
def test_names_reach_the_proxy_as_names(root: Caller, peers: Peers, via: str) -> None:
    with up(root, "--via", via):
        done = root.plain("curl", "-sS", "http://www.example.test/")
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello from S\n", "")
    assert [seen["target"] for seen in peers.forget()] == ["www.example.test:80"]


def test_udp_goes_through_a_proxy_that_carries_it_and_is_refused_by_one_that_does_not(root: Caller) -> None:
    with up(root, "--via", SOCKS):
        assert root.plain_client("udp_echo", SERVER[4], ports.ECHO, 1200) == [True]
    with up(root, "--via", HTTP):
        assert root.plain_client("udp_ask", SERVER[4], ports.WHO, 3) == "ECONNREFUSED"


def test_dns_of_a_resolver_in_the_lan_is_taken(root: Caller) -> None:
    """S's resolver answers directly; behind a proxy the same question brings a fake address."""
    ask = ("dig", "+short", "+tries=1", "+time=2", "www.example.test")
    plain = root.plain(*ask).stdout
    with up(root):
        assert root.plain(*ask).stdout == plain
    with up(root, "--via", SOCKS):
        assert root.plain(*ask).stdout.startswith("198.18.")
        assert root.plain(*ask, "@10.81.1.1").stdout.startswith("198.18.")


def test_lan_stays_local(root: Caller) -> None:
    with up(root, "--via", "block"):
        assert root.plain("ping", "-c1", "-W2", "10.81.1.1").returncode == 0
        assert root.plain("ping", "-6", "-c1", "-W2", "fd81:1::1").returncode == 0
        assert root.plain_client("connect", SERVER[4], ports.ECHO) == "ECONNREFUSED"


def test_include_and_exclude_narrow_it(root: Caller) -> None:
    with up(root, "--via", "block", "--include", "10.81.2.0/24", "--include", "fd81:2::/64"):
        for family in (4, 6):
            assert root.plain_client("connect", SERVER[family], ports.ECHO) == "ECONNREFUSED"
        assert root.plain("ping", "-c1", "-W2", "10.81.3.1").returncode == 0
    with up(root, "--via", "block", "--exclude", SERVER[4]):
        assert root.plain_client("connect", SERVER[4], ports.ECHO) == "open"
        assert root.plain_client("connect", SERVER[6], ports.ECHO) == "ECONNREFUSED"


def test_interface_is_the_only_way_out(root: Caller) -> None:
    with up(root, "--interface", "c1"):
        assert root.plain_client("ask", SERVER[4], ports.WHO).split()[0] == "10.81.3.2"


@STRATEGIES
def test_no_socket_of_ours_goes_anywhere_unpinned(root: Caller, strategy: str) -> None:
    """Every socket of the process, of every kind, bears the mark or is bound to the uplink."""
    via = f"socks5://www.example.test:{ports.SOCKS}"
    with up(root, "--via", via, "--strategy", strategy) as running:
        facts = running.told("up")[0]

        def ours() -> list[str]:
            shown = root.topology.caller.run("ss", "-Hantuwep").splitlines()
            return [line for line in shown if f"pid={running.process.pid}," in line]

        with root.start(root.command([*CLIENT, "hold", SERVER[4], str(ports.ECHO), "5"])) as held:
            assert root.plain_client("udp_echo", SERVER[4], ports.ECHO, 100) == [True]
            eventually(lambda: len(ours()) >= 7, "5 connections and an association")
            for line in ours():
                assert (f"fwmark:{facts['mark']:#x}" if facts["mark"] else "%c0:") in line
            held.kill()


def test_connection_from_outside_lives_through_start_run_and_stop(root: Caller) -> None:
    """As an SSH session to this machine does: one from before, and one that begins meanwhile."""
    caller, server = root.topology.caller, root.topology.server
    with EchoServer(caller, 22), Session(server, CALLER[4], 22) as before:
        before.check()
        with up(root, "--via", "block"):
            before.check()
            with Session(server, CALLER[4], 22) as meanwhile:
                meanwhile.check()
                before.check()
        before.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_puts_everything_back(root: Caller, number: int) -> None:
    with up(root) as running:
        running.stop(number)
    assert running.told("stopping")[0]["why"] == signal.Signals(number).name
    assert not list((root.home / "state").iterdir())


def test_stop_with_flows_under_way_is_prompt(root: Caller) -> None:
    with (
        up(root) as running,
        root.start(root.command([*CLIENT, "hold", SERVER[4], str(ports.ECHO), "200"])) as held,
    ):
        eventually(lambda: len(established(root)) >= 200, "200 connections")
        assert running.stop() < 2
        held.kill()


def established(root: Caller) -> list[str]:
    shown = root.topology.caller.run("ss", "-Hntp", "state", "established", f"dport = :{ports.ECHO}")
    return [line for line in shown.splitlines() if "tunsmith" in line or "python" in line]


def test_dry_run_says_what_would_be_done_and_does_nothing(root: Caller) -> None:
    done = root.plain(*UP, "--state", str(root.home / "state"), "--dry-run", "--via", SOCKS)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ip rule add from all fwmark 0x0/0x", done.stdout, re.MULTILINE)
    assert re.search(r"^# and back:\nip rule delete ", done.stdout, re.MULTILINE)
    assert not (root.home / "state").exists()


def test_dry_run_pasted_into_a_shell_works_and_so_does_its_undo(root: Caller) -> None:
    before = network(root.topology.caller)
    shown = root.plain(*UP, "--state", str(root.home / "state"), "--dry-run").stdout
    there, back = shown.split("# and back:")
    root.topology.caller.run("sh", "-ec", there)
    assert network(root.topology.caller) != before
    root.topology.caller.run("sh", "-ec", back)
    assert network(root.topology.caller) == before


def test_unconfirmed_is_put_back_and_confirmed_stays(root: Caller) -> None:
    with up(root, "--confirm", "1") as running:
        assert running.wait_for("stopped")
        assert running.told("stopping")[0]["why"] == "nobody confirmed in time"
        assert running.process.wait(5) == 0
    with up(root, "--confirm", "60") as running:
        confirm = [*UP[:-1], "confirm", "--state", str(root.home / "state")]
        done = root.plain(*confirm)
        assert done.returncode == 0, done.stderr
        eventually(lambda: "confirmed: it stays" in running.notices(), "the word of the guard")


def test_second_instance_and_taken_name_are_refused_before_anything_is_changed(root: Caller) -> None:
    with up(root, "--tun", "tun7"):
        code, said = fails(root)
        assert (code, "tun7" in said) == (2, True), said
        code, said = fails(root, "--tun", "tun7")
        assert code in (2, 125), said
        code, said = fails(root)
        assert (code, "tunsmith runs there already; stop that one" in said) == (2, True), said
        assert len(said.splitlines()) == 1
    code, said = fails(root, "--tun", "c0")
    assert (code, "the name c0 is taken" in said) == (2, True), said


def test_two_instances_for_different_networks_go_together(root: Caller) -> None:
    with (
        up(root, "--via", "block", "--include", SERVER[4]),
        up(root, "--via", "block", "--include", SERVER[6]),
    ):
        for family in (4, 6):
            assert root.plain_client("connect", SERVER[family], ports.ECHO) == "ECONNREFUSED"


def test_proxy_that_is_not_there_is_named_and_nothing_changed(root: Caller) -> None:
    code, said = fails(root, "--via", f"socks5://{SERVER[4]}:{ports.CLOSED}")
    assert code == 125
    assert "the proxy refuses connections" in said


def test_ordinary_user_serves_on_an_interface_made_for_him(caller: Caller) -> None:
    """And is told what root has to run."""
    ip = caller.topology.caller.run
    ip("ip", "tuntap", "add", "dev", "tun7", "mode", "tun", "user", str(caller.user))
    try:
        with up(caller, "--tun", "tun7", "--via", SOCKS, "--include", SERVER[6]) as running:
            commands = running.told("up")[0]["commands"]
            assert any(line.startswith("ip link set dev tun7 up") for line in commands)
            for line in commands:
                ip("sh", "-c", line)
            assert caller.plain_client("connect", SERVER[6], ports.ECHO) == "open"
            running.process.terminate()
            assert running.process.wait(5) == 0
            assert f"[{SERVER[6]}]:{ports.ECHO}" in flows(running, "tcp")
    finally:
        ip(
            "sh",
            "-c",
            "while ip -6 rule del proto 125; do :; done; while ip rule del proto 125; do :; done; true",
        )
        ip("ip", "link", "del", "tun7")
        ip("sh", "-c", "ip -6 route flush table 125; ip route flush table 125; true")


def test_without_the_right_it_says_so_in_one_line(caller: Caller) -> None:
    code, said = fails(caller)
    assert code == 125
    assert len(said.splitlines()) == 1, said


@pytest.fixture
def unprotected(root: Caller) -> Iterator[None]:
    """Once `protect` is gone, what bears our mark is led into the TUN like all else."""
    yield
    for family in ("-4", "-6"):
        root.topology.caller.run("ip", family, "rule", "del", "priority", "100")


@pytest.mark.usefixtures("unprotected")
@pytest.mark.parametrize("via", ["direct", SOCKS], ids=["direct", "socks5"])
def test_routing_loop_is_cut_counted_and_named(root: Caller, via: str) -> None:
    with up(root, "--via", via) as running:
        table = str(running.told("up")[0]["table"])
        for option in ("-4", "-6"):
            root.topology.caller.run("ip", option, "rule", "add", "lookup", table, "priority", "100")
        for family in (4, 6):
            assert root.plain_client("connect", SERVER[family], ports.ECHO) != "open"
            root.plain("ping", "-c1", "-W1", SERVER[family])
            root.plain_client("udp_ask", SERVER[family], ports.ECHO, 1)
        before = cpu_seconds(running.process.pid)
        root.plain("sleep", "1")
        assert cpu_seconds(running.process.pid) - before < 0.1
        loops = [each for each in running.notices() if each.startswith("routing loop: our own ")]
        assert len(loops) == 1, running.events
        assert "ip rule" in loops[0]


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.fixture
def neighbour(root: Caller) -> Iterator[str]:
    """Somebody's proxy on C itself, that knows nothing of marks."""
    argv = ["microsocks", "-i", "127.0.0.1", "-p", str(ports.MORTAL)]
    with subprocess.Popen(root.topology.caller.command(argv), stderr=subprocess.DEVNULL) as process:
        eventually(lambda: root.topology.caller.listens(ports.MORTAL), "microsocks")
        yield f"socks5://127.0.0.1:{ports.MORTAL}"
        process.terminate()


def test_proxy_on_this_machine_is_kept_out_of_the_loop(root: Caller, neighbour: str) -> None:
    """Its own connections are led into the TUN, too; they are known by their process, and sent out directly."""
    with up(root, "--via", neighbour) as running:
        for family in (4, 6):
            assert root.plain_client("ask", SERVER[family], ports.WHO).split()[0] == CALLER[family]
        done = root.plain("curl", "-sS", "http://www.example.test/")
        assert (done.returncode, done.stdout) == (0, "hello from S\n"), done.stderr
        before = cpu_seconds(running.process.pid)
        root.plain("sleep", "1")
        assert cpu_seconds(running.process.pid) - before < 0.1
        loops = [each for each in running.notices() if each.startswith("routing loop: the proxy ")]
        assert len(loops) == 1, running.events
        assert "(microsocks, process " in loops[0]
    assert len(flows(running, "tcp")) <= 6, running.events


def test_tunnel_of_ssh_from_before_lives_on_and_carries_everything(root: Caller) -> None:
    """`ssh -D`: the proxy is a program here, and its connection to the server is older than we are."""
    listen = f"127.0.0.1:{ports.MORTAL}"
    argv = [
        "ssh", "-D", listen, "-N", "-p", str(ports.SSH), "-i", str(root.topology.files / "ssh" / "user"),
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", f"root@{SERVER[4]}",
    ]  # fmt: skip
    os.chown(root.topology.files / "ssh" / "user", 0, 0)
    try:
        with root.start(root.command(argv)) as ssh:
            eventually(lambda: root.topology.caller.listens(ports.MORTAL), "ssh -D")
            with up(root, "--via", f"socks5://{listen}"):
                assert root.plain_client("ask", SERVER[6], ports.WHO).split()[0] == SERVER[6]
            assert ssh.poll() is None
            ssh.terminate()
    finally:
        os.chown(root.topology.files / "ssh" / "user", ORDINARY, ORDINARY)


def test_killed_it_is_put_back_by_the_guard_within_two_seconds(root: Caller) -> None:
    before = network(root.topology.caller)
    with up(root) as running:
        running.process.kill()
        running.process.wait()
        eventually(lambda: network(root.topology.caller) == before, "the network as it was", 2.0)


def test_without_its_tun_it_ends_as_failed_so_that_a_service_manager_starts_it_again(root: Caller) -> None:
    with up(root) as running:
        root.topology.caller.run("ip", "link", "delete", "tunsmith0")
        assert running.wait_for("stopped")
        assert running.told("stopping")[0]["why"] == "the TUN interface is gone"
        assert running.process.wait(5) == 1


def test_container_with_no_other_right_than_net_admin(root: Caller) -> None:
    """And with /proc/sys read-only, as in a container."""
    os.chown(root.home, 0, 0)  # root without CAP_DAC_OVERRIDE writes only what is his
    state = root.home / "state"
    root.extra = "mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys"
    bounded = ["setpriv", "--bounding-set", "-all,+net_admin", "--inh-caps", "-all", *UP, "--json"]
    process = root.start(root.command([*bounded, "--state", str(state), "--via", SOCKS]))
    with process:
        running = Up(process, state)
        try:
            running.wait_for("up")
            for family in (4, 6):
                assert root.plain_client("connect", SERVER[family], ports.ECHO) == "open"
            running.stop()
        finally:
            process.kill()
            running.close()


def test_systemd_hears_that_it_serves_that_it_lives_and_that_it_ends(root: Caller) -> None:
    where = str(root.home / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(where)
        manager.settimeout(10)
        told = ["env", f"NOTIFY_SOCKET={where}", "WATCHDOG_USEC=400000", *UP, "--json"]
        with root.start(root.command([*told, "--state", str(root.home / "state")])) as process:
            running = Up(process, root.home / "state")
            try:
                assert manager.recv(4096).startswith(b"READY=1\nSTATUS=tunsmith0 to direct")
                assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
                process.send_signal(signal.SIGSTOP)
                while True:  # what was on its way
                    manager.settimeout(0.5)
                    try:
                        manager.recv(4096)
                    except TimeoutError:
                        break  # a process that hangs says nothing
                process.send_signal(signal.SIGCONT)
                manager.settimeout(10)
                running.process.terminate()
                while manager.recv(4096) != b"STOPPING=1":
                    pass
                assert process.wait(5) == 0
            finally:
                process.kill()
                running.close()
