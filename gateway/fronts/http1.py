"""The HTTP/1.1 front: one client connection, its messages in order, its patience.

Promise: pipelined requests are answered in order; what leaves framing uncertain ends the
connection so that the client can still read the answer; every wait has a bound.
Must never know: routes, interfaces, workers. Next: `exchange.py`, to which each request goes.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gateway.ends import WINDOW, Close, End, FileSlice, Outgoing, Resume, SocketName
from gateway.errors import GatewayError, Side
from gateway.exchange import REQUEST_DONE, Exchange
from protocols.http1 import Reading, RequestReader, ResponseWriter
from protocols.message import Content, EndOfMessage, Event, FieldLines, Peer, RemoteProtocolError, Request, Response

if TYPE_CHECKING:
    from gateway.site import Site

LINGERING: Final = 256
"""So many connections above the limit are closed so that the client can read why."""
DRAIN_BYTES: Final = 256 * 1024
"""Unread request content up to this is read and dropped to keep the connection (SEMANTICS 56)."""

FRESH_S: Final = 1.0
"""How long a new connection may wait with its request where others wait for their turn."""
SETTLED_S: Final = 0.5
"""How long a kept one may: its next request may be on the way (RFC 9112 9.5)."""
QUIET_S: Final = 5.0
"""How long either may where nobody waits, since others serve already: who still uses it has asked again by then."""


class Phase(enum.Enum):
    HEAD = "head"  # between messages, or in the middle of a head
    EXCHANGE = "exchange"
    DRAIN = "drain"  # answered; the rest of the request content is dropped
    TUNNEL = "tunnel"
    CLOSING = "closing"


# looked up faster than on the class
HEAD: Final = Phase.HEAD
EXCHANGE: Final = Phase.EXCHANGE
DRAIN: Final = Phase.DRAIN
TUNNEL: Final = Phase.TUNNEL
CLOSING: Final = Phase.CLOSING
IN_CONTENT: Final = Reading.CONTENT
READ: Final = Reading.DONE
BROKEN: Final = Reading.BROKEN


class Http1Front(End):
    """One connection from a client."""

    __slots__ = (
        "continued",
        "drained",
        "exchange",
        "head_since",
        "idle_since",
        "last_read",
        "peer",
        "phase",
        "reader",
        "site",
        "stalled_since",
        "variables",
        "writer",
    )

    def __init__(self, site: Site) -> None:
        super().__init__(site.turn)
        self.site = site
        self.phase = HEAD
        self.reader = RequestReader(site.tokeniser, site.head_limits)
        self.writer = _NO_WRITER
        self.exchange: Exchange | None = None
        self.peer: Peer = site.unknown_peer
        self.head_since = 0.0
        self.idle_since = 0.0
        self.last_read = 0.0
        self.stalled_since = 0.0
        self.drained = 0
        self.continued = False
        self.variables: Mapping[bytes, bytes] | None = None

    # ------------------------------------------------------------------ from the driver

    def accepted(self, remote: SocketName, local: SocketName, now: float) -> None:
        self.peer = Peer(
            _plain_address(remote[0]), b"%d" % remote[1] if remote[1] else b"",
            _plain_address(local[0]), b"%d" % local[1] if local[1] else b"80", https=False,
        )  # fmt: skip
        self.head_since = now
        self.deadline = now + self.site.timeouts.header_s
        if not self.site.admit(self):
            self.head_since = now
            self.refuse(
                GatewayError(
                    503, "connection-limit", f"more than {self.site.limits.connections} connections",
                    "raise server.limits.connections", side=Side.GATEWAY, retry_after_s=1, close=True,
                )
            )  # fmt: skip
            if len(self.site.fronts) <= self.site.limits.connections + LINGERING:
                self.closing = Close.LINGER  # the request that is on its way would reset the answer away

    def received(self, octets: bytes, now: float) -> None:
        phase = self.phase
        self.last_read = now
        if phase is TUNNEL:
            assert self.exchange is not None
            self.exchange.content(octets)
            return
        if phase is CLOSING:
            return
        try:
            events = self.reader.receive(octets)
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if events:
            self._take(events)
        elif phase is HEAD:
            if not self.head_since and self.reader.started:
                self.head_since = now
                self.deadline = now + self.site.timeouts.header_s
        elif self.reader.held > WINDOW:
            self.wants_data = False
            self.touch()

    def received_eof(self, now: float) -> None:
        if self.phase is HEAD and not self.reader.started:
            self.phase = CLOSING
            self.close(Close.FLUSH)
            return
        self._client_left()
        self.close(Close.FLUSH)

    def unsent(self, length: int, now: float) -> None:
        was = self.held
        self.held = length
        if length:
            self.stalled_since = now
            self.deadline = min(self.deadline, now + self.site.timeouts.write_s)
        if self.phase is HEAD:
            self._next()
        elif self.exchange is not None and bool(was) is not bool(length):
            self.exchange.client_room(not length)

    def resume(self, now: float) -> None:
        """Pipelined octets wait: start the next message with them."""
        if self.phase is not HEAD or self.held or self.reader.state is not READ:
            return
        self.last_read = now
        try:
            events = self.reader.resume()
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if events:
            self._take(events)
        elif not self.reader.started:  # empty lines only (RFC 9112 2.2)
            self.head_since = 0.0
            self.deadline = now + self.site.timeouts.idle_s

    def expired(self, now: float) -> None:
        """Find out which patience is at its end; `deadline` may be older than the newest reason."""
        timeouts = self.site.timeouts
        exchange = self.exchange
        if self.held:
            if now - self.stalled_since >= timeouts.write_s:
                self._stalled(f"the client took nothing of a response for {timeouts.write_s:g} s")
                return
            if exchange is None:
                self.deadline = self.stalled_since + timeouts.write_s
                return
        if exchange is not None:
            if now >= exchange.deadline:
                exchange.expired()
                return
            if self.phase is TUNNEL and not self.wants_data and now - self.last_read >= timeouts.write_s:
                exchange.failed(
                    GatewayError(
                        504, "tunnel-stalled", f"the worker took nothing from its client for {timeouts.write_s:g} s",
                        "see why it does not read; server.timeouts.write bounds it",
                    )
                )  # fmt: skip
                return
            waiting_since = now
            if exchange.request_side is not REQUEST_DONE and self.wants_data and self.phase is EXCHANGE:
                waiting_since = self.last_read
            if now - waiting_since >= timeouts.read_s:
                exchange.failed(
                    GatewayError(
                        408, "content-timeout", f"no request content came for {timeouts.read_s:g} s",
                        "a slow client; server.timeouts.read bounds it", side=Side.CLIENT, close=True,
                    )
                )  # fmt: skip
                return
            self.deadline = min(exchange.deadline, waiting_since + timeouts.read_s)
            if self.held:
                self.deadline = min(self.deadline, self.stalled_since + timeouts.write_s)
        elif self.phase is HEAD and self.head_since:
            if now - self.head_since < timeouts.header_s:
                self.deadline = self.head_since + timeouts.header_s
            elif self.reader.started:
                self.refuse(
                    GatewayError(
                        408, "header-timeout", f"the request head was not complete after {timeouts.header_s:g} s",
                        "a slow client; server.timeouts.header bounds it", side=Side.CLIENT, close=True,
                    )
                )  # fmt: skip
            else:
                self.close(Close.FLUSH)
        else:  # idle, draining or closing for too long
            self.phase = CLOSING
            self.close(Close.FLUSH if not self.held else Close.ABORT)

    def drain(self) -> None:
        """The server ends: close if nothing of a request is here or just about to be; else after its response."""
        self.make_room(self.turn.now)

    def make_room(self, now: float) -> None:
        """Others wait for the engine that this connection holds, or it ends: close if it is idle, or takes its time."""
        if self.phase is HEAD and not self.reader.started:
            if self.site.retiring:
                patience_s = QUIET_S
                if self.held:  # it still reads its last response
                    return
            else:
                patience_s = FRESH_S if self.head_since else SETTLED_S
            if self.held or now - (self.head_since or self.idle_since) > patience_s:
                self.phase = CLOSING
                self.close(Close.FLUSH)

    def lost(self, error: OSError | None, now: float) -> None:
        self._client_left()
        for piece in self.out:
            if isinstance(piece, FileSlice):
                piece.close()
        self.out.clear()
        self.site.leave(self)

    # ------------------------------------------------------------------ requests

    def _take(self, events: list[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind is Request:
                self._begin(event)  # type: ignore[arg-type]
            elif self.phase is EXCHANGE:
                if kind is Content:
                    self.exchange.content(event.data)  # type: ignore[union-attr]
                else:
                    self.exchange.content_end(event.trailers)  # type: ignore[union-attr]
            elif self.phase is DRAIN:
                self._drain(event)

    def _begin(self, request: Request) -> None:
        site = self.site
        self.phase = EXCHANGE
        self.head_since = 0.0
        self.continued = not request.expects_continue
        self.writer = ResponseWriter(request.method, request.version, request.keep_alive and not site.full())
        exchange = self.exchange = Exchange(site, self, request)
        self.deadline = self.turn.now + site.timeouts.read_s if request.length != 0 else math.inf
        exchange.begin()

    def _stalled(self, what: str) -> None:
        """The client reads no more: its connection ends, and the log tells why."""
        error = GatewayError(
            408, "write-timeout", what, "a slow client; server.timeouts.write bounds it", side=Side.CLIENT, close=True
        )
        if self.exchange is not None:
            self.exchange.failed(error)
        else:
            self.site.report_client(self.peer, error)
        self.phase = CLOSING
        self.close(Close.ABORT)

    def _drain(self, event: Event) -> None:
        if type(event) is EndOfMessage:
            self._next()
            return
        assert isinstance(event, Content)
        self.drained += len(event.data)
        if self.drained > DRAIN_BYTES:
            self.phase = CLOSING
            self.close(Close.LINGER)

    def _next(self) -> None:
        """Ready for another message on this connection, once what was answered before is on its way."""
        self.phase = HEAD
        wanted = not self.held  # a client that does not read gets no further answer (SEMANTICS 68)
        if wanted is not self.wants_data:
            self.wants_data = wanted
            self.touch()
        if not wanted:
            self.deadline = self.stalled_since + self.site.timeouts.write_s
        elif self.reader.held:
            self.head_since = self.turn.now
            self.deadline = self.turn.now + self.site.timeouts.header_s
            self.turn.orders.append(Resume(self))
        else:
            if self.reader.state is READ:
                self.reader.resume()
            if self.head_since:
                self.deadline = self.head_since + self.site.timeouts.header_s
            else:
                self.idle_since = self.turn.now
                self.deadline = self.turn.now + self.site.timeouts.idle_s

    def _client_left(self) -> None:
        exchange, self.exchange = self.exchange, None
        self.phase = CLOSING
        if exchange is not None:
            exchange.client_lost()

    def _broken(self, error: RemoteProtocolError) -> None:
        """The client broke the rules of HTTP; what follows can't be trusted."""
        failure = GatewayError(error.status, "bad-request", error.detail, side=Side.CLIENT, close=True)
        if self.phase is EXCHANGE and self.exchange is not None:
            self.exchange.failed(failure)
        elif self.phase is HEAD:
            self.refuse(failure)
        else:
            self.phase = CLOSING
            self.close(Close.LINGER)

    def refuse(self, error: GatewayError) -> None:
        """Answer before there is a request to route."""
        request = Request(b"", b"", (), keep_alive=False)
        self.phase = EXCHANGE
        self.writer = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=False)
        self.exchange = Exchange(self.site, self, request)
        self.exchange.failed(error)

    # ------------------------------------------------------------------ for the exchange (Client)

    def interim(self, response: Response) -> None:
        if response.status == 100:  # once, as soon as the content is first wanted (RFC 9110 10.1.1)
            if self.continued:
                return
            self.continued = True
        octets = self.writer.interim(response)
        if octets:
            self.send(octets)

    def respond(self, response: Response) -> None:
        exchange = self.exchange
        assert exchange is not None
        if self.reader.state is IN_CONTENT and (not self.continued or DRAIN_BYTES < self.reader.remaining < math.inf):
            # whether the client will still send its content is unknown, or it is more than will be read and dropped
            self.writer.keep_alive = False
        elif self.site.draining and not self.reader.held:  # the engine may have begun to end since the request came
            self.writer.keep_alive = False
        self.send(self.writer.head(response, self.site.date, self.site.server))

    def content(self, octets: Outgoing) -> None:
        if type(octets) is bytes:
            for piece in self.writer.content(octets):
                self.send(piece)
        else:
            assert isinstance(octets, FileSlice)
            if self.writer.count(len(octets)):
                self.send(octets)
            else:
                octets.close()

    def finished(self, trailers: FieldLines) -> None:
        writer, exchange = self.writer, self.exchange
        assert exchange is not None
        octets = writer.end(trailers)
        if octets:
            self.send(octets)
        self.exchange = None
        state = self.reader.state
        if state is IN_CONTENT or state is BROKEN:
            if not writer.keep_alive or state is BROKEN:
                self.phase = CLOSING
                self.deadline = self.turn.now + self.site.timeouts.write_s
                self.close(Close.LINGER)
                return
            self.phase = DRAIN
            self.drained = 0
            self.wants_data = True
            self.deadline = self.turn.now + self.site.timeouts.read_s
        elif writer.keep_alive and (self.site.retiring or not self.site.draining):
            self._next()
        else:
            self.phase = CLOSING
            self.deadline = self.turn.now + self.site.timeouts.write_s
            self.close(Close.FLUSH)

    def tunnel(self, response: Response) -> bytes:
        self.send(self.writer.head(response))
        self.phase = TUNNEL
        self.deadline = math.inf
        return self.reader.take_held()

    def close_after(self) -> None:
        self.writer.keep_alive = False

    def cut(self) -> None:
        self.exchange = None
        self.phase = CLOSING
        self.deadline = self.turn.now + self.site.timeouts.write_s
        # where the end of the connection is the end of the content, only a reset tells that it is not whole
        self.close(Close.ABORT if self.writer.close_delimited else Close.FLUSH)

    def read_content(self, wanted: bool) -> None:
        exchange = self.exchange
        if wanted and not self.continued and exchange is not None and not exchange.content_octets:
            self.interim(_CONTINUE)
        if wanted is not self.wants_data:
            self.wants_data = wanted
            self.touch()
        if wanted:
            self.last_read = self.turn.now
        elif self.phase is TUNNEL:  # while we read nothing, we do not see the client leave
            self.deadline = min(self.deadline, self.turn.now + self.site.timeouts.write_s)


def _plain_address(name: str) -> bytes:
    """Without the zone of IPv6, and as IPv4 where a listener for both has mapped it (RFC 4291 2.5.5.2)."""
    address = name.partition("%")[0]
    if address.startswith("::ffff:") and "." in address:
        address = address.removeprefix("::ffff:")
    return address.encode()


_NO_WRITER: Final = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=False)
_CONTINUE: Final = Response(100, (), b"Continue")
