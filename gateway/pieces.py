"""A response that waits for its turn on a stream where a file can't be sent by itself: it is read piece by piece.

Promise: no more of a file than `PIECE_BYTES` is in memory; whatever happens, `close` closes what is left.
Must never know: what frames the pieces. Next: `fronts/fastcgi.py` and `fronts/cgi.py`, the users.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Final

from gateway.ends import FileSlice, Outgoing

PIECE_BYTES: Final = 65_528
"""The most that one FastCGI record carries without padding."""


class Pieces:
    """Files, and the octets that come after them."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Outgoing] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, piece: Outgoing) -> None:
        if len(piece):
            self._waiting.append(piece)
        elif isinstance(piece, FileSlice):
            piece.close()

    def next(self) -> bytes:
        """The next octets; raises OSError if a file can't be read, EOFError if it has become shorter."""
        first = self._waiting[0]
        if not isinstance(first, FileSlice):
            self._waiting.popleft()
            return first
        octets = os.pread(first.fd, min(first.length, PIECE_BYTES), first.offset)
        if not octets:
            raise EOFError(f"a file has {first.length} octets less than when it was opened")
        first.offset += len(octets)
        first.length -= len(octets)
        if not first.length:
            first.close()
            self._waiting.popleft()
        return octets

    def close(self) -> None:
        """Drop what is left."""
        for piece in self._waiting:
            if isinstance(piece, FileSlice):
                piece.close()
        self._waiting.clear()
