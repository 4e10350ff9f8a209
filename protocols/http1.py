"""HTTP/1.1 messages (RFC 9112): readers and writers for both roles, the server's and the client's.

Promise: framing is certain or the message is refused; every limit holds before memory is spent;
work is linear in the octets; however a stream is cut, its events are the same.
Must never know: sockets, clocks, routes, what becomes of a message, which engine splits its lines.
Next: `http1_grammar.py` for the patterns, `chunked.py` for the coding, `gateway/fronts/http1.py` for the user.
"""

from __future__ import annotations

import enum
import re
from http import HTTPStatus
from typing import NoReturn

from protocols import http1_grammar as grammar
from protocols.chunked import ChunkedReader, HeadLimits, encode_chunk, encode_last_chunk
from protocols.fields import Memo, one_length, tokens
from protocols.http1_tokeniser import Tokeniser, tokeniser
from protocols.message import (
    END,
    Content,
    Event,
    FieldLine,
    FieldLines,
    LocalProtocolError,
    RemoteProtocolError,
    Request,
    Response,
)

__all__ = [
    "ChunkedReader",
    "HeadLimits",
    "Reading",
    "RequestReader",
    "RequestWriter",
    "ResponseReader",
    "ResponseWriter",
    "Tokeniser",
    "tokeniser",
]

EMPTY_LINES = 2
"""So many empty lines before a request-line are skipped (RFC 9112 2.2)."""


class Reading(enum.Enum):
    """Where a reader is."""

    HEAD = "head"  # waiting for a head, or inside one
    CONTENT = "content"
    DONE = "done"  # the message is complete, or none is awaited yet
    BROKEN = "broken"  # a rule was broken: nothing further on this stream can be believed


# ---------------------------------------------------------------------- what both readers share


class _HeadBuffer:
    """The octets of a head that did not arrive whole; refuses early what can never become a head."""

    __slots__ = ("arrived", "start_line_bytes", "_empty_lines", "_limits", "_scanned", "_start_line", "_too_long")

    def __init__(self, limits: HeadLimits, start_line: re.Pattern[bytes], empty_lines: int, too_long: int) -> None:
        self.arrived = bytearray()
        self.start_line_bytes = 0
        """Octets of the start-line and its CRLF, once they are here."""
        self._limits = limits
        self._start_line = start_line
        self._empty_lines = empty_lines
        self._scanned = 0
        self._too_long = too_long

    def add(self, octets: bytes) -> bytes | None:
        """All octets from the first of the head on, if its end is among them; else None."""
        arrived = self.arrived
        arrived += octets
        while self._empty_lines and arrived.startswith(b"\r\n"):
            del arrived[:2]
            self._empty_lines -= 1
        if arrived.find(b"\r\n\r\n", max(0, self._scanned - 3)) >= 0:
            return bytes(arrived)
        self._check()
        self._scanned = len(arrived)
        return None

    def restart(self, empty_lines: int = 0) -> None:
        self.arrived.clear()
        self.start_line_bytes = self._scanned = 0
        self._empty_lines = empty_lines

    def _check(self) -> None:
        arrived, limits = self.arrived, self._limits
        before = max(0, self._scanned - 1)
        if bad := grammar.NEVER_IN_HEAD.search(arrived, before):
            raise RemoteProtocolError(f"the head has {bad[0]!r} in it, a bare or a control character")
        if not self.start_line_bytes:
            line_bytes = arrived.find(b"\r\n", before)
            if (line_bytes if line_bytes >= 0 else len(arrived) - 1) > limits.start_line_bytes:
                _refuse_start_line_length(limits, self._too_long)
            if line_bytes < 0:
                return
            if not self._start_line.fullmatch(arrived, 0, line_bytes + 2):
                _refuse_start_line(bytes(arrived[: line_bytes + 2]))
            self.start_line_bytes = line_bytes + 2
        if len(arrived) - self.start_line_bytes > limits.section_bytes + 1:
            _refuse_section_length(limits)


def _match_head(
    head: re.Pattern[bytes], start_line: re.Pattern[bytes], octets: bytes, end: int, limits: HeadLimits, too_long: int
) -> re.Match[bytes]:
    """Match the head whose empty line is at `end` + 2, limits first."""
    line_end = octets.find(b"\r\n")
    if line_end > limits.start_line_bytes:
        _refuse_start_line_length(limits, too_long)
    if end - line_end > limits.section_bytes:
        _refuse_section_length(limits)
    if octets.count(b"\r\n", line_end + 2, end + 2) > limits.count:
        raise RemoteProtocolError(f"more than {limits.count} field lines", 431)
    match = head.fullmatch(octets, 0, end + 4)
    if match is not None:
        return match
    if not start_line.fullmatch(octets, 0, line_end + 2):
        _refuse_start_line(octets[: line_end + 2])
    for number, line in enumerate(octets[line_end + 2 : end + 2].splitlines(keepends=True), 1):
        if not grammar.FIELD_LINE.fullmatch(line):
            raise RemoteProtocolError(f"field line {number} is malformed: {line[:60]!r}")
    raise RemoteProtocolError("the head is malformed")


