from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pcapng_reader import read
from tunsmith.device.base import FRAME_ROOM, Device
from tunsmith.device.memory import MemoryDevice
from tunsmith.device.pcap import BACKLOG_BYTES, FLUSH_BYTES, Capture, PcapDevice
from tunsmith.errors import UsageError
from tunsmith.wire.checksum import partial, pseudo_sum
from tunsmith.wire.ip import IPV4, IPV6, IpFamily
from tunsmith.wire.tcp import ACK, TCP
from tunsmith.wire.udp import UDP
from tunsmith.wire.vnet import GSO_UDP_L4, NEEDS_CSUM, PLAIN, VNET, VNET_HDR_LEN

SOURCE = {IPV4: b"\xc6\x12\0\x01", IPV6: b"\x20\x01\0\x02" + bytes(11) + b"\x01"}
DESTINATION = {IPV4: b"\xc6\x12\0\x63", IPV6: b"\x20\x01\0\x02" + bytes(11) + b"\x63"}


def parts(family: IpFamily, payload: bytes, protocol: int = 6, gso_size: int = 0) -> tuple[bytes, bytes]:
    """Header and payload of a frame as our stack emits it, the checksum left to the device."""
    if protocol == 6:
        header, at = TCP.pack(40000, 443, 7, 9, 0x5000 | ACK, 512, 0, 0), 16
    else:
        header, at = UDP.pack(40000, 443, 8 + len(payload), 0), 6
    length = len(header) + len(payload)
    addresses = SOURCE[family] + DESTINATION[family]
    header = (
        header[:at] + partial(pseudo_sum(addresses, protocol, length)).to_bytes(2, "big") + header[at + 2 :]
    )
    ip = family.header(SOURCE[family], DESTINATION[family], protocol, length)
    kind = (family.gso_tcp if protocol == 6 else GSO_UDP_L4) if gso_size else 0
    return VNET.pack(NEEDS_CSUM, kind, len(ip) + len(header), gso_size, len(ip), at) + ip + header, payload


def tcpdump(path: Path) -> list[str]:
    """What tcpdump prints of a file, a line a packet."""
    ran = subprocess.run(
        ["tcpdump", "-nn", "-vv", "-t", "-r", path], capture_output=True, text=True, check=True, timeout=30
    )
    return [line.strip() for line in ran.stdout.replace("\n    ", " ").splitlines()]


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    lines: list[str] = []
    yield lines
    assert all("\n" not in line for line in lines)


