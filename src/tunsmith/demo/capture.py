"""One capture file of many runs.

Each `tunsmith run` writes its capture to the same unnamed file in memory, and its packets are put behind
those of the others. So there is nothing on disk before `save`, and nothing to clean up. All are put under the
first header: pcapng would allow a section for each, but tcpdump reads only the first.
"""

from __future__ import annotations

import os
import tempfile


class CaptureBook:
    """To be closed."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("tunsmith-demo")
        """To be inherited by a program that writes to `path`."""
        self._blocks = bytearray()

    @property
    def path(self) -> str:
        """What a program that has inherited `fd` opens to write one capture."""
        return f"/dev/fd/{self.fd}"

    def add(self) -> None:
        """Keep what has been written to `path`; the next capture may come."""
        section = os.pread(self.fd, os.fstat(self.fd).st_size, 0)
        self._blocks += section if not self._blocks else section[_header_size(section) :]
        os.ftruncate(self.fd, 0)

    def save(self) -> str:
        """Write a new file in the user's directory for temporary ones, readable by the user alone; returns
        its path. Raises OSError, and leaves no part of it then."""
        fd, path = tempfile.mkstemp(prefix="tunsmith-demo-", suffix=".pcapng")
        try:
            with open(fd, "wb") as file:
                file.write(self._blocks)
        except OSError:
            os.unlink(path)
            raise
        return path

    def close(self) -> None:
        os.close(self.fd)


def _header_size(section: bytes) -> int:
    """The length of its first two blocks: section header, interface description."""
    size = 0
    for _ in range(2):
        size += int.from_bytes(section[size + 4 : size + 8], "little")
    return size
