"""The error log: what went wrong, whose exchange it was, what to do about it, and what scripts print.

Promise: one line a message, whatever it holds; the same message does not fill the disk; a log that
can't be written breaks nothing. Must never know: how a message came about.
Next: `log_file.py`, where the lines go.

    2026-11-23T10:00:00.123Z error exchange=1f-2 route=/blog/ upstream=pid:71: 502 bad-response: ...; remedy
"""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

from gateway.observe.log_file import LogFile

REPEAT_S = 60.0
"""A message that was logged is only counted when it comes again within this time."""
_MESSAGES = 512
"""Messages remembered to know them again; beyond that, the oldest is forgotten."""

STDERR_LINE_BYTES = 64 * 1024
LAST_LINES = 10
"""Of what a worker prints, told again where it ends."""
"""A script's line is cut here, and what follows up to the line end is left out (SEMANTICS 81)."""

# Besides the control characters (C0, DEL, C1): the line ends of Unicode, and marks that turn the
# direction of text, with which a line can be made to look like another on a terminal.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """`text` on one line, with nothing in it that a terminal would obey: "\\x1b", "\\u2028"."""
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    point = ord(match[0])
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"


class ErrorLog:
    """Writes to `target`: "-" for stderr, "syslog", or the path of a file (OSError if it can't be opened).

    `clock` gives seconds since the epoch.
    """

    def __init__(self, target: str = "-", *, clock: Callable[[], float] = time.time) -> None:
        self._file = LogFile(target, 2)
        self._before: list[LogFile] = []
        """Where it went before it moved."""
        self._clock = clock
        self._lock = threading.RLock()
        """Threads may share a log."""
        self._seen: dict[tuple[str, ...], list[float]] = {}
        """Of each message of late: when it was logged, and how often it came again since."""

    def log(
        self,
        level: str,
        text: str,
        *,
        remedy: str = "",
        exchange: str = "",
        route: str = "",
        upstream: str = "",
    ) -> None:
        """Log a message of level "error", "warn" or "info".

        One that was logged less than REPEAT_S ago, whatever its exchange, is counted instead, and the
        count logged after that time.
        """
        now = self._clock()
        message = (level, text, remedy, route, upstream)
        with self._lock:
            seen = self._seen.get(message)
            if seen is not None:
                if now - seen[0] < REPEAT_S:
                    seen[1] += 1
                    return
                self._forget(message)
            elif len(self._seen) >= _MESSAGES:
                self._forget(next(iter(self._seen)))
            self._seen[message] = [now, 0]
        self._write(level, _joined(text, remedy), _origin(exchange, route, upstream))

    def defect(self, error: BaseException) -> None:
        """Log a defect of the gateway itself, with the traceback on the same line."""
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
        told = " | ".join(line.strip() for line in lines)
        self.log("error", f"defect: {told}", remedy="please report this line to the project")

    def stderr_of(self, exchange: str, route: str, upstream: str = "") -> StderrLog:
        """Takes what a script or worker prints to its stderr."""
        return StderrLog(self, _origin(exchange, route, upstream))

    def flush(self) -> None:
        """Log the counts of repeated messages whose time is over; to be called about once a second."""
        if not self._seen:
            return
        now = self._clock()
        with self._lock:
            while self._seen:
                oldest = next(iter(self._seen))
                if now - self._seen[oldest][0] < REPEAT_S:
                    return
                self._forget(oldest)

    def give_to(self, uid: int, gid: int) -> None:
        """Make the file that of the user who will have to open it again."""
        self._file.give_to(uid, gid)

    def reopen(self) -> None:
        """After the file was renamed (logrotate)."""
        with self._lock:
            error = self._file.reopen()
        if error is not None:
            self._write("error", f"cannot reopen the log {self._file.target}: {error.strerror}", "")

    def move(self, target: str) -> None:
        """Go on there. Raises OSError, and goes on where it was."""
        if target == self._file.target:
            return
        file = LogFile(target, 2)
        with self._lock:
            self._before.append(self._file)  # another thread may be about to write there
            self._file = file

    def forked(self) -> None:
        """We are a child now: what was counted is the parent's to tell."""
        self._seen.clear()

    def close(self) -> None:
        with self._lock:
            while self._seen:
                self._forget(next(iter(self._seen)))
            for file in (*self._before, self._file):
                file.close()

    def write_lines(self, level: str, lines: list[str], origin: str) -> None:
        """Write lines that are escaped already, each as it is, however often."""
        stamp = self._stamp()
        self._file.write(
            [f"{stamp}{level}{origin}: {line}\n".encode("utf-8", "backslashreplace") for line in lines], level
        )

    def _forget(self, message: tuple[str, ...]) -> None:
        _, repeats = self._seen.pop(message)
        if repeats:
            level, text, remedy, route, upstream = message
            told = f"{_joined(text, remedy)} (repeated {int(repeats)} times)"
            self._write(level, told, _origin("", route, upstream))

    def _write(self, level: str, text: str, origin: str) -> None:
        self.write_lines(level, [escaped(text)], origin)

    def _stamp(self) -> str:
        if self._file.is_syslog:
            return ""
        milliseconds = int(self._clock() * 1000)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
        return f"{moment}.{milliseconds % 1000:03d}Z "