def test_tcpdump_reads_it_and_finds_every_checksum_correct(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "run.pcapng"
    capture = Capture(str(path), warn=warnings.append)
    capture.name(DESTINATION[IPV4], "www.example")
    for family in (IPV4, IPV6):
        capture.packet(parts(family, b"hello"), outbound=True, now_ns=1_700_000_000_123_456_789)
        capture.packet(
            parts(family, bytes(40_000), gso_size=1448), outbound=False, now_ns=1_700_000_001 * 10**9
        )
        capture.packet(parts(family, b"question", 17), outbound=True, now_ns=1_700_000_002 * 10**9)
    capture.close()
    lines = tcpdump(path)
    assert len(lines) == 6
    for line in lines:
        assert "correct" in line or "udp sum ok" in line, line
        assert "incorrect" not in line
    assert "198.18.0.1.40000 > 198.18.0.99.443" in lines[0]
    assert "2001:2::1.40000 > 2001:2::63.443" in lines[3]
    assert "length 40000" in lines[1]
    assert warnings == []


def test_names_times_directions_and_counts_are_all_there(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "run.pcapng"
    capture = Capture(str(path), warn=warnings.append, interface="tun7")
    capture.packet(
        parts(IPV4, b"out"), outbound=True, now_ns=1_700_000_000_123_456_789, comment="rule: direct"
    )
    capture.name(DESTINATION[IPV4], "www.example")
    capture.packet(parts(IPV4, b"in"), outbound=False, now_ns=5)
    capture.close()
    capture.close()
    recording = read(path.read_bytes())
    assert recording.interfaces[0][2][2] == b"tun7"
    assert recording.names == [(DESTINATION[IPV4], "www.example")]
    first, second = recording.packets
    assert first.when == 1_700_000_000_123_456_789
    assert first.options == {1: b"rule: direct", 2: b"\x02\0\0\0"}
    assert second.options == {2: b"\x01\0\0\0"}
    assert first.data[40:] == b"out"
    ((_, counts),) = recording.statistics
    assert counts == {4: (2).to_bytes(8, "little"), 5: bytes(8)}


def test_snaplen_cuts_but_the_length_stays(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "run.pcapng"
    capture = Capture(str(path), warn=warnings.append, snaplen=60)
    capture.packet(parts(IPV4, bytes(1000)), outbound=True, now_ns=0)
    capture.close()
    (packet,) = read(path.read_bytes()).packets
    assert (len(packet.data), packet.length) == (60, 1040)
    assert "length 1000" in tcpdump(path)[0]


def test_ethernet_is_shown_as_such(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "tap.pcapng"
    capture = Capture(str(path), warn=warnings.append, ethernet=True)
    packet = b"".join(parts(IPV4, b"data"))[VNET_HDR_LEN:]
    header = bytes.fromhex("020000000001 020000000002 0800")
    capture.packet((PLAIN, header, packet), outbound=True, now_ns=0)
    capture.close()
    assert read(path.read_bytes()).interfaces[0][0] == 1
    assert "length 4" in tcpdump(path)[0]


def test_what_was_flushed_can_be_read_while_it_grows(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "run.pcapng"
    capture = Capture(str(path), warn=warnings.append)
    capture.packet(parts(IPV4, b"one"), outbound=True, now_ns=0)
    assert len(read(path.read_bytes()).packets) == 0
    capture.flush()
    assert len(read(path.read_bytes()).packets) == 1
    for _ in range(2):
        capture.packet(parts(IPV4, bytes(FLUSH_BYTES // 2)), outbound=True, now_ns=0)
    assert len(read(path.read_bytes()).packets) == 3
    capture.close()


def test_only_its_owner_can_read_a_capture(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "run.pcapng"
    Capture(str(path), warn=warnings.append).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing/run.pcapng", "No such file or directory"),
        (".", "Is a directory"),
        ("/dev/full", "No space left"),
    ],
)
def test_a_capture_that_cannot_begin_is_a_usage_error(tmp_path: Path, path: str, why: str) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UsageError, match=why) as caught:
        Capture(str(tmp_path / path), warn=print)
    assert "\n" not in str(caught.value)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.netns
def test_a_full_disk_ends_the_capture_once_and_leaves_a_readable_file(tmp_path: Path) -> None:
    script = tmp_path / "fill.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        "from tunsmith.device.pcap import Capture\n"
        "from tests.pcapng_reader import read\n"
        "from tests.device.test_pcap import IPV4, parts\n"
        "path, lines = Path(sys.argv[1]), []\n"
        "capture = Capture(str(path), warn=lines.append)\n"
        "for _ in range(1000):\n"
        "    capture.packet(parts(IPV4, bytes(1400)), outbound=True, now_ns=0)\n"
        "assert not capture.active\n"
        "capture.flush(); capture.name(bytes(4), 'x'); capture.close()\n"
        "assert len(read(path.read_bytes()).packets) > 100\n"
        "print(*lines, sep='\\n')\n"
    )
    mount = tmp_path / "tiny"
    mount.mkdir()
    command = 'mount -t tmpfs -o size=300k tiny "$1" && exec "$2" "$3" "$1/run.pcapng"'
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", mount, sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ran.stderr == ""
    assert ran.stdout == f"the capture to {mount}/run.pcapng ends early: No space left on device\n"


def fifo_reader(path: Path, program: str) -> subprocess.Popen[bytes]:
    os.mkfifo(path)
    return subprocess.Popen(
        [sys.executable, "-c", program, path], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )


def test_a_fifo_reader_gets_everything(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "fifo"
    program = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    with fifo_reader(path, program) as reader:
        capture = Capture(str(path), warn=warnings.append)
        for _ in range(30):
            capture.packet(parts(IPV4, bytes(60_000), gso_size=1448), outbound=True, now_ns=0)
        capture.close()
        data, _ = reader.communicate(timeout=30)
    recording = read(data)
    assert len(recording.packets) == 30
    assert len(recording.statistics) == 1
    assert warnings == []


def test_a_fifo_reader_that_goes_away_ends_the_capture_with_one_line(
    tmp_path: Path, warnings: list[str]
) -> None:
    path = tmp_path / "fifo"
    with fifo_reader(path, "import sys; open(sys.argv[1], 'rb').read(28)") as reader:
        capture = Capture(str(path), warn=warnings.append)
        reader.wait(timeout=30)
    for _ in range(100):
        capture.packet(parts(IPV4, bytes(1400)), outbound=True, now_ns=0)
    capture.flush()
    capture.close()
    assert warnings == [f"the capture to {path} ends early: Broken pipe"]
    assert not capture.active


def test_a_fifo_reader_that_stalls_costs_packets_and_bounded_memory(
    tmp_path: Path, warnings: list[str]
) -> None:
    path = tmp_path / "fifo"
    program = "import sys; f = open(sys.argv[1], 'rb'); sys.stdin.read(); sys.stdout.buffer.write(f.read())"
    with fifo_reader(path, program) as reader:
        capture = Capture(str(path), warn=warnings.append)
        sent = 0
        while not capture.dropped:
            capture.packet(parts(IPV4, bytes(60_000), gso_size=1448), outbound=True, now_ns=0)
            sent += 1
            assert sent * 60_000 < 2 * BACKLOG_BYTES
        assert reader.stdin
        reader.stdin.close()
        reader.stdin = None
        capture.close()
        data, _ = reader.communicate(timeout=30)
    recording = read(data)
    assert len(recording.packets) == sent - 1
    ((_, counts),) = recording.statistics
    assert counts == {4: sent.to_bytes(8, "little"), 5: (1).to_bytes(8, "little")}
    assert warnings == []


STDOUT_PROGRAM = (
    "import os; from tunsmith.device.pcap import Capture; from tests.device.test_pcap import IPV4, parts\n"
    "capture = Capture('-', warn=print)\n"
    "capture.packet(parts(IPV4, b'hello'), outbound=True, now_ns=0)\n"
    "capture.close()\n"
    "assert os.get_blocking(1), 'standard output belongs to others too'\n"
)


def test_standard_output_may_be_a_pipe_or_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STDOUT_PROGRAM]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    piped = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True, timeout=30)
    path = tmp_path / "out"
    path.write_bytes(b"what was there")
    with path.open("ab") as file:
        subprocess.run(command, stdout=file, env=environment, check=True, timeout=30)
    assert path.read_bytes().startswith(b"what was there")
    for data in (piped.stdout, path.read_bytes()[14:]):
        assert len(read(data).packets) == 1


def test_a_terminal_is_refused() -> None:
    primary, secondary = os.openpty()
    saved = os.dup(1)
    try:
        os.dup2(secondary, 1)
        with pytest.raises(UsageError, match="redirect it"):
            Capture("-", warn=print)
    finally:
        os.dup2(saved, 1)
        for fd in (primary, secondary, saved):
            os.close(fd)


def test_a_captured_device_passes_frames_and_shows_both_ways_and_losses(tmp_path: Path) -> None:
    path = tmp_path / "run.pcapng"
    near, far = MemoryDevice.pair(limit=1)
    device: Device = PcapDevice(near, Capture(str(path), warn=print), iter(range(10)).__next__)
    assert (device.fileno(), device.offload, device.mtu) == (near.fileno(), near.offload, near.mtu)
    buffer = memoryview(bytearray(FRAME_ROOM))
    with pytest.raises(BlockingIOError):
        device.read(buffer)
    question, answer = parts(IPV4, b"question", 17), parts(IPV6, b"answer", 17)
    far.write(question)
    assert buffer[: device.read(buffer)] == b"".join(question)
    device.write(answer)
    device.write(answer)
    assert device.lost == 1
    assert buffer[: far.read(buffer)] == b"".join(answer)
    device.close()
    packets = read(path.read_bytes()).packets
    assert [(packet.when, packet.options) for packet in packets] == [
        (0, {2: b"\x02\0\0\0"}),
        (1, {2: b"\x01\0\0\0"}),
        (2, {1: b"lost", 2: b"\x01\0\0\0"}),
    ]
    far.close()
