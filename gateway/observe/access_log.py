"""The access log: a line for each exchange, in a known format or in one of the owner's.

Promise: what a client sends stays inside its field; a line costs about 2 us and no system call; a log
that can't be written breaks nothing. Must never know: how the exchange went, beyond its record.
Next: `log_file.py`, where the lines go.

A format becomes a template for `%` on bytes. The time of day is put into the template once a second,
and whether a line holds an octet that must be escaped shows in one pass: the template has a known
number of such octets, and a line has more only if a value brought one.
"""

from __future__ import annotations

import difflib
import json
import operator
import re
import string
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from gateway.observe.log_file import LogFile
from protocols.fields import first
from protocols.message import FieldLines

BUFFER_BYTES = 64 * 1024
"""Lines are written when there is as much, or when `flush` is called."""


class AccessRecord(msgspec.Struct, frozen=True, gc=False):
    """One exchange, when it is over. Times are in seconds; `upstream_s` is NaN if there was no response."""

    remote_addr: bytes
    time: float
    """When it was over, since the epoch."""
    method: bytes
    target: bytes
    version: bytes
    status: int
    octets: int
    """Octets of response content that were sent."""
    fields: FieldLines
    """Of the request."""
    route: str
    interface: str
    upstream: str
    """The address or process that answered, "" for none."""
    upstream_s: float
    """From the start until the head of the response came."""
    total_s: float
    exchange: bytes


Value: TypeAlias = bytes | int


def _field(name: bytes) -> Callable[[AccessRecord], bytes]:
    return lambda record: first(record.fields, name) or b"-"


def _seconds(value: float) -> bytes:
    return b"%.3f" % value if value == value else b"-"


FIELDS: dict[str, tuple[str, Callable[[AccessRecord], Value]]] = {
    "remote_addr": ("the client's address, - for a unix socket", lambda record: record.remote_addr or b"-"),
    "request": (
        "the request line, as the client sent it",
        lambda record: b"%b %b %b" % (record.method, record.target, record.version) if record.method else b"-",
    ),
    "method": ("the method of the request, - if it could not be read", lambda record: record.method or b"-"),
    "target": ("the request-target: path and query", lambda record: record.target or b"-"),
    "version": ("the version of HTTP, HTTP/1.1", operator.attrgetter("version")),
    "status": ("the status of the response", operator.attrgetter("status")),
    "octets": ("octets of content that were sent", operator.attrgetter("octets")),
    "host": ("the field Host of the request", _field(b"host")),
    "referer": ("the field Referer of the request", _field(b"referer")),
    "user_agent": ("the field User-Agent of the request", _field(b"user-agent")),
    "route": ("the path of the route", lambda record: record.route.encode() or b"-"),
    "interface": ("the interface of the route", lambda record: record.interface.encode() or b"-"),
    "upstream": ("who answered: an address or pid:N", lambda record: record.upstream.encode() or b"-"),
    "upstream_s": ("seconds until the response head came, or -", lambda record: _seconds(record.upstream_s)),
    "total_s": ("seconds from the request to the end", lambda record: _seconds(record.total_s)),
    "exchange": ("the exchange id, as in the error log", operator.attrgetter("exchange")),
}
"""Name of a field, what it is, and how it is taken from a record."""

TIMES = {
    "time": "local time, as in the common log format",
    "time_iso": "UTC, as in 2026-11-23T10:00:00Z",
}

NAMED_FORMATS = {
    "common": '{remote_addr} - - [{time}] "{request}" {status} {octets}',
    "combined": '{remote_addr} - - [{time}] "{request}" {status} {octets} "{referer}" "{user_agent}"',
}
_JSON_NUMBERS = ("status", "octets")
_JSON_SECONDS = ("upstream_s", "total_s")

_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_SAFE = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\')
_UNSAFE = re.compile(rb"[^ !#-\[\]-~]")


class FormatError(ValueError):
    """A format string has a mistake. `name` is the field it is about, `nearest` a known one like it."""

    def __init__(self, detail: str, name: str = "", nearest: str = "") -> None:
        super().__init__(detail)
        self.name = name
        self.nearest = nearest


class Format:
    """A format, compiled: `common`, `combined`, `json`, or text with fields like `{status}`.

    `{{` and `}}` stand for braces. Raises FormatError.
    """

    __slots__ = ("_escape", "_getters", "_second", "_template", "_unsafe", "_with_time")

    def __init__(self, text: str) -> None:
        if text == "json":
            pieces = _json_pieces()
            self._escape = _escaped_for_json
        else:
            pieces = _pieces(NAMED_FORMATS.get(text, text))
            self._escape = _escaped
        self._getters: list[Callable[[AccessRecord], Value]] = []
        self._template: list[bytes | str] = []
        for literal, name, wrap in pieces:
            if literal:
                self._template.append(literal.encode("utf-8", "backslashreplace").replace(b"%", b"%%"))
            if name in TIMES:
                self._template.append(name)
            elif name:
                getter = FIELDS[name][1]
                self._getters.append(wrap(getter) if wrap else getter)
                self._template.append(b"%d" if name in _JSON_NUMBERS else b"%b")
        self._template.append(b"\n")
        self._second = -1
        self._with_time = b""
        self._unsafe = 0

    def line(self, record: AccessRecord) -> bytes:
        """The line of a record, its line end included."""
        second = int(record.time)
        if second != self._second:
            self._set_second(second)
        values = tuple([get(record) for get in self._getters])
        line = self._with_time % values
        if len(line.translate(None, _SAFE)) != self._unsafe:
            line = self._with_time % tuple(
                [self._escape(value) if isinstance(value, bytes) else value for value in values]
            )
        return line

    def _set_second(self, second: int) -> None:
        self._second = second
        parts = [part if isinstance(part, bytes) else _TIME_MAKERS[part](second) for part in self._template]
        self._with_time = b"".join(parts)
        self._unsafe = len(self._with_time.translate(None, _SAFE))


