"""What engines tell their parent of their work: numbers, and one text, in shared memory.

Promise: an engine writes to what is its own only, and waits for nobody; what a dead one has told is kept.
Must never know: what the numbers mean, but which of them go with their engine. Next: `scoreboard.py`, of which this is
a part.
"""

from __future__ import annotations

import mmap
import zlib
from array import array
from collections.abc import Collection, Sequence
from typing import Final

TEXT_OCTETS: Final = 8 * 1024 - 24
"""Memory that nobody writes to costs nothing."""
_WORD: Final = 8
_HEAD: Final = 3
"""Words before a text: sequence, checksum, length."""
_TRIES: Final = 3


class Counters:
    """`slots` engines count, each the same `rows` of `width` numbers; `gauges` are those that end with an engine."""

    def __init__(self, slots: int, rows: int, width: int, gauges: Collection[int] = ()) -> None:
        self.slots = slots
        self.rows = rows
        self.width = width
        self.gauges = gauges
        self.text_words = _HEAD + TEXT_OCTETS // _WORD if rows else 0
        self.slot_words = self.text_words + rows * width
        self.map = mmap.mmap(-1, max(1, slots * self.slot_words) * _WORD)
        self.octets = memoryview(self.map)
        self.words: memoryview[int] = self.octets.cast("q")
        self.gone = [[0] * width for _ in range(rows)]
        """What those have counted who are dead; the parent's."""

    # ------------------------------------------------------------------ for an engine

    def publish(self, slot: int, row: int, values: Sequence[int]) -> None:
        """All numbers of a row as they are now."""
        if row < self.rows:
            at = slot * self.slot_words + self.text_words + row * self.width
            self.words[at : at + self.width] = memoryview(array("q", values))

    def tell(self, slot: int, text: bytes) -> None:
        """A text in place of the one before; at most TEXT_OCTETS.

        The sequence is odd while it is being written, and the checksum tells a reader that it has read of two.
        """
        if not self.rows:
            return
        at = slot * self.slot_words
        words, first = self.words, (at + _HEAD) * _WORD
        sequence = words[at] + 2
        words[at] = sequence - 1
        self.octets[first : first + len(text)] = text
        words[at + 2] = len(text)
        words[at + 1] = zlib.crc32(text, sequence & 0xFFFFFFFF)
        words[at] = sequence

    # ------------------------------------------------------------------ for the parent

    def clear(self, slot: int) -> None:
        """The engine is dead: what it has counted stays counted."""
        if not self.rows:
            return
        at = slot * self.slot_words
        if self.words[at]:
            self.words[at : at + _HEAD] = memoryview(array("q", [0] * _HEAD))
        nothing = memoryview(array("q", [0] * self.width))
        for row, gone in enumerate(self.gone):
            first = at + self.text_words + row * self.width
            values = self.words[first : first + self.width].tolist()
            if any(values):
                self.words[first : first + self.width] = nothing
                for number, value in enumerate(values):
                    if number not in self.gauges:
                        gone[number] += value

    def total(self, row: int) -> list[int]:
        """Of all engines that are or were."""
        total = list(self.gone[row])
        for slot in range(self.slots):
            first = slot * self.slot_words + self.text_words + row * self.width
            values = self.words[first : first + self.width].tolist()
            if any(values):
                total = [a + b for a, b in zip(total, values, strict=True)]
        return total

    def told(self, slot: int) -> bytes:
        """The text of an engine; b"" where it has told none, or writes one right now."""
        at = slot * self.slot_words
        first = (at + _HEAD) * _WORD
        for _ in range(_TRIES if self.rows else 0):
            sequence, checksum, length = self.words[at : at + _HEAD].tolist()
            if sequence % 2 == 0 and 0 < length <= TEXT_OCTETS:
                text = bytes(self.octets[first : first + length])
                if zlib.crc32(text, sequence & 0xFFFFFFFF) == checksum and self.words[at] == sequence:
                    return text
        return b""