def _refuse_start_line_length(limits: HeadLimits, status: int) -> NoReturn:
    raise RemoteProtocolError(f"the start-line is longer than {limits.start_line_bytes} octets", status)


def _refuse_section_length(limits: HeadLimits) -> NoReturn:
    raise RemoteProtocolError(f"the header section is longer than {limits.section_bytes} octets", 431)


def _refuse_start_line(line: bytes) -> NoReturn:
    other = grammar.OTHER_VERSION.fullmatch(line)
    if other and other[1] != b"0":
        raise RemoteProtocolError(f"HTTP/{other[1].decode()} is not spoken here, HTTP/1.1 is", 505)
    raise RemoteProtocolError(f"malformed start-line: {line[:60]!r}")


class _ContentReader:
    """Content by its framing (RFC 9112 6.3): by length, chunked, or until the stream ends."""

    __slots__ = ("_chunks", "_limits", "_remaining", "_until_close")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._chunks: ChunkedReader | None = None
        self._remaining = 0
        self._until_close = False

    def begin(self, length: int | None, *, chunked: bool) -> None:
        self._chunks = ChunkedReader(self._limits) if chunked else None
        self._until_close = length is None and not chunked
        self._remaining = length or 0

    def receive(self, octets: bytes, events: list[Event]) -> bytes | None:
        """Append what `octets` hold of the content; returns what follows its end, None before the end."""
        if self._chunks is not None:
            pieces, end, rest = self._chunks.receive(octets)
            if pieces:
                events.append(Content(pieces[0] if len(pieces) == 1 else b"".join(pieces)))
            if not end:
                return None
            trailers = self._chunks.trailers
            events.append(EndOfMessage(trailers) if trailers else END)
            return rest
        remaining = self._remaining - len(octets)
        if remaining > 0 or self._until_close:
            events.append(Content(octets))
            self._remaining = remaining
            return None
        if remaining == 0:
            events += (Content(octets), END)
            return b""
        events += (Content(octets[:remaining]), END)
        return octets[remaining:]

    def finish(self) -> None:
        """The stream has ended: raises RemoteProtocolError unless that is how this content ends."""
        if not self._until_close:
            missing = "its last chunk" if self._chunks is not None else f"{self._remaining} octets of content"
            raise RemoteProtocolError(f"the stream ended before {missing} came")


_HOST, _LENGTH, _CODING, _CONNECTION, _EXPECT, _UPGRADE = range(1, 7)
_MARKS = {
    b"host": _HOST, b"content-length": _LENGTH, b"transfer-encoding": _CODING,
    b"connection": _CONNECTION, b"expect": _EXPECT, b"upgrade": _UPGRADE,
}  # fmt: skip
_marks = Memo(lambda name: _MARKS.get(name.lower(), 0))
_hosts = Memo(lambda value: grammar.HOST.fullmatch(value) is not None)
_options = Memo(lambda value: frozenset(tokens(value)))
_NO_OPTIONS: frozenset[bytes] = frozenset()


class _Framing:
    """What the fields of one head say of its message (RFC 9112 6 and 9)."""

    __slots__ = ("chunked", "coding", "expect", "host", "length", "options", "upgrade")

    def __init__(self, fields: list[FieldLine], version: bytes, *, request: bool) -> None:
        host = length = coding = expect = upgrade = None
        options = _NO_OPTIONS
        for name, value in fields:
            mark = _marks[name]
            if not mark:
                continue
            if mark == _CONNECTION:
                options = options | _options[value] if options else _options[value]
            elif mark == _HOST:
                if host is not None and request:
                    raise RemoteProtocolError("more than one Host")
                host = value
            elif mark == _LENGTH:
                if length is not None:
                    raise RemoteProtocolError("more than one Content-Length")
                length = value
            elif mark == _CODING:
                coding = value if coding is None else coding + b", " + value
            elif mark == _EXPECT:
                expect = value if expect is None else expect + b", " + value
            else:
                upgrade = value if upgrade is None else upgrade + b", " + value
        self.host = host
        self.options = options
        self.expect = expect
        self.upgrade = upgrade
        self.coding = coding
        self.chunked = coding is not None
        self.length: int | None = None if length is None else one_length(length)
        """As Content-Length says; None if there is none."""
        if coding is not None:
            _check_coding(coding, version, length is not None)


def _check_coding(coding: bytes, version: bytes, with_length: bool) -> None:
    """Only `chunked`, alone and once, leaves the framing certain (RFC 9112 6.1, 6.3)."""
    if version == b"HTTP/1.0":
        raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
    if with_length:
        raise RemoteProtocolError("both Content-Length and Transfer-Encoding")
    if coding.lower() == b"chunked":
        return
    codings = tokens(coding)
    if len(codings) > 1 and codings[-1] == b"chunked" and codings.count(b"chunked") == 1:
        raise RemoteProtocolError(f"the transfer coding {codings[0][:40]!r} is not supported", 501)
    raise RemoteProtocolError(f"Transfer-Encoding is {coding[:40]!r}, not chunked once and last")
