"""CGI/1.1 (RFC 3875): the meta-variables of a request, and the response of a script; both roles.

Promise: one maker of meta-variables for CGI, FastCGI and SCGI; no variable twice; nothing that a
client sends can pose as what the server or the route says. A response's framing is always certain.
Must never know: processes, records, sockets. Next: `gateway/variables.py` and `gateway/interfaces/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeAlias

from protocols.chunked import ChunkedReader
from protocols.fields import HOP_BY_HOP, tokens
from protocols.memory import Memo, Memory
from protocols.message import (
    END,
    Content,
    Derived,
    EndOfMessage,
    FieldLine,
    FieldLines,
    LocalProtocolError,
    LocalRedirect,
    Peer,
    RemoteProtocolError,
    Request,
    Response,
)
from protocols.status import reason as reason_of
from protocols.target import Place, Target, parse

MetaVariables: TypeAlias = dict[bytes, bytes]
"""Meta-variables, by name."""

# ---------------------------------------------------------------------- meta-variables (RFC 3875 4.1)


def route_variables(*, software: bytes, document_root: bytes, environment: Iterable[tuple[bytes, bytes]]) -> MetaVariables:
    """What is constant for a route; its own `environment` wins over everything."""
    values = {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_SOFTWARE": software,
        b"DOCUMENT_ROOT": document_root,
        b"REDIRECT_STATUS": b"200",  # php-cgi refuses to work without it
    }
    if not document_root:
        del values[b"DOCUMENT_ROOT"]
    values.update(environment)
    return values


def connection_variables(peer: Peer, *, overridden: Collection[bytes] = ()) -> MetaVariables:
    """What is constant for a client's connection (4.1.8, 4.1.15). REMOTE_ADDR is empty for unix sockets.

    Here and below: names in `overridden` were set by the route and stay away.
    """
    values = {b"REMOTE_ADDR": peer.remote_addr}
    if peer.remote_port:
        values[b"REMOTE_PORT"] = peer.remote_port
    if peer.server_addr:
        values[b"SERVER_ADDR"] = peer.server_addr
    values[b"SERVER_PORT"] = peer.server_port
    values[b"REQUEST_SCHEME"] = b"https" if peer.https else b"http"
    if peer.https:
        values[b"HTTPS"] = b"on"
    return _without(overridden, values)


def _without(overridden: Collection[bytes], values: MetaVariables) -> MetaVariables:
    for name in overridden:
        values.pop(name, None)
    return values


_AUTHORIZATION: Final = b"HTTP_AUTHORIZATION"
_CONNECTION: Final = b"HTTP_CONNECTION"
_NAME: Final = re.compile(rb"[A-Za-z0-9-]+")
_NEVER: Final = HOP_BY_HOP | {b"content-length", b"proxy", b"expect"}
"""Proxy: httpoxy. Expect: it was the server's to meet. Connection is kept apart: it names others."""


def _variable(name: bytes) -> bytes:
    """The meta-variable of a field name, b"" for one that never becomes one (SEMANTICS 13)."""
    lower = name.lower()
    if lower == b"connection":
        return _CONNECTION
    if lower == b"content-type":
        return b"CONTENT_TYPE"
    if lower in _NEVER or not _NAME.fullmatch(name):
        return b""
    return b"HTTP_" + name.upper().replace(b"-", b"_")


_variables: Final = Memo(_variable)


def target_variables(target: Target, *, overridden: Collection[bytes] = ()) -> MetaVariables:
    """What is another one for each request-target."""
    return _without(overridden, {b"REQUEST_URI": target.raw, b"QUERY_STRING": target.query})


def place_variables(
    method: bytes, version: bytes, place: Place, *, overridden: Collection[bytes] = ()
) -> MetaVariables:
    """What else its request-line and place say."""
    values = {b"REQUEST_METHOD": method, b"SCRIPT_NAME": place.script_name, b"SERVER_PROTOCOL": version}
    if place.path_info:
        values[b"PATH_INFO"] = place.path_info
        if place.document_root:
            values[b"PATH_TRANSLATED"] = place.path_translated
    if place.script_filename:
        values[b"SCRIPT_FILENAME"] = place.script_filename
    return _without(overridden, values)


