"""Where a head ends, and whether it is one: limits first, then the grammar, whoever sends it.

Promise: what can never become a head is refused as soon as that is certain, with the line that is
wrong; memory is bounded by the limits and one receive; no octet is searched twice.
Must never know: what fields mean, framing, which engine splits them. Next: `http1.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from protocols import http1_grammar as grammar
from protocols.message import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """What one head may cost. The defaults are those of the config file."""

    start_line_bytes: int = 8 * 1024
    section_bytes: int = 32 * 1024
    """The header section, and each trailer section, with their line ends."""
    count: int = 100
    """Field lines in a section."""


@dataclass(frozen=True, slots=True)
class HeadShape:
    """The two kinds of heads."""

    head: re.Pattern[bytes]
    start_line: re.Pattern[bytes]
    too_long: int
    """Status for a start-line above its limit."""
    empty_lines: int
    """So many empty lines are skipped before it."""


REQUEST: Final = HeadShape(grammar.REQUEST_HEAD, grammar.REQUEST_LINE, 414, empty_lines=2)  # RFC 9112 2.2
RESPONSE: Final = HeadShape(grammar.RESPONSE_HEAD, grammar.STATUS_LINE, 431, empty_lines=0)


class HeadBuffer:
    """Takes a head out of what arrives, and keeps what did not arrive whole."""

    __slots__ = ("arrived", "_empty_lines", "_limits", "_match", "_scanned", "_section_from", "_shape")

    def __init__(self, shape: HeadShape, limits: HeadLimits) -> None:
        self.arrived = bytearray()
        """Octets that are kept, here only until the head is whole."""
        self._shape = shape
        self._limits = limits
        self._match = shape.head.match
        self._empty_lines = shape.empty_lines
        self._scanned = 0
        self._section_from = 0

    def restart(self) -> None:
        """Forget everything: the next head begins."""
        self.arrived.clear()
        self._empty_lines = self._shape.empty_lines
        self._scanned = self._section_from = 0

    def take(self, octets: bytes) -> re.Match[bytes] | None:
        """The head, once it is whole: the groups are the parts of its start-line, then its section.

        What follows it is `match.string[match.end():]`. Raises RemoteProtocolError: 400, 414, 431, 505.
        """
        if not self.arrived:
            match = self._match(octets)
            if match is not None:
                start, stop = match.span(4)
                limits = self._limits
                if start - 2 > limits.start_line_bytes:
                    self._refuse_long_start_line()
                if stop - start > limits.section_bytes:
                    self._refuse_long_section()
                if octets.count(b"\r", start, stop) > limits.count:
                    self._refuse_count()
                return match
        return self._take_slowly(octets)

    def _take_slowly(self, octets: bytes) -> re.Match[bytes] | None:
        """For what is not whole yet, begins with an empty line, or is to be refused with a reason."""
        arrived = self.arrived
        arrived += octets
        while self._empty_lines and arrived.startswith(b"\r\n"):
            del arrived[:2]
            self._empty_lines -= 1
        end = arrived.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0:
            self._check_partial()
            self._scanned = len(arrived)
            return None
        whole = bytes(arrived)
        self.restart()
        line_end = whole.find(b"\r\n")
        if line_end > self._limits.start_line_bytes:
            self._refuse_long_start_line()
        if end - line_end > self._limits.section_bytes:
            self._refuse_long_section()
        if whole.count(b"\r\n", line_end + 2, end + 2) > self._limits.count:
            self._refuse_count()
        match = self._match(whole)
        if match is None:
            section = grammar.TRAILING_SPACE.sub(b"\r\n", whole[line_end + 2 : end + 2])
            match = self._match(whole[: line_end + 2] + section + whole[end + 2 :])
        if match is None:
            lines = whole[line_end + 2 : end].split(b"\r\n") if line_end < end else []
            self._explain(whole[: line_end + 2], lines)
        return match

    def _check_partial(self) -> None:
        """Refuse what no octets to come can make a head."""
        arrived, limits = self.arrived, self._limits
        before = max(0, self._scanned - 1)
        if bad := grammar.NEVER_IN_HEAD.search(arrived, before):
            raise RemoteProtocolError(f"{bad[0]!r} in a head: a control character, or half a line end")
        if not self._section_from:
            end = arrived.find(b"\r\n", before)
            # the last octet may be the CR of the line end
            if (end if end >= 0 else len(arrived) - 1) > limits.start_line_bytes:
                self._refuse_long_start_line()
            if end < 0:
                return
            if not self._shape.start_line.fullmatch(arrived, 0, end + 2):
                _refuse_start_line(bytes(arrived[: end + 2]))
            self._section_from = end + 2
        if len(arrived) - 1 - self._section_from > limits.section_bytes:
            self._refuse_long_section()

    def _explain(self, start_line: bytes, lines: list[bytes]) -> NoReturn:
        if not self._shape.start_line.fullmatch(start_line):
            _refuse_start_line(start_line)
        for number, line in enumerate(lines, 1):
            if not grammar.FIELD_LINE.fullmatch(line + b"\r\n"):
                raise RemoteProtocolError(f"field line {number} is malformed: {line[:60]!r}")
        raise RemoteProtocolError("the head is malformed")

    def _refuse_long_start_line(self) -> NoReturn:
        detail = f"the start-line is longer than {self._limits.start_line_bytes} octets"
        raise RemoteProtocolError(detail, self._shape.too_long)

    def _refuse_long_section(self) -> NoReturn:
        raise RemoteProtocolError(f"more than {self._limits.section_bytes} octets of field lines", 431)

    def _refuse_count(self) -> NoReturn:
        raise RemoteProtocolError(f"more than {self._limits.count} field lines", 431)


def _refuse_start_line(line: bytes) -> NoReturn:
    other = grammar.OTHER_VERSION.fullmatch(line)
    if other and other[1] != b"0":
        raise RemoteProtocolError(f"HTTP/{other[1].decode()} is not spoken here: HTTP/1.1 is", 505)
    raise RemoteProtocolError(f"the start-line is malformed: {line[:60]!r}")