def _common_time(second: int) -> bytes:
    # Not strftime: its names of months depend on the locale.
    local = time.localtime(second)
    zone = time.strftime("%z", local).encode()
    clock = (local.tm_hour, local.tm_min, local.tm_sec)
    return b"%02d/%b/%d:%02d:%02d:%02d %b" % (
        local.tm_mday,
        _MONTHS[local.tm_mon - 1],
        local.tm_year,
        *clock,
        zone,
    )


def _iso_time(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)).encode()


_TIME_MAKERS = {"time": _common_time, "time_iso": _iso_time}

_Getter: TypeAlias = Callable[[AccessRecord], Value]
_Piece: TypeAlias = tuple[str, str, Callable[[_Getter], _Getter] | None]
"""Literal text, the name of the field after it ("" for none), and what is done to its getter."""


def _pieces(text: str) -> list[_Piece]:
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise FormatError(f"{error}; write {{{{ or }}}} for a brace") from None
    pieces: list[_Piece] = []
    for literal, name, spec, conversion in parsed:
        if any(character < " " for character in literal):
            raise FormatError("a log line can have no line end or control character in its format")
        if name is not None:
            _check_name(name)
            if spec or conversion:
                raise FormatError(f"{{{name}}} takes nothing after its name", name)
        pieces.append((literal, name or "", None))
    if not any(name for _, name, _ in pieces):
        raise FormatError(
            "a format is common, combined, json, or text with fields like {status}: " + ", ".join([*TIMES, *FIELDS])
        )
    return pieces


def _check_name(name: str) -> None:
    known = [*TIMES, *FIELDS]
    if name in known:
        return
    nearest = "".join(difflib.get_close_matches(name, known, 1))
    hint = f"; did you mean {{{nearest}}}?" if nearest else ""
    raise FormatError(f"unknown field {{{name}}}{hint} Known: {', '.join(known)}", name, nearest)


def _json_pieces() -> list[_Piece]:
    pieces: list[_Piece] = [('{"time":"', "time_iso", None)]
    quote = '"'
    for name in FIELDS:
        if name == "request":
            continue  # its parts are there
        if name in _JSON_NUMBERS:
            pieces.append((f'{quote},"{name}":', name, None))
            quote = ""
        elif name in _JSON_SECONDS:
            pieces.append((f'{quote},"{name}":', name, _null_for_none))
            quote = ""
        else:
            pieces.append((f'{quote},"{name}":"', name, None))
            quote = '"'
    pieces.append((quote + "}", "", None))
    return pieces


def _null_for_none(getter: _Getter) -> _Getter:
    def get(record: AccessRecord) -> Value:
        value = getter(record)
        return b"null" if value == b"-" else value

    return get


def _escaped(value: bytes) -> bytes:
    r"""As other servers do: an octet that is not visible ASCII, a quote or backslash becomes \xHH."""
    return _UNSAFE.sub(lambda match: b"\\x%02X" % match[0][0], value)


def _escaped_for_json(value: bytes) -> bytes:
    """What stands between the quotes of a JSON string; octets that are not UTF-8 become backslash, xhh."""
    return json.dumps(value.decode("utf-8", "backslashreplace"))[1:-1].encode()


class AccessLog:
    """Writes lines to `target`: "-" for stdout, "syslog", or a path; None for no log at all.

    `report` takes level and text when the log can't be written, once for each time that it begins.
    Raises FormatError, and OSError if the file cannot be opened.
    """

    __slots__ = ("_failing", "_file", "_format", "_line", "_lines", "_report", "_size")

    def __init__(
        self, target: str | None, format: str = "combined", report: Callable[[str, str], Any] | None = None
    ) -> None:
        self._format = format
        self._line = Format(format).line
        self._file = None if target is None else LogFile(target, 1)
        self._report = report
        self._lines: list[bytes] = []
        self._size = 0
        self._failing = False

    def is_like(self, target: str, format: str) -> bool:
        """Whether another one with these would write the same to the same file."""
        return self._file is not None and self._file.target == target and self._format == format

    def copy(self) -> AccessLog:
        """The same log for another engine, which has its own lines, and writes them whole; reopened with this one."""
        copy = AccessLog(None, self._format, self._report)
        if self._file is not None:
            copy._file = self._file.copy()
        return copy

    def log(self, record: AccessRecord) -> None:
        """Note the line of an exchange; it is written later."""
        if self._file is None:
            return
        line = self._line(record)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is noted; to be called about once a second."""
        if self._file is None or not self._lines:
            return
        lost_before = self._file.lost_lines
        error = self._file.write(self._lines)
        self._lines.clear()
        self._size = 0
        if error is None:
            if self._failing:
                self._tell("warn", f"is written again; {lost_before} lines were lost")
            self._failing = False
        elif not self._failing:
            self._failing = True
            self._tell("error", f"cannot be written ({error.strerror}); requests go on, their lines are lost")

    def give_to(self, uid: int, gid: int) -> None:
        """Make the file that of the user who will have to open it again."""
        if self._file is not None:
            self._file.give_to(uid, gid)

    def reopen(self) -> None:
        """After the file was renamed (logrotate): what is noted still goes to the old one."""
        if self._file is None:
            return
        self.flush()
        error = self._file.reopen()
        if error is not None:
            self._tell("error", f"cannot be opened again ({error.strerror}); the old file stays in use")

    def close(self) -> None:
        if self._file is not None:
            self.flush()
            self._file.close()

    def _tell(self, level: str, text: str) -> None:
        if self._report is not None and self._file is not None:
            self._report(level, f"access log {self._file.target} {text}")
