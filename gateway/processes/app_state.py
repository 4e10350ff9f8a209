"""Whether an application is down, and why, in memory that its parent and all engines share.

Promise: what is read was written like that; nobody waits for anybody.
Must never know: HTTP, why it is asked. Next: `supervise.py`, from where the parent knows it.
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from typing import Final

TEXT_OCTETS: Final = 240
_WORD: Final = 8
_HEAD: Final = 4
"""Words: sequence, checksum, when to try again, length of the text that follows."""
_TRIES: Final = 3


class AppState:
    """Whether an application is down, and why: its parent writes, all engines read.

    The sequence is odd while the rest is being written, so a reader knows that it has read of two states. The
    checksum tells it also where a processor shows what another one has written in another order.
    """

    def __init__(self) -> None:
        octets = memoryview(mmap.mmap(-1, (_HEAD + TEXT_OCTETS // _WORD) * _WORD))
        self._words: memoryview[int] = octets.cast("q")
        self._seconds: memoryview[float] = octets.cast("d")
        self._octets = octets[2 * _WORD :]
        self._text = self._octets[2 * _WORD :]
        self._known = (0, "", 0.0)
        """Sequence, text and time of the last state that was read whole: one tuple, for threads may share us."""

    # ------------------------------------------------------------------ for the parent

    def down(self, text: str, retry_after_s: float, now: float) -> None:
        """Nobody will answer, for this reason, until about so much later."""
        octets = text.encode("utf-8", "replace")
        if len(octets) > TEXT_OCTETS:
            octets = octets[:TEXT_OCTETS].decode("utf-8", "ignore").encode()
        due = now + retry_after_s
        if abs(self._seconds[2] - due) < 1.0 and self._text[: self._words[3]] == octets:
            return  # told already; a whole number of seconds from now is a little later each time
        self._write(octets, due)

    def up(self) -> None:
        """Somebody will."""
        if self._words[3]:
            self._write(b"", 0.0)

    def _write(self, octets: bytes, due: float) -> None:
        words = self._words
        sequence = words[0] + 2
        words[0] = sequence - 1
        self._seconds[2] = due
        words[3] = len(octets)
        self._text[: len(octets)] = octets
        words[1] = zlib.crc32(bytes(self._octets), sequence & 0xFFFFFFFF)
        words[0] = sequence

    # ------------------------------------------------------------------ for the engines, asked as a supervisor is

    def why(self, now: float) -> str:
        """Why nobody will answer a request that comes now; "" where somebody will."""
        return self._state()[1]

    def retry_after_s(self, now: float) -> int:
        """When it may be otherwise, in whole seconds from now."""
        return max(1, math.ceil(self._state()[2] - now))

    def _state(self) -> tuple[int, str, float]:
        for _ in range(_TRIES):
            sequence = self._words[0]
            if sequence == self._known[0]:
                break
            octets, checksum = bytes(self._octets), self._words[1]
            whole = self._words[0] == sequence and sequence % 2 == 0
            if whole and zlib.crc32(octets, sequence & 0xFFFFFFFF) == checksum:
                due, length = struct.unpack_from("=dq", octets)
                self._known = (sequence, octets[2 * _WORD : 2 * _WORD + length].decode(), due)
                break
        return self._known