def field_variables(
    request: Request,
    peer: Peer,
    *,
    authorization: bool = False,
    overridden: Collection[bytes] = (),
    dropped: Callable[[bytes], object] | None = None,
) -> MetaVariables:
    """What a header section gives: SERVER_NAME, CONTENT_TYPE and HTTP_*; the same for each with these fields.

    `dropped` is told each field name that has to go since its variable could be that of another name.
    """
    host = request.host
    if host:
        # 4.1.14: without the port, an IPv6 address in its brackets
        host = host.partition(b"]")[0] + b"]" if host[:1] == b"[" else host.partition(b":")[0]
    values = {b"SERVER_NAME": host or peer.server_addr}
    named: list[bytes] = []
    for name, value in request.fields:
        variable = _variables[name]
        if not variable:
            if dropped is not None and name.lower() not in _NEVER:
                dropped(name)
            continue
        if variable is _CONNECTION:
            if value.lower() not in (b"keep-alive", b"close"):
                named += tokens(value)
        elif variable in values:
            values[variable] += (b"; " if variable == b"HTTP_COOKIE" else b", ") + value
        else:
            values[variable] = value
    if request.host:  # that of an absolute-form target wins over the field (RFC 9112 3.2.2)
        values[b"HTTP_HOST"] = request.host
    if not authorization:
        values.pop(_AUTHORIZATION, None)
    for token in named:
        values.pop(_variables[token], None)
    return _without(overridden, values)


def meta_variables(
    request: Request,
    target: Target,
    place: Place,
    peer: Peer,
    *,
    software: bytes,
    environment: Iterable[tuple[bytes, bytes]] = (),
    content_length: int | None = None,
    authorization: bool = False,
) -> MetaVariables:
    """All meta-variables of one request, for callers without caches.

    `content_length`: octets, None or 0 where there is no content (4.1.2).
    """
    variables = connection_variables(peer)
    variables |= place_variables(request.method, request.version, place)
    variables |= target_variables(target)
    if content_length:
        variables[b"CONTENT_LENGTH"] = b"%d" % content_length
    variables |= field_variables(request, peer, authorization=authorization)
    variables |= route_variables(software=software, document_root=place.document_root, environment=environment)
    return variables


# ---------------------------------------------------------------------- the response of a script (6)


ScriptEvent: TypeAlias = Response | LocalRedirect | Content | EndOfMessage

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*)")
_STATUS_LINE: Final = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
_STATUS: Final = re.compile(rb"(\d{3})(?:[ \t]+([^\x00-\x08\x0a-\x1f\x7f]*))?")
_OK: Final = 200
_ONCE: Final = {b"status": 0, b"location": 1, b"content-type": 2, b"content-length": 3, b"transfer-encoding": 4}
_marks: Final = Memo(lambda name: -1 if name.lower() in HOP_BY_HOP - {b"transfer-encoding"} else _ONCE.get(name.lower(), 9))

HEAD_LIMIT_BYTES: Final = 64 * 1024
COUNT_LIMIT: Final = 200
"""The header of a response has no more octets and lines than this."""

HEADS: Final = 1024
HEAD_BYTES: Final = 1024
"""So many heads of scripts are remembered, up to this length."""
_heads: Memory[bytes, tuple[Response | LocalRedirect, int | None, bool]] = Memory(HEADS)


def _quoted(line: bytes) -> str:
    return repr(line[:80])[1:]


