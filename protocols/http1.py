"""HTTP/1.1 messages (RFC 9112): readers and writers for both roles, the server's and the client's.

Promise: framing is certain or the message is refused; every limit holds before memory is spent;
work is linear in the octets; however a stream is cut, its events are the same.
Must never know: sockets, clocks, routes, what becomes of a message, which engine splits its lines.
Next: `http1_head.py` and `http1_grammar.py` for heads, `http1_framing.py` and `chunked.py` for content.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from protocols import http1_grammar as grammar
from protocols.chunked import ChunkedReader
from protocols.fields import one_length, tokens
from protocols.http1_framing import (
    CODING,
    ContentReader,
    check_coding,
    control,
    explain_refusal,
    marks,
)
from protocols.http1_head import REQUEST, RESPONSE, HeadBuffer, HeadLimits
from protocols.http1_tokeniser import Tokeniser, tokeniser
from protocols.http1_writing import RequestWriter, ResponseWriter, encode_lines
from protocols.memory import Memo, Memory
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

HEAD_BYTES: Final = 2048
HEADS: Final = 512
"""Heads up to this size, and so many of each kind, are remembered, with what they mean."""

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


_RequestMeaning: TypeAlias = tuple[list[FieldLine], bytes, int | None, bool, bool, bytes, Derived | None]
"""Fields, host, length, keep_alive, expects_continue, upgrade, derived of a Request."""
_ResponseMeaning: TypeAlias = tuple[Response, bool, bool]
"""A response that is no answer to HEAD, whether it is chunked, and whether the connection would persist if it were one
to HEAD."""


class _Heads:
    """Heads that came before, by their octets: shared by all connections with the same tokeniser and limits."""

    __slots__ = ("requests", "responses", "tails", "tokeniser")

    def __init__(self, tokeniser: Tokeniser) -> None:
        self.tokeniser = tokeniser
        self.requests: Memory[bytes, list[Event]] = Memory(HEADS)
        """Whole heads of requests without content."""
        self.tails: Memory[bytes, _RequestMeaning] = Memory(HEADS)
        """Heads of requests from the version on: the same for many targets."""
        self.responses: Memory[bytes, _ResponseMeaning] = Memory(HEADS)


_known: dict[tuple[Tokeniser, HeadLimits], _Heads] = {}


def _heads_of(tokeniser: Tokeniser, limits: HeadLimits) -> _Heads:
    heads = _known.get((tokeniser, limits))
    if heads is None:
        heads = _known[tokeniser, limits] = _Heads(tokeniser)
    return heads


# ---------------------------------------------------------------------- server role: reading requests


class RequestReader:
    """What a client sends, one message at a time. Whoever raised RemoteProtocolError goes on doing so."""

    __slots__ = ("state", "_buffer", "_content", "_heads")

    def __init__(self, tokeniser: Tokeniser, limits: HeadLimits = HeadLimits()) -> None:  # noqa: B008 (frozen)
        self.state = _HEAD
        self._heads = _heads_of(tokeniser, limits)
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
        buffer, heads = self._buffer, self._heads
        if not buffer.arrived and len(octets) <= HEAD_BYTES:
            again = heads.requests.known.get(octets)
            if again is not None:
                self.state = _DONE
                return again
        match = buffer.take(octets)
        if match is None:
            return []
        method, target, version, section = match.groups()
        arrived, start, stop = match.string, match.start(3), match.end()
        tail = arrived[start:stop]
        meaning = heads.tails.known.get(tail)
        if meaning is None:
            meaning = _request_meaning(heads, version, section, tail)
        fields, host, length, keep_alive, expects_continue, upgrade, derived = meaning
        if target[0] != _SLASH:
            host = _authority(method, target, host)
            derived = None  # the host is not the tail's, nor is what follows from it
        elif method == b"CONNECT":
            raise RemoteProtocolError("CONNECT asks for a host and port (RFC 9112 3.2.3)")
        request = Request(
            method, target, fields, version, host, length, keep_alive, expects_continue, upgrade, derived
        )
        rest = arrived[stop:]
        if length == 0:
            self.state = _DONE
            whole: list[Event] = [request, END]
            if rest:
                buffer.arrived += rest
            elif arrived is octets and len(octets) <= HEAD_BYTES:  # not put together, and no empty lines before it
                heads.requests.note(octets, whole)
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


def _request_meaning(heads: _Heads, version: bytes, section: bytes, tail: bytes) -> _RequestMeaning:
    """What a header section says of its request. Raises RemoteProtocolError."""
    try:
        fields = heads.tokeniser.split_request(section)
        declared, coding, options, hosts, expect, upgrade = control(fields)
    except RemoteProtocolError:
        explain_refusal(section, version)
        raise
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
    keep_alive, expects_continue = b"close" not in options, False
    if version == b"HTTP/1.0":  # RFC 9110 7.8, 10.1.1: Upgrade and Expect are ignored in 1.0
        keep_alive = keep_alive and b"keep-alive" in options
        upgrade = b""
    else:
        expects_continue = expect is not None and _expects_continue(expect) and length != 0
        if upgrade is None or b"upgrade" not in options:
            upgrade = b""
    if len(tail) <= HEAD_BYTES and heads.tails.again(tail):
        meaning: _RequestMeaning = (fields, host, length, keep_alive, expects_continue, upgrade, {})
        heads.tails.keep(tail, meaning)
        return meaning
    return fields, host, length, keep_alive, expects_continue, upgrade, None


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

    __slots__ = ("held", "state", "_buffer", "_content", "_heads", "_to_head")

    def __init__(self, tokeniser: Tokeniser, limits: HeadLimits = HeadLimits()) -> None:  # noqa: B008 (frozen)
        self.state = _DONE
        self.held = 0
        """Octets that came when nothing was awaited: the connection must not be used again."""
        self._heads = _heads_of(tokeniser, limits)
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
        responses = self._heads.responses
        stop = octets.find(b"\r\n\r\n", 0, HEAD_BYTES) + 4
        head = octets[:stop] if stop > 3 and not self._buffer.arrived else b""
        if head:
            known = responses.known.get(head)
            if known is not None:
                return self._begin(known, octets[stop:], events)
        match = self._buffer.take(octets)
        if match is None:
            return None
        version, status_digits, reason, section = match.groups()
        end = match.end()
        shared: Derived | None = None
        if head and match.string is octets and end == stop and responses.again(head):
            shared = {}
        try:
            fields = self._heads.tokeniser.split_response(section)
            meaning = _response_meaning(fields, version, int(status_digits), reason or b"", shared)
        except RemoteProtocolError:
            explain_refusal(section, version)
            raise
        if shared is not None:
            responses.keep(head, meaning)
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


def _response_meaning(
    fields: list[FieldLine], version: bytes, status: int, reason: bytes, derived: Derived | None
) -> _ResponseMeaning:
    """Raises RemoteProtocolError."""
    declared, coding, options = control(fields)[:3]
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
    return Response(status, fields, reason, length, keep_alive, derived), coding is not None, persists
