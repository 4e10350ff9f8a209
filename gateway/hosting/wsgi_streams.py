"""What a WSGI application reads and writes besides its response: `wsgi.input`, `wsgi.errors`, `wsgi.file_wrapper`.

Promise: the input reads like a file that ends with the content, however that arrives; it holds no more than is
asked for and `FULL` octets. A file that is sent by the kernel is one whose octets are those it would read.
Must never know: the response. Next: `gateway/interfaces/wsgi.py`, which fills the input.

Who writes what: the rules' thread `arrived`, `complete` and the right of `pieces`; the application's `taken` and
the left of `pieces`; both `gone`, which is never unset, and `waits`, where either may miss the other's word by a
moment: see `_ready`.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.ends import FileSlice, Streams
from gateway.hosting.faults import Disconnected

if TYPE_CHECKING:
    from gateway.exchange import Exchange

FULL: Final = 64 * 1024
"""Octets that may wait to be read."""
BLOCK_BYTES: Final = 64 * 1024


class Input:
    """`wsgi.input` (PEP 3333, "Input and Error Streams"): blocks until what is asked for is there, or the end."""

    __slots__ = (
        "arrived", "complete", "gone", "pieces", "pump", "streams", "taken", "waits", "_buffer", "_position",
    )  # fmt: skip

    def __init__(self, pump: Callable[[], None]) -> None:
        """`pump` asks for more content, in the rules' thread."""
        self.pump = pump
        self.streams: Streams | None = None
        self.pieces: deque[bytes] = deque()
        self.arrived = 0
        self.taken = 0
        self.complete = False
        self.gone = False
        """Nothing more will come, although it is not complete."""
        self.waits = False
        """Whether more can be had by `pump`, once there is room for it."""
        self._buffer = b""
        self._position = 0

    # ------------------------------------------------------------------ in the rules' thread

    def add(self, octets: bytes) -> None:
        self.pieces.append(octets)
        self.arrived += len(octets)

    @property
    def full(self) -> bool:
        return self.arrived - self.taken > FULL

    # ------------------------------------------------------------------ in the application's

    def read(self, size: int | None = -1) -> bytes:
        """So many octets, less at the end only; all that is left without a size."""
        buffer, start = self._buffer, self._position
        if size is None or size < 0:
            parts = [buffer[start:]]
            self._buffer = b""
            self._position = 0
            while piece := self._next():
                parts.append(piece)
            return b"".join(parts)
        end = start + size
        if end <= len(buffer):
            self._position = end
            return buffer[start:end]
        parts = [buffer[start:]]
        wanted = end - len(buffer)
        self._buffer = b""
        self._position = 0
        while wanted:
            piece = self._next()
            if not piece:
                break
            if len(piece) > wanted:
                self._buffer = piece
                self._position = wanted
                piece = piece[:wanted]
            parts.append(piece)
            wanted -= len(piece)
        return b"".join(parts)

    def readline(self, size: int | None = -1) -> bytes:
        """Up to and with the next line end, `size` octets at most."""
        bound = -1 if size is None or size < 0 else size
        if bound == 0:
            return b""
        parts: list[bytes] = []
        while True:
            buffer, start = self._buffer, self._position
            if start >= len(buffer):
                buffer = self._buffer = self._next()
                start = self._position = 0
                if not buffer:
                    break
            end = buffer.find(b"\n", start) + 1
            whole = end > 0
            if not whole:
                end = len(buffer)
            if 0 <= bound <= end - start:
                end = start + bound
                whole = True
            self._position = end
            parts.append(buffer[start:end])
            if whole:
                break
            if bound > 0:
                bound -= end - start
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """All lines, or those that begin before `hint` octets were read."""
        lines: list[bytes] = []
        total = 0
        while line := self.readline():
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Input:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _next(self) -> bytes:
        """The next piece, b"" at the end. Raises Disconnected."""
        while True:
            complete = self.complete  # looked at first: once it is true, all pieces are there
            if self.pieces:
                piece = self.pieces.popleft()
                self.taken += len(piece)
                if self.waits and not self.full:
                    self._pump()
                return piece
            if complete:
                return b""
            if self.gone or self.streams is None:
                raise Disconnected("no more of the request's content will come: the client has left, or has its response")
            if self.waits:
                self._pump()
            else:
                self.streams.wait(self._ready)

    def _pump(self) -> None:
        self.waits = False
        if self.streams is not None and not self.gone:
            self.streams.enter(self.pump)

    def end(self) -> None:
        """The call is over: whoever kept this gets what it has already, and nothing else is held by it."""
        self.gone = True
        self.streams = None
        self.pump = _nothing

    def _ready(self) -> bool:
        # `waits`: the rules saw a full input, and said so only after the application had emptied it
        return bool(self.pieces) or self.complete or self.gone or self.waits


class Errors:
    """`wsgi.errors`: lines of the error log, marked as those of the exchange."""

    __slots__ = ("exchange", "_log")

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._log: StderrLog | None = None

    def write(self, text: str) -> int:
        log = self._log
        if log is None:
            log = self._log = self.exchange.site.stderr_log(self.exchange)
        log.write(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """A line is logged when it ends."""

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def end(self) -> None:
        """The call is over: log what has no line end."""
        if self._log is not None:
            self._log.close()


class StderrLog(Protocol):
    def write(self, octets: bytes) -> None: ...
    def close(self) -> None: ...


class FileWrapper:
    """`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling")."""

    __slots__ = ("block_size", "close", "filelike")

    def __init__(self, filelike: Any, block_size: int = BLOCK_BYTES) -> None:
        self.filelike = filelike
        self.block_size = block_size
        self.close: Callable[[], object] = getattr(filelike, "close", _nothing)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        octets = self.filelike.read(self.block_size)
        if not octets:
            raise StopIteration
        return octets

    def slice(self, limit: int | None) -> FileSlice | None:
        """What is left of a file, `limit` octets at most, from a descriptor of its own; None if it has to be read.

        The caller closes it, or hands it to a driver. Only of a file as `open` makes it is it certain that reading it
        gives the octets of its descriptor: not so of a gzip.GzipFile.
        """
        filelike = self.filelike
        if isinstance(filelike, tempfile._TemporaryFileWrapper):
            filelike = filelike.file
        kind = type(filelike)
        if kind is not io.FileIO and not (kind in _BUFFERED and type(filelike.raw) is io.FileIO):
            return None
        try:
            if kind is io.BufferedRandom:
                filelike.flush()
            descriptor = filelike.fileno()
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None
            start = filelike.tell()
            length = max(0, found.st_size - start)
            if limit is not None and limit < length:
                length = limit
            mine = os.dup(descriptor)
        except (OSError, ValueError):  # closed, or no descriptor is left: reading it will tell
            return None
        return FileSlice(mine, start, length, lambda: os.close(mine))


_BUFFERED: Final = (io.BufferedReader, io.BufferedRandom)


def _nothing() -> None:
    """A filelike without a close method needs none."""
