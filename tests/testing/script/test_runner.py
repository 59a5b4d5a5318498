from __future__ import annotations

from pathlib import Path

import pytest

from tests.pcapng_reader import read
from tunsmith.testing.script.__main__ import leads_elsewhere, main
from tunsmith.testing.script.parser import ScriptError, parse
from tunsmith.testing.script.run import run_on_stack
from tunsmith.testing.script.runner import ScriptFailure


def failure(text: str) -> str:
    with pytest.raises(ScriptFailure) as caught:
        run_on_stack(parse(text))
    return str(caught.value)


def test_a_failure_shows_the_line_what_came_and_the_exchange() -> None:
    assert (
        failure("owner listen\npeer SYN 0 mss 1000\n+1 peer RST 1\nquiet 1")
        == """\
script:3: IPv4, at 0.000 s
  expected +1 peer RST 1
  came     before this line: SYN,ACK 0 ack 1 win 65535 mss 1460
the exchange so far:
   0.000  owner listen
   0.000  peer  SYN 0 mss 1000
   0.000  stack SYN,ACK 0 ack 1 win 65535 mss 1460"""
    )


@pytest.mark.parametrize(
    ("line", "came"),
    [
        ("stack ACK 0 ack 1", "(flags SYN,ACK, not ACK)"),
        ("stack SYN,ACK 0 ack 2", "(ack 1, not 2)"),
        ("stack SYN,ACK 5 ack 1", "(seq 0, not 5)"),
        ("stack SYN,ACK 0+1 ack 1", "(0 bytes of text, not 1)"),
        ("stack SYN,ACK 0 win 1..2", "(win 65535, not 1..2)"),
        ("stack SYN,ACK 0 urg 1", "(urg 0, not 1)"),
        ("stack SYN,ACK 0 port 9", "(port 40000, not 9)"),
        ("stack SYN,ACK 0 mss 9", "(mss 1460, not 9)"),
        ("stack SYN,ACK 0 wscale 9", "(wscale None, not 9)"),
        ("stack SYN,ACK 0 sackok", "(no sackok)"),
        ("stack SYN,ACK 0 ts 1/2", "(no ts)"),
        ("stack SYN,ACK 0 sack 1:2", "(sack none, not 1:2)"),
        ("stack SYN,ACK 0 ect", "(not-ect, not ect)"),
        ("stack SYN,ACK 0 no mss", "(mss, which should be absent)"),
        ("stack icmp host", "(no ICMP error, not host)"),
        ("+0.5 stack SYN,ACK 0", "it, too early: at 0.000, not 0.500"),
    ],
)
def test_differences_are_named(line: str, came: str) -> None:
    assert came in failure(f"owner listen\npeer SYN 0 mss 1000\n{line}\nquiet 1")


def test_timestamps_that_differ() -> None:
    begin = "with timestamps on\nowner listen\npeer SYN 0 mss 1000 ts 7/0\n"
    assert "(ts value 0, not 1, ts echo 7, not 8)" in failure(f"{begin}stack SYN,ACK 0 ts 1/8")


@pytest.mark.parametrize(
    ("lines", "came"),
    [
        ("stack ACK 1", "nothing came by 0.000"),
        ("+0.5 stack ACK 1", "nothing came by 0.500"),
        ("owner read 5", "0 bytes were there to read"),
        ("owner read 0 fails EPIPE", "read did not fail"),
        ("owner accept", "nobody has asked"),
        ("owner set luck 7", "a connection has no such option"),
        ("owner set cork", "a connection has no such option"),
        ("owner set linger some", "a connection has no such option"),
        ("owner send 70000 takes 5", "70000 bytes were taken"),
        ("check state CLOSED", "state is ESTABLISHED, not CLOSED"),
        ("check cwnd 3..4", "cwnd is 10, not 3..4"),
        ("check timer.persist 1", "timer.persist is off, not 1"),
        ("check luck 5", "nothing is known by the name luck"),
        ("owner shutdown\nquiet 1", "before this line: FIN,ACK 1 ack 1"),
        ("owner shutdown", "before this line: FIN,ACK 1 ack 1"),
        ("owner shutdown\nstack FIN,ACK 1\nowner send 1", "send failed with EPIPE"),
        ("peer ACK 1+5 ack 1 other\nowner read 5", "the text is not what the peer sent"),
    ],
)
def test_what_came_instead(lines: str, came: str) -> None:
    assert came in failure(f"given ESTABLISHED\n{lines}")


def test_without_a_connection_there_is_nothing_to_look_at() -> None:
    assert "there is no connection" in failure("owner send 1")


def test_text_is_compared() -> None:

    assert "bytes of text" in failure("given ESTABLISHED\nowner send 5\nstack ACK,PSH 1+4")


def test_a_capture_is_left(tmp_path: Path) -> None:
    capture = tmp_path / "folder" / "capture.pcapng"
    with pytest.raises(ScriptFailure) as caught:
        run_on_stack(parse("given ESTABLISHED\n+1 peer RST 1\nquiet 1\nstack ACK 1"), capture=capture)
    assert caught.value.__notes__ == [f"capture: {capture}"]
    packets = read(capture.read_bytes()).packets
    assert [packet.when for packet in packets] == [0, 0, 0, 10**9]


@pytest.mark.parametrize("setting", ["magic on", "mtu big"])
def test_settings_are_those_of_a_stack(setting: str) -> None:
    with pytest.raises(ScriptError, match=setting.split()[0]):
        run_on_stack(parse(f"with {setting}\nquiet 1"))


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.script").write_text("given ESTABLISHED\n")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("IPv6\n2 runs, 0 failed\n")
    (tmp_path / "bad.script").write_text("given ESTABLISHED\nstack ACK 1\n")
    assert main([str(tmp_path)]) == 1
    assert "4 runs, 2 failed" in capsys.readouterr().out
    assert main([]) == 2
    assert "python -m tunsmith.testing.script" in capsys.readouterr().err
    (tmp_path / "wrong.script").write_text("given\n")
    assert main([str(tmp_path)]) == 2
    assert "wrong.script:1: a state is missing" in capsys.readouterr().err
    assert main([str(tmp_path / "missing.script")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/missing.script: No such file or directory\n"
    assert main(["--help"]) == 0
    assert "exits with 1 when one fails" in capsys.readouterr().out


def test_without_a_network_of_its_own_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bench() -> None:
        raise PermissionError("no")

    monkeypatch.setattr("tunsmith.testing.script.kernel_bench.KernelBench", bench)
    (tmp_path / "good.script").write_text("kernel\ngiven ESTABLISHED\n")
    assert main(["--kernel", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--kernel wants root and a network of its own, `unshare --net …`: ")


def test_a_default_route_means_the_network_of_a_machine() -> None:
    head = "Iface\tDestination\tGateway\tFlags\n"
    near = "eth0\t000200C0\t00000000\t0001\n"
    assert not leads_elsewhere("")
    assert not leads_elsewhere(head + near)
    assert leads_elsewhere(head + near + "eth0\t00000000\t010200C0\t0003\n")
