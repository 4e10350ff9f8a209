"""The interface `http`: an origin server behind us, over kept-alive connections (RFC 9110 7.6).

Promise: hop-by-hop fields end here, both ways; what is said of the client is our own word. Two are made
anew where the client sent them: Upgrade, if it is to a WebSocket, and TE, if it takes trailers.
Trailers pass both ways. Those of a request need content that streams in chunks: content that was kept
has a length, its framing has no place for them, and they are dropped (RFC 9110 6.5.1 allows it).
Must never know: the front, the router's tables. Next: `protocols/http1.py` for the octets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from gateway.errors import GatewayError, Retry
from gateway.exchange import TUNNEL
from gateway.upstreams.connection import Connection
from gateway.upstreams.places import Desk, PlacePool
from gateway.upstreams.pool import Down, Member, Pool, Roster
from protocols.fields import all_values, first, forwardable, has_token, lower, trailers_onward
from protocols.http1 import RequestWriter, ResponseReader, encode_lines
from protocols.message import (
    END,
    Content,
    EndOfMessage,
    FieldLine,
    FieldLines,
    ProtocolError,
    RemoteProtocolError,
    Request,
    Response,
)
from protocols.target import Target, encode_path

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange
    from gateway.site import Site

IDLE_S: Final = 30.0
"""How long an unused connection is kept: below the usual keep-alive of origin servers."""

_OURS: Final = frozenset(
    (b"host", b"content-length", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto",
     b"x-forwarded-host", b"x-request-id", b"proxy", b"upgrade")
)  # fmt: skip
"""Request fields that are ours to write, or that end here (Expect is answered by us)."""
_PREFIX: Final = b"x-forwarded-prefix"
_TE_TRAILERS: FieldLine = (b"TE", b"trailers")
_ONWARD: Final = "onward"
"""Under which a Response keeps the one that goes to the client."""
FORWARDS: Final = 255
"""The greatest Max-Forwards that we pass on (RFC 9110 7.6.2 leaves it to each intermediary)."""


class HttpInterface:
    """One route's origin servers."""

    needs_length = False

    def __init__(
        self, site: Site, route: Route, down: Down | None = None, desk: Desk | None = None, limit: float = math.inf,
        roster: Roster | None = None,
    ) -> None:  # fmt: skip
        """`desk`: the places of an application of our own, and `limit`: how much a worker there takes at a time."""
        self.running = 0
        self.site = site
        self.route = route
        self.spools = route.request_buffering
        self.pool: Pool
        if desk is None:
            self.pool = Pool(
                site.turn, route.addresses, self._connection, self._ready, connect_s=route.connect_s,
                keepalive=route.keepalive, idle_s=IDLE_S, down=down, shared=site, terms=route.terms, roster=roster,
            )  # fmt: skip
        else:
            self.pool = PlacePool(
                site.turn, route.addresses, self._connection, self._ready, connect_s=route.connect_s,
                keepalive=route.keepalive, idle_s=IDLE_S, down=down, shared=site, desk=desk, limit=limit, terms=route.terms,
            )  # fmt: skip
        self.prefix = route.match.value.rstrip(b"/") if route.strip_prefix else b""

    def start(self, exchange: Exchange) -> None:
        """Send the request on a kept connection, or on a new one."""
        request = exchange.request
        if request.method == b"OPTIONS" and forwards_left(request) == 0:
            self._answer_options(exchange)
            return
        pool = self.pool
        key = self.site.hash_key(exchange, pool.hash) if pool.hash else b""
        connection = pool.take(fresh=exchange.stale, key=key, avoid=exchange.avoid)
        if connection is None:
            pool.wait(exchange)
            return
        assert isinstance(connection, HttpConnection)
        connection.serve(exchange)

    def tick(self, now: float) -> None:
        self.pool.tick(now)

    def let_go(self) -> None:
        self.pool.let_go()

    def close(self) -> None:
        self.pool.close()

    def _connection(self, pool: Pool, member: Member) -> HttpConnection:
        return HttpConnection(pool, member, self)

    def _ready(self, exchange: Exchange) -> None:
        try:
            self.start(exchange)
        except GatewayError as error:
            exchange.failed(error)

    def _answer_options(self, exchange: Exchange) -> None:
        """Answer as the final recipient (RFC 9110 7.6.2); what the server behind us allows we don't know."""
        methods = self.route.methods
        fields = [(b"Allow", b", ".join(sorted(methods)))] if methods else []
        exchange.respond(Response(204, fields, length=0))
        exchange.response_end()

    def lines(self, exchange: Exchange, member: Member) -> bytes:
        """The field lines that the origin server gets, encoded."""
        request = exchange.request
        derived = request.derived if request.method != b"OPTIONS" else None  # Max-Forwards means nothing to others
        found = exchange.found
        mount = found.place.script_name if found is not None and self.route.app is not None else b""
        key: object = self
        if request.upgrade or mount or self.route.host == "upstream":  # only GET opens a WebSocket
            key = (self, opens_websocket(request, self.route), mount, member)
        lines: bytes | None = derived.get(key) if derived is not None else None
        if lines is None:
            fields = origin_fields(request, self.route, member.authority)
            if self.route.app is not None:  # what SCRIPT_NAME is under the other interfaces
                fields = [line for line in fields if lower(line[0]) != _PREFIX]
                fields += [(b"X-Forwarded-Prefix", encode_path(mount))] if mount else []
            lines = encode_lines(fields)
            if derived is not None:
                derived[key] = lines
        return lines + self.site.forwarding.lines(exchange)

    def target(self, exchange: Exchange) -> bytes:
        """The request-target for the origin server."""
        assert exchange.found is not None
        return origin_target(exchange.found.target, self.prefix)


