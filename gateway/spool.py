"""Content kept for its length or for another try: memory first, then an unlinked file.

Promise: memory stays below `memory_bytes`; nothing is left on disk, not even after a crash.
Must never know: where the content comes from or goes. Next: `exchange.py`.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO, Final

MEMORY_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 64 * 1024


class Spool:
    """Written at its end, and read from the start as often as needed."""

    __slots__ = ("length", "memory_bytes", "_file", "_pieces", "_position")

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self.length = 0
        self.memory_bytes = memory_bytes
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._position = 0

    def write(self, octets: bytes) -> None:
        """Append; raises OSError if the disk is full."""
        at = self.length
        self.length += len(octets)
        if self._file is None:
            if self.length <= self.memory_bytes:
                self._pieces.append(octets)
                return
            self._file = tempfile.TemporaryFile(prefix="gateway-", buffering=0)  # noqa: SIM115
            octets = b"".join([*self._pieces, octets])
            self._pieces.clear()
            at = 0
        descriptor = self._file.fileno()
        view = memoryview(octets)
        while view:
            written = os.pwrite(descriptor, view, at)
            at += written
            view = view[written:]

    @property
    def whole(self) -> bytes | None:
        """All of it where it is in memory, else None."""
        if self._file is not None:
            return None
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def rewind(self) -> None:
        self._position = 0

    def read(self) -> bytes:
        """The next piece of at most PIECE_BYTES, b"" at the end."""
        if self._file is None:
            whole = self.whole or b""
            piece = whole[self._position : self._position + PIECE_BYTES]
        else:
            piece = os.pread(self._file.fileno(), PIECE_BYTES, self._position)
        self._position += len(piece)
        return piece

    @property
    def rest(self) -> int:
        return self.length - self._position

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._pieces.clear()
