"""Several captures become one file that every reader takes."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from tests import pcapng_reader
from tunsmith.demo.capture import CaptureBook
from tunsmith.device.pcap import Capture


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def _capture(book: CaptureBook, *packets: bytes) -> None:
    capture = Capture(book.path, warn=pytest.fail)
    for packet in packets:
        capture.packet((bytes(10) + packet,), outbound=True, now_ns=1)
    capture.close()
    book.add()


def test_packets_of_all_captures_are_in_one_section() -> None:
    with closing(CaptureBook()) as book:
        _capture(book, b"\x45 one", b"\x45 two")
        _capture(book, b"\x45 three")
        _capture(book)
        recording = pcapng_reader.read(Path(book.save()).read_bytes())
    assert [packet.data for packet in recording.packets] == [b"\x45 one", b"\x45 two", b"\x45 three"]
    assert len(recording.interfaces) == 1


def test_nothing_is_on_disk_before_it_is_saved(tmp_path: Path) -> None:
    with closing(CaptureBook()) as book:
        _capture(book, b"\x45")
        assert list(tmp_path.iterdir()) == []
        path = Path(book.save())
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_capture_that_was_never_begun_adds_nothing() -> None:
    with closing(CaptureBook()) as book:
        book.add()
        _capture(book, b"\x45")
        assert len(pcapng_reader.read(Path(book.save()).read_bytes()).packets) == 1


def test_file_that_cannot_be_written_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, mode: str) -> None:
        os.close(fd)
        raise OSError(28, "No space left on device")

    with closing(CaptureBook()) as book:
        monkeypatch.setattr("builtins.open", full)
        with pytest.raises(OSError, match="No space"):
            book.save()
    assert list(tmp_path.iterdir()) == []