def origin_fields(request: Request, route: Route, authority: str) -> list[FieldLine]:
    """The field lines for the origin server that is called so, but those that tell of the client and of framing."""
    if route.host == "client":
        host = request.host or b"localhost"
    elif route.host == "upstream":
        host = authority.encode()
    else:
        host = route.host.encode()
    fields: list[FieldLine] = [(b"Host", host)]
    persistent = request.version != b"HTTP/1.0"
    fields += [
        line for line in forwardable(request.fields, keep_te_trailers=persistent) if lower(line[0]) not in _OURS
    ]
    options = [b"TE"] if _TE_TRAILERS in fields else []
    websocket = opens_websocket(request, route)
    if websocket:
        options.append(b"upgrade")
    if options:
        fields.append((b"Connection", b", ".join(options)))
    if websocket:
        fields.append((b"Upgrade", b"websocket"))
    if request.method == b"OPTIONS":
        left = forwards_left(request)
        fields = [line for line in fields if lower(line[0]) != b"max-forwards"]
        if left:
            fields.append((b"Max-Forwards", b"%d" % min(left - 1, FORWARDS)))
    return fields


def opens_websocket(request: Request, route: Route) -> bool:
    """Whether Upgrade is passed on: to this protocol only, since in any other tunnel (h2c) requests would
    pass that no route has seen; and only with GET, without content (RFC 6455 4.1)."""
    return (
        bool(request.upgrade) and route.websocket and request.method == b"GET" and request.length == 0
        and has_token(request.upgrade, b"websocket")
    )  # fmt: skip


def forwards_left(request: Request) -> int | None:
    """The value of Max-Forwards, or one that is great enough; None where it is absent or no number."""
    value = first(request.fields, b"max-forwards")
    if value is None or not value.isdigit():
        return None
    digits = value.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= 3 else FORWARDS + 1


def origin_trailers(trailers: FieldLines) -> list[FieldLine]:
    """The trailers of a request that the origin server gets: none that it might take for a word of ours."""
    return [line for line in trailers_onward(trailers) if lower(line[0]) not in _OURS]


def origin_target(target: Target, prefix: bytes) -> bytes:
    """The request-target for the origin server: the path as the router saw it, without `prefix`."""
    raw_path = target.raw_path
    if not prefix:
        return raw_path
    rest = raw_path[len(prefix) :]
    if raw_path.startswith(prefix) and rest.startswith(b"/"):  # no escapes: it can be cut off as it stands
        return rest
    path = target.path[len(prefix) :] or b"/"
    _, mark, query = raw_path.partition(b"?")
    return encode_path(path) + mark + query


