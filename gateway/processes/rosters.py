"""Who the workers of a route are, and how they are, in shared memory: the parent tells, all engines read.

Promise: what is read was written as one; to see that nothing has changed costs one look. Must never know: how it was
found out. Next: `gateway/lookout.py`, which writes; `upstreams/pool.py`, which reads.

As with the state of an application (`scoreboard.py`), the sequence is odd while the rest is being written, and the
checksum tells it also where a processor shows the writes of another one in another order.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.upstreams.terms import Entry

ROSTER_OCTETS: Final = 32 * 1024
"""Room for some 250 workers."""
_WORD: Final = 8
_HEAD: Final = 3
"""Words: sequence, checksum, length."""
_TRIES: Final = 3


class Rosters:
    """The memory for several routes; made before anybody forks."""

    def __init__(self, count: int) -> None:
        self.map = mmap.mmap(-1, max(1, count) * ROSTER_OCTETS)

    def roster(self, number: int) -> SharedRoster:
        """Each reader, and the writer, makes its own."""
        return SharedRoster(self.map, number)


class SharedRoster:
    """One route's."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        octets = memoryview(memory)[number * ROSTER_OCTETS : (number + 1) * ROSTER_OCTETS]
        self._words = octets[: _HEAD * _WORD].cast("q")
        self._text = octets[_HEAD * _WORD :]
        self._read = 0
        """The sequence of what was read last."""
        self._entries: list[Entry] = []

    def write(self, entries: Sequence[Entry]) -> int:
        """Tell of so many as there is room for; how many."""
        fit = len(entries)
        octets = msgspec.json.encode(entries)
        while len(octets) > len(self._text):
            fit -= 1 + fit // 16
            octets = msgspec.json.encode(entries[:fit])
        words = self._words
        sequence = words[0] + 2
        words[0] = sequence - 1
        words[2] = len(octets)
        self._text[: len(octets)] = octets
        words[1] = zlib.crc32(octets, sequence & 0xFFFFFFFF)
        words[0] = sequence
        return fit

    def changed(self) -> bool:
        """Whether there is more to be read than was read."""
        return self._words[0] != self._read

    def read(self) -> list[Entry]:
        """What was told last; what was read before, while that is being written."""
        words = self._words
        for _ in range(_TRIES):
            sequence, length = words[0], words[2]
            octets, checksum = bytes(self._text[:length]), words[1]
            whole = sequence > 0 and words[0] == sequence and sequence % 2 == 0
            if whole and zlib.crc32(octets, sequence & 0xFFFFFFFF) == checksum:
                self._entries = msgspec.json.decode(octets, type=list[Entry])
                self._read = sequence
                break
        return self._entries
