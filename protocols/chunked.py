"""The chunked transfer coding (RFC 9112 7.1), both directions; HTTP and CGI-like responses use it.

Promise: content comes out as it arrives; time is linear, and what is kept is bounded, however many
and however small the chunks are.
Must never know: whose message it is, heads, limits on content. Next: `http1.py`.
"""

from __future__ import annotations

import enum
from typing import Final

from protocols import http1_grammar as grammar
from protocols.fields import lower
from protocols.message import FieldLine, FieldLines, LocalProtocolError, RemoteProtocolError

CHUNK_LINE_BYTES: Final = 512
"""A line with a chunk's size and extensions is no longer than this."""
EXTENSION_BYTES: Final = 16 * 1024
"""All chunk extensions of one message together are no longer than this (RFC 9112 7.1.1)."""
JOIN_BYTES: Final = 4096
"""Content shorter than this is copied into one piece with its framing."""

_NOT_IN_TRAILERS: Final = (b"content-length", b"transfer-encoding")


class _Part(enum.Enum):
    LINE = "chunk-size line"
    CONTENT = "content of a chunk"
    AFTER = "line end after a chunk"
    TRAILERS = "trailer section"
    END = "end"


class ChunkedReader:
    """Reads one content. After a RemoteProtocolError it is of no further use."""

    __slots__ = (
        "trailers",
        "_count",
        "_extension_bytes",
        "_part",
        "_remaining",
        "_scanned",
        "_section",
        "_section_bytes",
        "_tail",
    )

    def __init__(self, section_bytes: int = 32 * 1024, count: int = 100) -> None:
        """The trailer section may have `section_bytes` octets and `count` lines."""
        self.trailers: FieldLines = ()
        """The trailer section, once the end has come."""
        self._section_bytes = section_bytes
        self._count = count
        self._part = _Part.LINE
        self._remaining = 0
        self._extension_bytes = 0
        self._tail = b""
        self._section = bytearray()
        self._scanned = 0

    def receive(self, octets: bytes) -> tuple[list[bytes], bool, bytes]:
        """(pieces of content, whether the end has come, the octets after it).

        Raises RemoteProtocolError: 400 for wrong framing, 431 for trailers above the limits.
        """
        if self._tail:
            octets = self._tail + octets
            self._tail = b""
        pieces: list[bytes] = []
        position, size = 0, len(octets)
        part = self._part
        while position < size:
            if part is _Part.LINE:
                match = grammar.CHUNK_LINE.match(octets, position)
                if match is None:
                    self._keep_line(octets[position : position + CHUNK_LINE_BYTES + 1])
                    break
                digits, extension = match.groups()
                if extension:
                    self._count_extension(match.end() - position, extension)
                position = match.end()
                self._remaining = int(digits, 16)
                part = _Part.CONTENT if self._remaining else _Part.TRAILERS
            elif part is _Part.CONTENT:
                stop = position + self._remaining
                if stop > size:
                    pieces.append(octets[position:])
                    self._remaining = stop - size
                    break
                pieces.append(octets[position:stop])
                position = stop
                part = _Part.AFTER
            elif part is _Part.AFTER:
                if octets.startswith(b"\r\n", position):
                    position += 2
                    part = _Part.LINE
                elif octets[position:] == b"\r":
                    self._tail = b"\r"
                    break
                else:
                    raise RemoteProtocolError(f"{octets[position : position + 2]!r} where a chunk has to end")
            elif part is _Part.TRAILERS:
                self._part = part
                rest = self._trailers(octets[position:])
                return pieces, rest is not None, rest or b""
            else:
                return pieces, True, octets[position:]
        self._part = part
        return pieces, part is _Part.END, b""

    def _keep_line(self, begun: bytes) -> None:
        """Keep the beginning of a chunk-size line until the rest of it is here."""
        if len(begun) > CHUNK_LINE_BYTES:
            raise RemoteProtocolError(f"a chunk-size line is longer than {CHUNK_LINE_BYTES} octets")
        if not grammar.CHUNK_LINE_BEGUN.fullmatch(begun):
            raise RemoteProtocolError(f"malformed chunk-size line: {begun[:40]!r}")
        self._tail = begun

    def _count_extension(self, line_bytes: int, extension: bytes) -> None:
        if line_bytes > CHUNK_LINE_BYTES:
            raise RemoteProtocolError(f"a chunk-size line is longer than {CHUNK_LINE_BYTES} octets")
        self._extension_bytes += len(extension)
        if self._extension_bytes > EXTENSION_BYTES:
            raise RemoteProtocolError(f"more than {EXTENSION_BYTES} octets of chunk extensions")

    def _trailers(self, octets: bytes) -> bytes | None:
        """Collect the trailer section; the octets after it, None while it is not whole."""
        section = self._section
        section += octets
        if section.startswith(b"\r\n"):  # nearly always: there are no trailers
            stop = 2
        else:
            end = section.find(b"\r\n\r\n", max(0, self._scanned - 3))
            # the empty line is not part of the section, and of it one octet may be here already
            if (end + 2 if end >= 0 else len(section) - 1) > self._section_bytes:
                raise RemoteProtocolError(f"more than {self._section_bytes} octets of trailers", 431)
            if end < 0:
                if bad := grammar.NEVER_IN_HEAD.search(section, max(0, self._scanned - 1)):
                    raise RemoteProtocolError(f"the trailer section has {bad[0]!r} in it")
                self._scanned = len(section)
                return None
            stop = end + 4
            self.trailers = self._parse(bytes(section[:stop]))
        self._part = _Part.END
        rest = bytes(section[stop:])
        section.clear()
        return rest

    def _parse(self, section: bytes) -> list[FieldLine]:
        if section.count(b"\r\n") - 1 > self._count:
            raise RemoteProtocolError(f"more than {self._count} trailer lines", 431)
        if not grammar.TRAILER_SECTION.fullmatch(section):
            raise RemoteProtocolError("the trailer section is malformed")
        trailers = [(name, value.strip(b" \t")) for name, value in grammar.FIELD_PARTS.findall(section)]
        for name, _ in trailers:
            if lower(name) in _NOT_IN_TRAILERS:  # RFC 9110 6.5.1: framing can't come after the content
                raise RemoteProtocolError(f"{name.decode()} in the trailer section")
        return trailers


def encode_chunk(octets: bytes) -> list[bytes]:
    """One chunk, ready to be written; nothing for no octets, which would be the last chunk."""
    size = len(octets)
    if size >= JOIN_BYTES:
        return [b"%x\r\n" % size, octets, b"\r\n"]
    return [b"%x\r\n%b\r\n" % (size, octets)] if size else []


def encode_last_chunk(trailers: FieldLines = ()) -> bytes:
    """The last chunk and the trailer section. Raises LocalProtocolError for lines that are none."""
    if not trailers:
        return b"0\r\n\r\n"
    section = b"".join([b"%b: %b\r\n" % line for line in trailers]) + b"\r\n"
    if not grammar.TRAILER_SECTION.fullmatch(section) or section.count(b"\n") != len(trailers) + 1:
        raise LocalProtocolError("a trailer line that would break the section")
    return b"0\r\n" + section