def _joined(text: str, remedy: str) -> str:
    return f"{text}; {remedy}" if remedy else text


def _origin(exchange: str, route: str, upstream: str) -> str:
    parts = [
        f" {name}={escaped(value)}"
        for name, value in (("exchange", exchange), ("route", route), ("upstream", upstream))
        if value
    ]
    return "".join(parts)


class StderrLog:
    """Turns what one script or worker prints into lines of the error log (SEMANTICS 19, 81).

    A line is logged when its end came, or 64 KiB of it, or `close`; what memory it needs is bounded so.
    """

    __slots__ = ("_log", "_origin", "_parts", "_size", "_skipped", "last_lines")

    def __init__(self, log: ErrorLog, origin: str) -> None:
        self._log = log
        self._origin = origin
        self._parts: list[bytes] = []
        self._size = 0
        self._skipped = -1
        """Octets left out of the line that is being cut; -1 while none is."""
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        """The last lines that were not empty, escaped."""

    def write(self, octets: bytes) -> None:
        """Take some octets, cut anywhere."""
        lines: list[str] = []
        pieces = octets.split(b"\n")
        for piece in pieces[:-1]:
            self._add(piece, lines)
            self._end_line(lines)
        self._add(pieces[-1], lines)
        self._log_lines(lines)

    def close(self) -> None:
        """The script closed its stderr: log what it left without a line end."""
        lines: list[str] = []
        self._end_line(lines)
        self._log_lines(lines)

    def _add(self, piece: bytes, lines: list[str]) -> None:
        if not piece:
            return
        if self._skipped >= 0:
            self._skipped += len(piece)
            return
        room = STDERR_LINE_BYTES - self._size
        if len(piece) <= room:
            self._parts.append(piece)
            self._size += len(piece)
            return
        self._parts.append(piece[:room])
        lines.append(f"{self._take()} [cut: no line end in {STDERR_LINE_BYTES} octets]")
        self._skipped = len(piece) - room

    def _end_line(self, lines: list[str]) -> None:
        if self._skipped >= 0:
            lines.append(f"[{self._skipped} octets of that line left out]")
            self._skipped = -1
        elif self._parts:
            line = self._take()
            if line:
                self.last_lines.append(line)
                lines.append(line)

    def _take(self) -> str:
        line = b"".join(self._parts).rstrip().decode("utf-8", "backslashreplace")
        self._parts.clear()
        self._size = 0
        return escaped(line)

    def _log_lines(self, lines: list[str]) -> None:
        if lines:
            self._log.write_lines("warn", [f"stderr: {line}" for line in lines], self._origin)
