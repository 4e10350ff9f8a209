"""Writing HTTP/1.1 messages (RFC 9112), both roles: responses to a client, requests to an origin server.

Promise: what is written can be framed in one way only; nothing that came from elsewhere breaks a line.
Must never know: sockets, routes, where the fields came from. Next: `http1.py`, the other direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols import http1_grammar as grammar
from protocols.http1_framing import CODING, CONNECTION, DATE, LENGTH, SERVER, ContentWriter, Framing, marks
from protocols.message import FieldLine, FieldLines, LocalProtocolError, Response
from protocols.status import REASONS

_STATUS_LINES: Final = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in REASONS.items()}
_WITH_CONTENT: Final = frozenset((b"POST", b"PUT", b"PATCH"))


def _status_line(response: Response) -> bytes:
    status = response.status
    if not response.reason:
        known = _STATUS_LINES.get(status)
        if known is not None:
            return known
    if not 100 <= status <= 999:
        raise LocalProtocolError(f"{status} is no status")
    if grammar.NOT_IN_REASON.search(response.reason):
        raise LocalProtocolError("CR, LF or NUL inside a reason phrase")
    return b"HTTP/1.1 %d %b\r\n" % (status, response.reason)


@dataclass(frozen=True, slots=True)
class _Block:
    """The status-line and field lines of a response in one piece, those that frame its content apart."""

    status: int
    length: int | None
    """Of the response that it was made of."""
    octets: bytes
    """Each line with its CRLF."""
    declared: bytes | None
    """The value of Content-Length."""
    connection: bool
    dated: bool
    named: bool
    """Whether Connection, Date and Server are there."""
    with_length: bytes
    """`octets` and the line Content-Length, where the length is known and all agrees; else nothing."""


def encode_lines(fields: FieldLines) -> bytes:
    """Field lines, each with its CRLF. Raises LocalProtocolError if one has a line end or NUL in it."""
    octets = b"".join([b"%b: %b\r\n" % line for line in fields])
    count = len(fields)
    if octets.count(b"\n") != count or octets.count(b"\r") != count or b"\0" in octets:
        raise LocalProtocolError("CR, LF or NUL inside a line of a head")
    return octets


_BLOCK: Final = "block"


def _block(response: Response) -> _Block:
    derived = response.derived
    if derived is not None:
        known: _Block | None = derived.get(_BLOCK)
        if known is not None and known.length == response.length and known.status == response.status:
            return known
    declared: bytes | None = None
    connection = dated = named = False
    lines: list[FieldLine] = []
    for line in response.fields:
        mark = marks[line[0]]
        if mark == LENGTH:
            if declared is not None:
                raise LocalProtocolError("more than one Content-Length")
            declared = line[1]
            continue
        if mark == CODING:
            raise LocalProtocolError("Transfer-Encoding among the fields of a response")
        if mark == CONNECTION:
            connection = True
        elif mark == DATE:
            dated = True
        elif mark == SERVER:
            named = True
        lines.append(line)
    octets = _status_line(response) + encode_lines(lines)
    status, length = response.status, response.length
    with_length = b""
    if length is not None and not connection and status not in (101, 204, 304):
        if declared is None or (declared.isdigit() and int(declared) == length):
            with_length = octets + b"Content-Length: %d\r\n" % length
    block = _Block(status, length, octets, declared, connection, dated, named, with_length)
    if derived is not None:
        derived[_BLOCK] = block
    return block


class ResponseWriter:
    """One response to a client, and the interim ones before it."""

    __slots__ = ("close_delimited", "keep_alive", "_content", "_modern", "_to_head")

    def __init__(self, request_method: bytes, request_version: bytes, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        """Whether the connection persists; may be made False until `head`, and is certain after it."""
        self.close_delimited = False
        """Whether only the end of the connection tells the end of the content."""
        self._to_head = request_method == b"HEAD"
        self._modern = request_version != b"HTTP/1.0"
        self._content = ContentWriter()

    @property
    def remaining(self) -> int | None:
        """Octets of content that have still to come, None where no length was declared."""
        return self._content.remaining

    def interim(self, response: Response) -> bytes:
        """A 1xx that is no 101: nothing for clients of HTTP/1.0 (RFC 9110 15.2)."""
        if not self._modern:
            return b""
        fields = [line for line in response.fields if marks[line[0]] not in (LENGTH, CODING)]
        return _status_line(response) + encode_lines(fields) + b"\r\n"

    def head(self, response: Response, date: bytes = b"", server: bytes = b"") -> bytes:
        """The head; framing and Connection are decided here (RFC 9112 6, 9.3).

        `date` and `server` are whole lines, for where the response has none (RFC 9110 6.6.1, 10.2.4).
        A Content-Length among the fields stays where there is no content to frame (HEAD, 304), goes
        where it may not be (204), and has to agree with `response.length` everywhere else. After 101
        content passes as it is. Raises LocalProtocolError for fields that contradict the framing.
        """
        status, length = response.status, response.length
        block = _block(response)
        if block.dated:
            date = b""
        if block.named:
            server = b""
        if block.with_length and self._modern and self.keep_alive and not self._to_head:  # nearly all of them
            self._content.begin(Framing.LENGTH, length)
            return b"%b%b%b\r\n" % (block.with_length, date, server)
        declared = block.declared
        octets = block.octets + date + server
        if status == 101:
            self._content.begin(Framing.RAW)
            self.close_delimited = True
            self.keep_alive = False
            return octets + b"\r\n"
        if block.connection:
            raise LocalProtocolError("Connection among the fields of a response")
        if self._to_head or status == 204 or status == 304:
            self._content.begin(Framing.NONE)
            if status != 204 and declared is not None:
                octets += b"Content-Length: %b\r\n" % declared
            elif length and status != 204 and status != 304:
                octets += b"Content-Length: %d\r\n" % length
        elif length is not None:
            self._content.begin(Framing.LENGTH, length)
            if declared is not None and (not declared.isdigit() or int(declared) != length):
                raise LocalProtocolError(f"Content-Length is {declared[:40]!r}, the length {length}")
            octets += b"Content-Length: %d\r\n" % length
        elif declared is not None:
            raise LocalProtocolError("Content-Length for content of unknown length")
        elif self._modern:
            self._content.begin(Framing.CHUNKED)
            octets += b"Transfer-Encoding: chunked\r\n"
        else:
            self._content.begin(Framing.RAW)
            self.close_delimited = True
            self.keep_alive = False
        if not self.keep_alive:
            return octets + b"Connection: close\r\n\r\n"
        if not self._modern:
            return octets + b"Connection: keep-alive\r\n\r\n"
        return octets + b"\r\n"

    def content(self, octets: bytes) -> list[bytes]:
        """Pieces to write, none where the response has no content (HEAD, 204, 304).

        Raises LocalProtocolError for more octets than were declared.
        """
        return self._content.content(octets)

    def count(self, length: int) -> bool:
        """Whether `length` octets of content may be written without passing through here.

        Raises LocalProtocolError for more than were declared, and for chunked content.
        """
        return self._content.count(length)

    def end(self, trailers: FieldLines = ()) -> bytes:
        """What follows the content, perhaps nothing. Raises LocalProtocolError if content is missing."""
        return self._content.end(trailers)


class RequestWriter:
    """Requests to an origin server, one after another."""

    __slots__ = ("_content",)

    def __init__(self) -> None:
        self._content = ContentWriter()

    @property
    def remaining(self) -> int | None:
        """Octets of content that have still to come, None where no length was declared."""
        return self._content.remaining

    def head(self, method: bytes, target: bytes, fields: FieldLines, length: int | None) -> bytes:
        """The head for `length` octets of content, None for chunked. `fields` have neither framing field.

        Raises LocalProtocolError for fields, a method or a target that would break the message.
        """
        for name, _ in fields:
            if marks[name] in (LENGTH, CODING):
                raise LocalProtocolError(f"{name.decode('latin-1')} among the fields of a request")
        if not grammar.REQUEST_LINE.fullmatch(b"%b %b HTTP/1.1\r\n" % (method, target)):
            raise LocalProtocolError(f"no request-line: {method[:20]!r} {target[:60]!r}")
        return self.head_of(method, target, encode_lines(fields), length)

    def head_of(self, method: bytes, target: bytes, lines: bytes, length: int | None) -> bytes:
        """The same from parts that are known to be right: a method and target that a reader let through,
        and lines that `encode_lines` made, with no framing field among them."""
        start = b"%b %b HTTP/1.1\r\n" % (method, target)
        if length is None:
            self._content.begin(Framing.CHUNKED)
            return start + lines + b"Transfer-Encoding: chunked\r\n\r\n"
        self._content.begin(Framing.LENGTH, length)
        if length or method in _WITH_CONTENT:  # RFC 9110 8.6
            return start + lines + b"Content-Length: %d\r\n\r\n" % length
        return start + lines + b"\r\n"

    def content(self, octets: bytes) -> list[bytes]:
        """Pieces to write. Raises LocalProtocolError for more octets than were declared."""
        return self._content.content(octets)

    def end(self, trailers: FieldLines = ()) -> bytes:
        """What follows the content, perhaps nothing. Raises LocalProtocolError if content is missing."""
        return self._content.end(trailers)