class ScriptResponseReader:
    """What a script prints: CGI's stdout, FastCGI's STDOUT, SCGI's answer.

    After a RemoteProtocolError it must not be used again.
    """

    __slots__ = ("overrun", "_chunks", "_done", "_head", "_nph", "_rest", "_scanned", "_to_head")

    def __init__(self, *, nph: bool = False, request_method: bytes = b"GET") -> None:
        self.overrun = False
        """Whether octets beyond the script's Content-Length, or after a response without content, were cut."""
        self._nph = nph
        self._to_head = request_method == b"HEAD"
        self._head: bytes | None = b""
        self._scanned = 0
        self._rest: int | None = None  # octets of content still to come, None for an unknown number
        self._done = False  # whether no (more) content may follow
        self._chunks: ChunkedReader | None = None

    def receive(self, octets: bytes) -> list[ScriptEvent]:
        """Decode what was printed. Raises RemoteProtocolError where it can't become a response."""
        events: list[ScriptEvent] = []
        if self._head == b"":
            stop = octets.find(b"\r\n\r\n", 0, HEAD_BYTES) + 4
            if stop > 3 and self._again(octets[:stop], events):  # then its end was found when it came first
                self._head = None
                octets = octets[stop:]
        if self._head is not None:
            arrived = self._head + octets if self._head else octets
            end = _END_OF_HEAD.search(arrived, max(0, self._scanned - 2))
            if arrived.startswith((b"\n", b"\r\n")):
                raise RemoteProtocolError("the response begins with an empty line, where header fields were due", 502)
            # without an end, two of the octets may already belong to it
            if (len(arrived) - 2 if end is None else end.start()) > HEAD_LIMIT_BYTES:
                raise RemoteProtocolError(
                    f"no end of the header within {HEAD_LIMIT_BYTES} octets; it begins with {_quoted(arrived)}", 502
                )
            if end is None:
                self._head = arrived
                self._scanned = len(arrived)
                return events
            self._head = None
            stop = end.end()
            self._started(arrived[:stop], end.start(), events)
            octets = arrived[stop:]
        if octets:
            self._content(octets, events)
        return events

    @property
    def whole(self) -> bool:
        """Whether the response is known to be complete, though the output has not ended."""
        return self._head is None and self._chunks is None and (self._done or self._rest == 0)

    def receive_eof(self) -> list[ScriptEvent]:
        """The output has ended. Raises RemoteProtocolError if the response is not complete."""
        if self._head is not None:
            if not self._head:
                raise RemoteProtocolError("it printed nothing", 502)
            first = self._head.splitlines()[0]
            raise RemoteProtocolError(f"its header has no end (an empty line); it begins with {_quoted(first)}", 502)
        if self._chunks is not None:
            raise RemoteProtocolError("its output ended before the last chunk", 502)
        if self._rest:
            raise RemoteProtocolError(f"its output ended {self._rest} octets before its Content-Length", 502)
        return [END]

    def _content(self, octets: bytes, events: list[ScriptEvent]) -> None:
        if self._chunks is not None:
            pieces, end, rest = self._chunks.receive(octets)
            if end:
                self._chunks = None
                self._rest = 0
                self.overrun = self.overrun or bool(rest)
            if pieces and not self._done:
                events.append(Content(b"".join(pieces)))
            return
        if self._done:
            self.overrun = self.overrun or not self._to_head
            return
        rest_bytes = self._rest
        if rest_bytes is not None:
            if len(octets) > rest_bytes:
                self.overrun = True
                octets = octets[:rest_bytes]
            self._rest = rest_bytes - len(octets)
            if not octets:
                return
        events.append(Content(octets))

    def _again(self, head: bytes, events: list[ScriptEvent]) -> bool:
        """Whether it came before. Heads of one script are often the same, octet for octet: such are remembered."""
        known = None if self._nph or self._to_head else _heads.known.get(head)
        if known is None:
            return False
        event, self._rest, self._done = known
        events.append(event)
        return True

    def _started(self, head: bytes, stop: int, events: list[ScriptEvent]) -> None:
        """A head is whole."""
        if self._again(head, events):
            return
        kept = not self._nph and not self._to_head and len(head) <= HEAD_BYTES and _heads.again(head)
        event = self._parse(head[:stop], {} if kept else None)
        if kept and self._chunks is None:
            _heads.keep(head, (event, self._rest, self._done))
        events.append(event)

    def _parse(self, head: bytes, derived: Derived | None) -> Response | LocalRedirect:
        lines = head.split(b"\n")
        if len(lines) > COUNT_LIMIT:
            raise RemoteProtocolError(f"more than {COUNT_LIMIT} lines of header", 502)
        status, reason = 0, b""
        # all servers take a status line for a Status field (SEMANTICS 23); of an NPH script it is asked
        if lines[0].startswith(b"HTTP/"):
            match = _STATUS_LINE.fullmatch(lines[0].removesuffix(b"\r"))
            if match is None:
                raise RemoteProtocolError(f"malformed status line: {_quoted(lines[0])}", 502)
            status, reason = int(match[1]), match[2] or b""
            del lines[0]
        elif self._nph:
            raise RemoteProtocolError(f"an nph- script has to print a status line, not {_quoted(lines[0])}", 502)
        special: list[bytes | None] = [None, None, None, None, None]
        fields: list[FieldLine] = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            field = _FIELD.fullmatch(line)
            if field is None:
                raise RemoteProtocolError(f"malformed header field: {_quoted(line)}", 502)
            name, value = field.groups()
            value = value.rstrip(b" \t")
            mark = _marks[name]
            if mark == 9:
                fields.append((name, value))
            elif mark >= 0:
                if special[mark] is not None:
                    raise RemoteProtocolError(f"{name.decode()} is given twice", 502)
                special[mark] = value
                if 1 <= mark <= 2:
                    fields.append((name, value))
        return self._response(status, reason, special, fields, derived)

    def _response(
        self,
        status: int,
        reason: bytes,
        special: list[bytes | None],
        fields: list[FieldLine],
        derived: Derived | None,
    ) -> Response | LocalRedirect:
        given, location, kind, length_value, coding = special
        if given is not None:
            match = _STATUS.fullmatch(given)
            if match is None:
                raise RemoteProtocolError(f"malformed Status: {_quoted(given)}", 502)
            status, reason = int(match[1]), match[2] or b""
        elif location is not None and not status:
            if location.startswith(b"/") and not location.startswith(b"//") and len(fields) == 1 and not length_value:
                try:
                    parse(b"GET", location)
                except RemoteProtocolError as error:
                    told = f"Location is {_quoted(location)}, no path of this server: {error.detail}"
                    raise RemoteProtocolError(told, 502) from None
                self._done = True
                return LocalRedirect(location)
            status = 302
        if not status:
            if kind is None:
                raise RemoteProtocolError("none of Content-Type, Location and Status is among its header fields", 502)
            status = _OK
        if not 200 <= status <= 599:
            raise RemoteProtocolError(f"a script can't answer with status {status}", 502)
        length: int | None = None
        if length_value is not None and coding is None:
            if not length_value.isdigit() or len(length_value) > 19:
                raise RemoteProtocolError(f"Content-Length is {_quoted(length_value)}, not a number of octets", 502)
            length = int(length_value)
        if coding is not None:
            if tokens(coding) != [b"chunked"]:
                raise RemoteProtocolError(f"Transfer-Encoding is {_quoted(coding)}", 502)
        if self._to_head or status in (204, 205, 304):
            if length is not None and status not in (204, 205):  # RFC 9110 8.6, 15.3.6
                fields.append((b"Content-Length", b"%d" % length))
            self._done = True
            return Response(status, fields, reason, 0)
        if coding is not None:
            self._chunks = ChunkedReader()
        self._rest = length
        return Response(status, fields, reason, length, derived=derived)


def encode_head(status: int, reason: bytes, fields: FieldLines) -> bytes:
    """The head of a script's response, `Status` first: what an application prints.

    Raises LocalProtocolError for CR, LF or NUL inside a line.
    """
    if not reason:
        reason = reason_of(status).encode()
    lines = [b"Status: %d %b" % (status, reason), *(b"%b: %b" % line for line in fields)]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise LocalProtocolError("CR, LF or NUL inside a header field")
    return head + b"\r\n\r\n"
