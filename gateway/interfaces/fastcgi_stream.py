"""One request on a connection that carries many: the Call of its exchange.

Promise: what its client does not take yet holds up the others for less than a sweep, and costs memory that is bounded.
Must never know: the front. Next: `fastcgi_hub.py`, the connection; `gateway/exchange.py`, the other side.

FastCGI has no windows, so what a client does not take yet has to be kept. Where that is much on one connection, it is not
read any more; but whose client has taken nothing by the next sweep is slow, and all that is kept for it goes to an unlinked
file, as does what comes from then on. Only beyond 1 GiB of that the connection waits, and new requests take another one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from gateway.ends import OPEN
from gateway.errors import GatewayError, Retry, Side
from gateway.spool import Spool
from gateway.upstreams import health
from gateway.upstreams.connection import blame
from protocols.cgi import ScriptResponseReader
from protocols.fastcgi_events import EndRequest
from protocols.fastcgi_records import ProtocolStatus
from protocols.message import RemoteProtocolError

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.interfaces.fastcgi_hub import Hub

PIECE_BYTES: Final = 64 * 1024
"""So much a client is given in one round."""


class Stream:
    """One request on a hub."""

    __slots__ = (
        "answered", "end", "exchange", "hub", "kept", "kept_bytes", "mark", "moved", "paused", "reader", "request_id",
        "spoke", "spool", "sweeps", "upstream",
    )  # fmt: skip

    def __init__(self, hub: Hub, exchange: Exchange, request_id: int) -> None:
        self.hub = hub
        self.upstream = hub.upstream
        self.exchange: Exchange | None = exchange
        self.request_id = request_id
        self.mark = hub.writes
        """How often the connection had taken something before."""
        self.spoke = -1
        """The last round in which it sent content: one piece a round leaves room for the others."""
        self.reader = ScriptResponseReader(request_method=exchange.request.method)
        self.answered = False
        self.paused = False
        """Whether the client takes nothing at the moment."""
        self.kept: deque[bytes] | None = None
        """What it has still to take."""
        self.kept_bytes = 0
        self.moved = False
        """Whether its client has taken some of that since the last sweep."""
        self.sweeps = 0
        """At how many it was among those that held up the others."""
        self.spool: Spool | None = None
        """What comes after that."""
        self.end: EndRequest | None = None
        """The worker's last word, that waits for what is kept to be taken."""

    # ------------------------------------------------------------------ for the exchange (Call)

    @property
    def full(self) -> bool:
        hub = self.hub
        return self.end is None and (hub.held > 0 or self.spoke == hub.round or not hub.is_open)

    def room(self) -> None:
        hub = self.hub
        hub.waiting.append(self)
        hub.wants_room = True
        hub.gather()

    def content(self, octets: bytes) -> None:
        if self.end is not None:  # it has answered without, and its client has not taken all of that yet
            return
        hub = self.hub
        self.spoke = hub.round
        hub.codec.stdin(self.request_id, octets)
        hub.gather()

    def content_end(self) -> None:
        if self.end is None:
            self.hub.codec.stdin_end(self.request_id)
            self.hub.gather()

    def abort(self, *, client_left: bool = False) -> None:
        """ABORT_REQUEST; the id is used again once the worker has confirmed (39)."""
        self.exchange = None
        self.drop_kept()
        if self.end is None and self.hub.closing is OPEN:
            hub = self.hub
            hub.codec.abort(self.request_id)
            hub.aborted[self] = hub.turn.now
            hub.gather()

    def read(self, wanted: bool) -> None:
        self.paused = not wanted
        if wanted and self.keeps():
            self.hub.draining[self] = None
            self.hub.gather()

    # ------------------------------------------------------------------ from the hub

    def printed(self, octets: bytes) -> None:
        self.answered = True
        if self.exchange is None:
            return
        if not self.paused and not self.keeps():
            self.pass_on(octets)
            return
        self.hub.keeping.add(self)
        if self.spool is None:
            if self.kept is None:
                self.kept = deque()
            self.kept.append(octets)
            self.kept_bytes += len(octets)
            self.hub.kept_bytes += len(octets)
        else:
            self._to_spool(octets)

    def to_file(self) -> None:
        """It is slow."""
        if self.spool is None and self.kept:
            octets = b"".join(self.kept)
            self._forget_kept()
            self.spool = Spool(0)
            self._to_spool(octets)

    def _to_spool(self, octets: bytes) -> None:
        assert self.spool is not None
        try:
            self.spool.write(octets)
        except OSError as error:
            self.give_up(
                GatewayError(
                    500, "spool", f"what a slow client does not take could not be kept on disk: {error.strerror}",
                    "free the disk of the temporary directory (TMPDIR)", side=Side.GATEWAY,
                )
            )  # fmt: skip

    def keeps(self) -> bool:
        """Whether its client has still to take something."""
        return self.kept_bytes > 0 or self.spool is not None

    def pass_on(self, octets: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        try:
            exchange.take(self.reader.receive(octets))
        except RemoteProtocolError as error:
            self.give_up(self.hub.interface.rubbish(self.upstream, error))

    def give_up(self, error: GatewayError) -> None:
        """The exchange fails, and the connection lives on."""
        exchange = self.exchange
        self.abort()
        if exchange is not None:
            exchange.call = None
            exchange.failed(error)

    def drain(self) -> None:
        """The client takes more: one piece, and the next one in the next round, if it still does."""
        if self.paused or not self.keeps():
            return
        self.moved = True
        self.pass_on(self._next_kept())
        if self.keeps():
            self.hub.draining[self] = None
            self.hub.gather()
            return
        self.drop_kept()
        if self.end is not None:
            self.finish(self.end)
        elif self.exchange is not None:
            self.exchange.wait_for_more()

    def _next_kept(self) -> bytes:
        kept = self.kept
        if not kept:
            spool = self.spool
            assert spool is not None
            octets = spool.read()
            if not spool.rest:
                spool.close()
                self.spool = None
            return octets
        pieces: list[bytes] = []
        length = 0
        while kept and length < PIECE_BYTES:
            piece = kept.popleft()
            pieces.append(piece)
            length += len(piece)
        self.kept_bytes -= length
        self.hub.kept_bytes -= length
        return b"".join(pieces) if len(pieces) > 1 else pieces[0]

    def drop_kept(self) -> None:
        if not self.keeps() and self not in self.hub.keeping:
            return
        self.hub.keeping.discard(self)
        self.hub.gather()  # it may have held up the others
        self._forget_kept()
        if self.spool is not None:
            self.spool.close()
            self.spool = None

    def _forget_kept(self) -> None:
        self.kept = None
        self.hub.kept_bytes -= self.kept_bytes
        self.kept_bytes = 0

    def ended(self, event: EndRequest) -> None:
        """END_REQUEST came."""
        self.end = event
        if self.exchange is not None and not self.keeps():
            self.finish(event)

    def finish(self, event: EndRequest) -> None:
        """All was passed on."""
        exchange = self.exchange
        if exchange is None:
            return
        self.exchange = None
        exchange.call = None
        interface = self.hub.interface
        member = self.hub.member
        if event.protocol_status is not ProtocolStatus.REQUEST_COMPLETE:
            if event.protocol_status is ProtocolStatus.OVERLOADED:
                interface.pool.struck(member)
            refusal = interface.rejected(self.upstream, event.protocol_status)
            blame(interface.pool, member, exchange, refusal)
            exchange.failed(refusal)
            return
        if member.strikes:
            health.well(member)
        if event.app_status:
            interface.site.log_stderr(exchange, b"exited with status %d\n" % event.app_status)
        try:
            events = self.reader.receive_eof()
        except RemoteProtocolError as error:
            exchange.failed(interface.rubbish(self.upstream, error))
            return
        if self.reader.overrun:
            interface.site.report_overrun(exchange)
        exchange.take(events)

    def fail(self, error: GatewayError) -> None:
        """The connection is lost."""
        exchange, self.exchange = self.exchange, None
        self.drop_kept()
        if exchange is not None:
            if self.answered:
                error.retry = Retry.NO
            elif error.cause == "worker-died" and self.hub.writes == self.mark:
                error.retry = Retry.SAFE  # not one octet of it was taken
            if error.cause != "worker-died" or error.retry is not Retry.SAFE:
                blame(self.hub.pool, self.hub.member, exchange, error)
            exchange.call = None
            exchange.failed(error)
