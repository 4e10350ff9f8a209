"""How the end of content is known (RFC 9112 6): what the fields of a head say of it, and both ways to use it.

Promise: framing is certain or refused; content goes through as it comes, nothing of it is kept.
Must never know: start-lines, roles, which engine splits the lines. Next: `chunked.py`.
"""

from __future__ import annotations

import enum
import math
from typing import Final, TypeAlias

from protocols import http1_grammar as grammar
from protocols.chunked import ChunkedReader, encode_chunk, encode_last_chunk
from protocols.fields import one_length, tokens
from protocols.http1_head import HeadLimits
from protocols.memory import Memo
from protocols.message import (
    END,
    Content,
    EndOfMessage,
    Event,
    FieldLine,
    FieldLines,
    LocalProtocolError,
    RemoteProtocolError,
)

HOST: Final = 1
LENGTH: Final = 2
CODING: Final = 3
CONNECTION: Final = 4
EXPECT: Final = 5
UPGRADE: Final = 6
DATE: Final = 7
SERVER: Final = 8
_MARKS: Final = {
    b"host": HOST, b"content-length": LENGTH, b"transfer-encoding": CODING,
    b"connection": CONNECTION, b"expect": EXPECT, b"upgrade": UPGRADE, b"date": DATE, b"server": SERVER,
}  # fmt: skip
marks: Final = Memo(lambda name: _MARKS.get(name.lower(), 0))
"""Field name, in any case -> one of the numbers above, 0 for all others."""
_options: Final = Memo(lambda value: frozenset(tokens(value)))
_NO_OPTIONS: frozenset[bytes] = frozenset()


Control: TypeAlias = tuple[bytes | None, bytes | None, frozenset[bytes], list[bytes], bytes | None, bytes | None]
"""What the fields of a head say of the message itself, None or empty where they say nothing:
Content-Length, Transfer-Encoding, members of Connection in lower case, Hosts, Expect, Upgrade."""


def control(fields: list[FieldLine]) -> Control:
    """Find them in one pass. Raises RemoteProtocolError for a repeated Content-Length."""
    length = coding = expect = upgrade = None
    options = _NO_OPTIONS
    hosts: list[bytes] = []
    for name, value in fields:
        mark = marks[name]
        if not mark:
            continue
        if mark == HOST:
            hosts.append(value)
        elif mark == CONNECTION:
            options = options | _options[value] if options else _options[value]
        elif mark == LENGTH:
            # Equal repeats might be taken for one (RFC 9112 6.3); llhttp refuses them, so we do always.
            if length is not None:
                raise RemoteProtocolError("more than one Content-Length")
            length = value
        elif mark == CODING:
            coding = value if coding is None else coding + b", " + value
        elif mark == EXPECT:
            expect = value if expect is None else expect + b", " + value
        elif mark == UPGRADE:
            upgrade = value if upgrade is None else upgrade + b", " + value
    return length, coding, options, hosts, expect, upgrade


def check_coding(coding: bytes, length: bytes | None, version: bytes) -> None:
    """Only `chunked`, alone and once, leaves the framing certain (RFC 9112 6.1, 6.3)."""
    if version == b"HTTP/1.0":
        raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
    if length is not None:
        raise RemoteProtocolError("both Content-Length and Transfer-Encoding")
    if coding.lower() == b"chunked":
        return
    codings = tokens(coding)
    if len(codings) > 1 and codings[-1] == b"chunked" and codings.count(b"chunked") == 1:
        raise RemoteProtocolError(f"the transfer coding {codings[0][:40]!r} is not supported", 501)
    raise RemoteProtocolError(f"Transfer-Encoding is {coding[:40]!r}, not chunked once and last")


def explain_refusal(section: bytes, version: bytes) -> None:
    """Raise what our own rules have against a section that an engine refused, if they have anything."""
    fields = [(name, value.strip(b" \t")) for name, value in grammar.FIELD_PARTS.findall(section)]
    length, coding, *_ = control(fields)
    if coding is not None:
        check_coding(coding, length, version)
    elif length is not None:
        one_length(length)


class ContentReader:
    """Reads content by length, chunked, or until the stream ends."""

    __slots__ = ("_chunks", "_limits", "_remaining", "_until_close")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._chunks: ChunkedReader | None = None
        self._remaining = 0
        self._until_close = False

    def begin(self, length: int | None, *, chunked: bool) -> None:
        """A length above 0; or None, then `chunked` says whether the coding or the stream has the end."""
        self._chunks = ChunkedReader(self._limits.section_bytes, self._limits.count) if chunked else None
        self._until_close = length is None and not chunked
        self._remaining = length or 0

    @property
    def remaining(self) -> float:
        """Octets that have still to come, inf where only the end will tell."""
        return math.inf if self._chunks is not None or self._until_close else self._remaining

    def receive(self, octets: bytes, events: list[Event]) -> bytes | None:
        """Append what `octets` hold of the content; the octets after its end, None before the end."""
        if not octets:
            return None
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
        rest = b""
        if remaining:
            octets, rest = octets[:remaining], octets[remaining:]
        events.append(Content(octets))
        events.append(END)
        return rest

    def received_eof(self) -> None:
        """The stream has ended. Raises RemoteProtocolError unless that is how this content ends."""
        if not self._until_close:
            missing = "the last chunk" if self._chunks is not None else f"{self._remaining} octets of content"
            raise RemoteProtocolError(f"the stream ended before {missing} came")


class Framing(enum.Enum):
    """How content goes out."""

    NONE = "no content"
    LENGTH = "Content-Length"
    CHUNKED = "chunked"
    RAW = "until the connection closes"


_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_RAW: Final = Framing.RAW


class ContentWriter:
    """Puts content into its framing."""

    __slots__ = ("framing", "remaining")

    def __init__(self) -> None:
        self.framing: Framing | None = None
        self.remaining: int | None = None
        """Octets that have still to come, where the length was declared."""

    def begin(self, framing: Framing, length: int | None = None) -> None:
        self.framing = framing
        self.remaining = length

    def content(self, octets: bytes) -> list[bytes]:
        """The pieces to write, in order. Raises LocalProtocolError as `count` does."""
        if self.framing is _CHUNKED:
            return encode_chunk(octets)
        return [octets] if self.count(len(octets)) and octets else []

    def count(self, length: int) -> bool:
        """Account for octets that are written without passing here; False if none may be.

        Raises LocalProtocolError for more than were declared, or where they would need framing.
        """
        framing = self.framing
        if framing is _LENGTH:
            assert self.remaining is not None
            self.remaining -= length
            if self.remaining < 0:
                raise LocalProtocolError(f"{-self.remaining} octets of content more than were declared")
            return True
        if framing is _RAW:
            return True
        if framing is _NONE:
            return False
        what = "content before the head" if framing is None else "content that needs to be put into chunks"
        raise LocalProtocolError(what)

    def end(self, trailers: FieldLines) -> bytes:
        """What has to follow the content; trailers are dropped where the framing has no place for them.

        Raises LocalProtocolError for less content than was declared.
        """
        framing, self.framing = self.framing, None
        if framing is _CHUNKED:
            return encode_last_chunk(trailers)
        if framing is None:
            raise LocalProtocolError("the end of a message before its head")
        if self.remaining:
            raise LocalProtocolError(f"{self.remaining} octets of content less than were declared")
        return b""