class HttpConnection(Connection["Exchange"]):
    """One connection to an origin server."""

    __slots__ = ("answered", "interface", "keep", "reader", "sent", "writer")

    def __init__(self, pool: Pool, member: Member, interface: HttpInterface) -> None:
        super().__init__(pool, member)
        self.interface = interface
        self.reader = ResponseReader(interface.site.tokeniser, interface.site.response_limits)
        self.writer = RequestWriter()
        self.sent = False
        """Whether the request is complete on our side."""
        self.answered = False
        """Whether any octet of the response has come."""
        self.keep = False

    def serve(self, exchange: Exchange) -> None:
        """Carry this exchange."""
        self.exchange = exchange
        self.answered = self.keep = False
        interface = self.interface
        request = exchange.request
        whole = exchange.whole_content()
        self.reader.expect(request.method)
        try:
            head = self.writer.head_of(
                request.method, interface.target(exchange), interface.lines(exchange, self.member),
                exchange.content_length,
            )  # fmt: skip
        except ProtocolError as error:
            self.fail(GatewayError(500, "internal", f"the request could not be encoded: {error.detail}"))
            return
        self.send(head)
        exchange.connected(self)
        if whole is None:
            self.sent = False
            exchange.pump()
            return
        if whole:
            for piece in self.writer.content(whole):
                self.send(piece)
        self.writer.end()
        self.sent = True

    # ------------------------------------------------------------------ for the exchange (Call)

    def content(self, octets: bytes) -> None:
        if self.exchange is not None and self.exchange.response_side is TUNNEL:
            self.send(octets)
            return
        for piece in self.writer.content(octets):
            self.send(piece)

    def content_end(self) -> None:
        self.sent = True
        exchange = self.exchange
        trailers = exchange.trailers if exchange is not None else ()
        octets = self.writer.end(origin_trailers(trailers) if trailers else ())
        if octets:
            self.send(octets)

    # ------------------------------------------------------------------ from the driver

    def received(self, octets: bytes, now: float) -> None:
        exchange = self.exchange
        if exchange is None:  # nobody asked: the stream is out of step (SEMANTICS 63)
            self.pool.retire(self)
            return
        self.answered = True
        if not self.proven:
            self.pool.proved(self)
        try:
            events = self.reader.receive(octets)
        except RemoteProtocolError as error:
            self.fail(self._rubbish(error))
            return
        for event in events:
            if self.exchange is not exchange:
                return
            kind = type(event)
            if kind is Content:
                exchange.response_content(event.data)  # type: ignore[union-attr]
            elif kind is Response:
                self._head(exchange, event)  # type: ignore[arg-type]
            else:
                self._complete(exchange, event)  # type: ignore[arg-type]
                return
        exchange.wait_for_more()

    def ended(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        if exchange.response_side is TUNNEL:
            self._complete(exchange, END)
            return
        try:
            events = self.reader.receive_eof()
        except RemoteProtocolError:
            super().ended()
            return
        for event in events:
            assert isinstance(event, EndOfMessage)
            self._complete(exchange, event)

    def _head(self, exchange: Exchange, response: Response) -> None:
        if response.status == 101:
            asked = opens_websocket(exchange.request, self.interface.route)
            if not asked or not has_token(all_values(response.fields, b"upgrade"), b"websocket"):
                self.fail(self._rubbish(RemoteProtocolError("101 to a protocol that nobody asked for")))
                return
            fields = [*forwardable(response.fields), (b"Connection", b"upgrade")]
            fields += [line for line in response.fields if lower(line[0]) == b"upgrade"]
            exchange.respond(Response(101, fields, response.reason))
            return
        derived = response.derived
        onward: Response | None = derived.get(_ONWARD) if derived is not None else None
        if onward is None:
            fields = forwardable(response.fields)
            onward = Response(response.status, fields, response.reason, response.length, derived={})
            if derived is not None:
                derived[_ONWARD] = onward
        self.keep = response.keep_alive
        exchange.respond(onward)

    def _complete(self, exchange: Exchange, end: EndOfMessage) -> None:
        """The response is whole; the connection is of further use only if everything is in step."""
        keep = self.keep and self.sent and not self.reader.held
        self.exchange = None
        exchange.call = None
        exchange.response_end(trailers_onward(end.trailers) if end.trailers else ())
        self.finish(keep=keep)

    def broken_off(self, error: OSError | None = None) -> GatewayError:
        failure = super().broken_off(error)
        if self.answered:  # an interim response, or half a head: another attempt would repeat it (64)
            failure.retry = Retry.NO
        return failure

    def _rubbish(self, error: RemoteProtocolError) -> GatewayError:
        return GatewayError(
            502, "bad-response", f"{self.upstream} answered what is no HTTP/1.1: {error.detail}",
            "see whether the address is that of an HTTP server, and its log",
        )  # fmt: skip
