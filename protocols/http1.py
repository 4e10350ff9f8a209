"""HTTP/1.1 messages (RFC 9112): readers and writers for both roles, the server's and the client's.

Promise: framing is certain or the message is refused; every limit holds before memory is spent;
work is linear in the octets; however a stream is cut, its events are the same.
Must never know: sockets, clocks, routes, what becomes of a message, which engine splits its lines.
Next: `http1_head.py` and `http1_grammar.py` for heads, `http1_framing.py` and `chunked.py` for content.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias, TypeVar

from protocols import http1_grammar as grammar
from protocols.chunked import ChunkedReader
from protocols.fields import Memo, one_length, tokens
from protocols.http1_framing import (
    CODING,
    ContentReader,
    Heads,
    Section,
    check_coding,
    explain_refusal,
    marks,
    sections_of,
)
from protocols.http1_head import REQUEST, RESPONSE, HeadBuffer, HeadLimits
from protocols.http1_tokeniser import Tokeniser, tokeniser
from protocols.http1_writing import RequestWriter, ResponseWriter, encode_lines
from protocols.message import (
    END,
    Content,
    Derived,
    Event,
    FieldLine,
    LocalProtocolError,
    RemoteProtocolError,
    Request,
    Response,
)

__all__: Final = [
    "ChunkedReader",
    "HeadLimits",
    "Reading",
    "RequestReader",
    "RequestWriter",
    "ResponseReader",
    "ResponseWriter",
    "Tokeniser",
    "encode_lines",
    "tokeniser",
]

MEANINGS: Final = 256
"""So many status-lines are remembered with one header section."""

_valid_host: Final = Memo(lambda value: grammar.HOST.fullmatch(value) is not None)
_SLASH: Final = ord("/")
_AFTER_A_BREACH: Final = "nothing is read after a broken rule"


class Reading(enum.Enum):
    """Where a reader is."""

    HEAD = "head"  # waiting for a head, or inside one
    CONTENT = "content"
    DONE = "done"  # the message is complete; for responses also: none is awaited yet
    BROKEN = "broken"  # nothing further on this stream can be believed


_HEAD: Final = Reading.HEAD
_CONTENT: Final = Reading.CONTENT
_DONE: Final = Reading.DONE
_BROKEN: Final = Reading.BROKEN


# ---------------------------------------------------------------------- server role: reading requests


class RequestReader:
    """What a client sends, one message at a time. Whoever raised RemoteProtocolError goes on doing so."""

    __slots__ = ("state", "_buffer", "_content", "_heads", "_sections")

    def __init__(self, tokeniser: Tokeniser, limits: HeadLimits = HeadLimits()) -> None:  # noqa: B008 (frozen)
        self.state = _HEAD
        sections = sections_of(tokeniser)
        self._heads = _heads(sections.request_heads, limits)
        self._sections = sections.requests
        self._buffer = HeadBuffer(REQUEST, limits)
        self._content = ContentReader(limits)

    @property
    def held(self) -> int:
        """Octets held beyond the end of the current message."""
        return len(self._buffer.arrived) if self.state is _DONE else 0

    @property
    def remaining(self) -> float:
        """Octets of the current content that have still to come, inf where only its end will tell."""
        return self._content.remaining if self.state is _CONTENT else 0

    @property
    def started(self) -> bool:
        """Whether anything of the next head is here (empty lines before it don't count)."""
        return self.state is not _CONTENT and bool(self._buffer.arrived)

    def receive(self, octets: bytes) -> list[Event]:
        """Events of the current message, never beyond its end; further octets are held. The list is not to be changed.

        Raises RemoteProtocolError with the status to answer: 400, 414, 417, 431, 501 or 505.
        """
        state = self.state
        try:
            if state is _HEAD:
                return self._head(octets)
            if state is _CONTENT:
                events: list[Event] = []
                self._take_content(octets, events)
                return events
        except RemoteProtocolError:
            self.state = _BROKEN
            raise
        if state is _BROKEN:
            raise RemoteProtocolError(_AFTER_A_BREACH)
        self._buffer.arrived += octets
        return []

    def resume(self) -> list[Event]:
        """After EndOfMessage: start the next message with what is held, like `receive`."""
        if self.state is not _DONE:
            if self.state is _BROKEN:
                raise RemoteProtocolError(_AFTER_A_BREACH)
            raise LocalProtocolError("the current message has not ended")
        self.state = _HEAD
        buffer = self._buffer
        if not buffer.arrived:
            buffer.restart()
            return []
        held = bytes(buffer.arrived)
        buffer.restart()
        return self.receive(held)

    def receive_eof(self) -> None:
        """The client will send nothing more. Raises RemoteProtocolError inside a message."""
        if self.state is _CONTENT:
            self._content.received_eof()
        elif self.started:
            raise RemoteProtocolError("the stream ended inside a request head")

    def take_held(self) -> bytes:
        """All octets after the current message, which now belong to another protocol (RFC 9110 7.8)."""
        held = bytes(self._buffer.arrived)
        self._buffer.restart()
        self.state = _BROKEN
        return held

    def _head(self, octets: bytes) -> list[Event]:
        buffer = self._buffer
        if not buffer.arrived:
            again = self._heads.known.get(octets)
            if again is not None:
                self.state = _DONE
                return again
        match = buffer.take(octets)
        if match is None:
            return []
        method, target, version, section = match.groups()
        try:
            known = self._sections[section]
        except RemoteProtocolError:
            explain_refusal(section, version)
            raise
        meaning = known.meaning.get(version)
        if meaning is None:
            meaning = known.meaning[version] = _request_meaning(known, version)
        fields, host, length, keep_alive, expects_continue, upgrade, shared = meaning
        derived: Derived | None = shared
        if target[0] != _SLASH:
            host = _authority(method, target, host)
            derived = None  # the host is not the section's, nor is what follows from it
        elif method == b"CONNECT":
            raise RemoteProtocolError("CONNECT asks for a host and port (RFC 9112 3.2.3)")
        request = Request(
            method, target, fields, version, host, length, keep_alive, expects_continue, upgrade, derived
        )
        stop = match.end()
        rest = match.string[stop:]
        if length == 0:
            self.state = _DONE
            whole: list[Event] = [request, END]
            if rest:
                buffer.arrived += rest
            elif match.string is octets:  # and not what was put together, or has empty lines before it
                self._heads.note(octets, whole)
            return whole
        self.state = _CONTENT
        self._content.begin(length, chunked=length is None)
        events: list[Event] = [request]
        self._take_content(rest, events)
        return events

    def _take_content(self, octets: bytes, events: list[Event]) -> None:
        rest = self._content.receive(octets, events)
        if rest is not None:
            self.state = _DONE
            self._buffer.arrived += rest


_RequestMeaning: TypeAlias = tuple[list[FieldLine], bytes, int | None, bool, bool, bytes, Derived]
"""Fields, host, length, keep_alive, expects_continue, upgrade, derived of a Request."""

_Meaning = TypeVar("_Meaning")


def _heads(kept: dict[HeadLimits, Heads[_Meaning]], limits: HeadLimits) -> Heads[_Meaning]:
    heads = kept.get(limits)
    if heads is None:
        heads = kept[limits] = Heads()
    return heads


def _request_meaning(section: Section, version: bytes) -> _RequestMeaning:
    """What a header section says of its request. Raises RemoteProtocolError."""
    fields = section.fields
    declared, coding, options, hosts, expect, upgrade = section.control
    length: int | None = 0
    if coding is not None:
        check_coding(coding, declared, version)
        fields = _coding_in_one_case(fields)
        length = None
    elif declared is not None:
        length = one_length(declared)
    host = hosts[0] if hosts else b""
    if not hosts and version != b"HTTP/1.0":
        raise RemoteProtocolError("no Host")
    if len(hosts) > 1:
        raise RemoteProtocolError("more than one Host")
    if not _valid_host[host]:
        raise RemoteProtocolError(f"Host is {host[:60]!r}, not a name or address and a port")
    if version == b"HTTP/1.0":  # RFC 9110 7.8, 10.1.1: Upgrade and Expect are ignored in 1.0
        keep_alive = b"keep-alive" in options and b"close" not in options
        return fields, host, length, keep_alive, False, b"", {}
    expects_continue = expect is not None and _expects_continue(expect) and length != 0
    if upgrade is None or b"upgrade" not in options:
        upgrade = b""
    return fields, host, length, b"close" not in options, expects_continue, upgrade, {}


def _authority(method: bytes, target: bytes, host: bytes) -> bytes:
    """The host and port asked for where the target is not in origin-form (RFC 9112 3.2, 3.3)."""
    if target == b"*":
        return host
    if method == b"CONNECT":
        if grammar.AUTHORITY_FORM.fullmatch(target):
            return target
    elif absolute := grammar.ABSOLUTE_FORM.fullmatch(target):
        authority = absolute[1]
        # a port alone is no authority of an http URI (RFC 9110 4.2.1)
        if _valid_host[authority] and not authority.startswith(b":"):
            return authority
    raise RemoteProtocolError(f"the request-target is {target[:60]!r}, in none of the four forms")


def _coding_in_one_case(fields: list[FieldLine]) -> list[FieldLine]:
    """One engine keeps the case of Transfer-Encoding's value, the other does not; it means nothing."""
    return [(name, b"chunked") if marks[name] == CODING else (name, value) for name, value in fields]


def _expects_continue(expect: bytes) -> bool:
    """RFC 9110 10.1.1: 100-continue is the only expectation there is."""
    expectations = tokens(expect)
    for expectation in expectations:
        if expectation != b"100-continue":
            raise RemoteProtocolError(f"the expectation {expectation[:40]!r} can't be met", 417)
    return bool(expectations)


# ---------------------------------------------------------------------- client role: reading responses


class ResponseReader:
    """What an origin server answers. Whoever raised RemoteProtocolError goes on doing so."""

    __slots__ = ("held", "state", "_buffer", "_content", "_heads", "_sections", "_to_head")

    def __init__(self, tokeniser: Tokeniser, limits: HeadLimits = HeadLimits()) -> None:  # noqa: B008 (frozen)
        self.state = _DONE
        self.held = 0
        """Octets that came when nothing was awaited: the connection must not be used again."""
        sections = sections_of(tokeniser)
        self._heads = _heads(sections.response_heads, limits)
        self._sections = sections.responses
        self._buffer = HeadBuffer(RESPONSE, limits)
        self._content = ContentReader(limits)
        self._to_head = False

    def expect(self, method: bytes) -> None:
        """The next response answers a request with this method: after HEAD comes no content."""
        if self.state is not _DONE or self.held:
            raise LocalProtocolError("the connection is not ready for another response")
        self.state = _HEAD
        self._to_head = method == b"HEAD"

    def receive(self, octets: bytes) -> list[Event]:
        """Interim responses, each without an EndOfMessage, then one final response with its end.

        After a 101 everything is Content, until the stream ends. Raises RemoteProtocolError.
        """
        events: list[Event] = []
        rest: bytes | None = octets
        try:
            while rest:
                if self.state is _HEAD:
                    rest = self._head(rest, events)
                elif self.state is _CONTENT:
                    rest = self._content.receive(rest, events)
                    if rest is not None:
                        self.state = _DONE
                elif self.state is _DONE:
                    self.held += len(rest)
                    break
                else:
                    raise RemoteProtocolError(_AFTER_A_BREACH)
        except RemoteProtocolError:
            self.state = _BROKEN
            raise
        return events

    def receive_eof(self) -> list[Event]:
        """The stream has ended, and with it content without length.

        Raises RemoteProtocolError if something is missing.
        """
        if self.state is _DONE:
            return []
        if self.state is _CONTENT:
            self._content.received_eof()
            self.state = _DONE
            return [END]
        where = "inside" if self._buffer.arrived else "before"
        raise RemoteProtocolError(f"the stream ended {where} a response head")

    def _head(self, octets: bytes, events: list[Event]) -> bytes | None:
        """Append the response and perhaps its end; the octets after the head, None while it is not whole."""
        stop = octets.find(b"\r\n\r\n") + 4
        if stop > 3 and not self._buffer.arrived:
            meaning = self._heads.known.get(octets[:stop])
            if meaning is not None:
                return self._begin(meaning, octets[stop:], events)
        match = self._buffer.take(octets)
        if match is None:
            return None
        version, status_digits, reason, section = match.groups()
        try:
            known = self._sections[section]
            start = (version, status_digits, reason)
            meaning = known.meaning.get(start)
            if meaning is None:
                if len(known.meaning) >= MEANINGS:  # a reason phrase may be another one every time
                    known.meaning.clear()
                meaning = known.meaning[start] = _response_meaning(known, version, int(status_digits), reason or b"")
        except RemoteProtocolError:
            explain_refusal(section, version)
            raise
        end = match.end()
        if match.string is octets and end == stop:
            self._heads.note(octets[:stop], meaning)
        return self._begin(meaning, match.string[end:], events)

    def _begin(self, meaning: _ResponseMeaning, rest: bytes, events: list[Event]) -> bytes | None:
        response, chunked, persists = meaning
        status, length = response.status, response.length
        if self._to_head and status >= 200:  # RFC 9112 6.3
            response = Response(status, response.fields, response.reason, 0, persists)
            length = 0
        events.append(response)
        if length == 0:
            if status >= 200:  # RFC 9110 15.2: after an interim one, a final response follows
                self.state = _DONE
                events.append(END)
            return rest
        if length == len(rest):
            self.state = _DONE
            events += (Content(rest), END)
            return None
        self.state = _CONTENT
        self._content.begin(length, chunked=chunked)
        return rest


_ResponseMeaning: TypeAlias = tuple[Response, bool, bool]
"""A response that is no answer to HEAD, whether it is chunked, and whether the connection would persist if it were one
to HEAD."""


def _response_meaning(section: Section, version: bytes, status: int, reason: bytes) -> _ResponseMeaning:
    """Raises RemoteProtocolError."""
    fields = section.fields
    declared, coding, options = section.control[:3]
    length: int | None = None
    if coding is not None:
        check_coding(coding, declared, version)
        fields = _coding_in_one_case(fields)
    elif declared is not None:
        length = one_length(declared)
    persists = keep_alive = b"close" not in options and (version != b"HTTP/1.0" or b"keep-alive" in options)
    if status == 101:
        length = None
        coding = None
        keep_alive = False
    elif status < 200 or status == 204 or status == 304:  # RFC 9112 6.3
        length = 0
    elif length is None and coding is None:
        keep_alive = False
    derived: Derived | None = {} if status >= 200 else None
    return Response(status, fields, reason, length, keep_alive, derived), coding is not None, persists
