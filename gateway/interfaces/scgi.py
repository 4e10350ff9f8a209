"""The interface `scgi`: workers that speak SCGI 1, one connection a request.

Promise: the length of the content is known before the worker is asked; the worker's end of file,
and nothing else, ends its response (SEMANTICS 46, 47, 99).
Must never know: the front. Next: `protocols/scgi.py` for the netstring.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.ends import OPEN
from gateway.errors import GatewayError, Retry
from gateway.upstreams.connection import Connection
from gateway.upstreams.places import Desk, PlacePool
from gateway.upstreams.pool import Down, Member, Pool, Roster
from gateway.variables import Variables
from protocols.cgi import ScriptEvent, ScriptResponseReader
from protocols.message import RemoteProtocolError
from protocols.scgi import encode_pair, head_of

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange
    from gateway.site import Site

IDLE_S: Final = 30.0
"""How long a connection that was opened ahead of need is kept."""


class ScgiInterface:
    """One route's SCGI workers."""

    needs_length = True
    spools = False

    def __init__(
        self, site: Site, route: Route, down: Down | None = None, desk: Desk | None = None, limit: float = math.inf,
        roster: Roster | None = None,
    ) -> None:  # fmt: skip
        """`desk`: the places of an application of our own, and `limit`: how much a worker there takes at a time."""
        self.running = 0
        self.site = site
        self.route = route
        self.variables = Variables(route, site.software, encode_pair, ours=(b"CONTENT_LENGTH", b"SCGI"))
        self.pool: Pool
        if desk is None:
            self.pool = Pool(
                site.turn, route.addresses, self._connection, self._ready, connect_s=route.connect_s,
                keepalive=0, idle_s=IDLE_S, brief=True, ahead=route.preconnect, down=down, terms=route.terms, roster=roster,
            )  # fmt: skip
        else:
            self.pool = PlacePool(
                site.turn, route.addresses, self._connection, self._ready, connect_s=route.connect_s,
                keepalive=0, idle_s=IDLE_S, brief=True, ahead=route.preconnect, down=down, desk=desk, limit=limit,
                terms=route.terms,
            )  # fmt: skip

    def start(self, exchange: Exchange) -> None:
        """Send the request on a connection of its own."""
        pool = self.pool
        key = self.site.hash_key(exchange, pool.hash) if pool.hash else b""
        connection = pool.take(fresh=exchange.stale, key=key, avoid=exchange.avoid)
        if connection is None:
            pool.wait(exchange)
            return
        assert isinstance(connection, ScgiConnection)
        connection.serve(exchange)

    def tick(self, now: float) -> None:
        self.pool.tick(now)

    def let_go(self) -> None:
        self.pool.let_go()

    def close(self) -> None:
        self.pool.close()

    def _connection(self, pool: Pool, member: Member) -> ScgiConnection:
        return ScgiConnection(pool, member, self)

    def _ready(self, exchange: Exchange) -> None:
        try:
            self.start(exchange)
        except GatewayError as error:
            exchange.failed(error)


class ScgiConnection(Connection["Exchange"]):
    """One connection to a worker, for one request."""

    __slots__ = ("interface", "reader")

    def __init__(self, pool: Pool, member: Member, interface: ScgiInterface) -> None:
        super().__init__(pool, member)
        self.interface = interface
        self.reader = ScriptResponseReader()

    def serve(self, exchange: Exchange) -> None:
        """Carry this exchange."""
        self.exchange = exchange
        self.reader = ScriptResponseReader(request_method=exchange.request.method)
        whole = exchange.whole_content()
        head = head_of(self.interface.variables.encoded(exchange), exchange.content_length or 0)
        self.send(head + whole if whole else head)
        exchange.connected(self)
        if whole is None:
            exchange.pump()

    # ------------------------------------------------------------------ for the exchange (Call)

    def content(self, octets: bytes) -> None:
        self.send(octets)

    def content_end(self) -> None:
        """Nothing to say: CONTENT_LENGTH has told it, and a half-close is taken for an abort by some."""

    # ------------------------------------------------------------------ from the driver

    def received(self, octets: bytes, now: float) -> None:
        exchange = self.exchange
        if exchange is None:
            if self.closing is OPEN:  # it speaks before it is asked
                self.pool.retire(self)
            return
        if not self.proven:
            self.pool.proved(self)
        try:
            events = self.reader.receive(octets)
        except RemoteProtocolError as error:
            self.fail(self._rubbish(error))
            return
        exchange.take(events)
        exchange.wait_for_more()

    def ended(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        try:
            events = self.reader.receive_eof()
        except RemoteProtocolError as error:
            if self.proven:
                self.fail(self._rubbish(error))
            else:
                super().ended()
            return
        self._complete(exchange, events)
        self.finish(keep=False)

    def lost(self, error: OSError | None, now: float) -> None:
        """A worker that closes with content unread resets the connection behind its answer (RFC 1122 4.2.2.13):
        where there was content, a reset is an end of file, and the answer stands if it is whole (63)."""
        exchange = self.exchange
        if (
            exchange is not None and self.proven and error is not None and error.errno == errno.ECONNRESET
            and exchange.content_length
        ):  # fmt: skip
            try:
                events = self.reader.receive_eof()
            except RemoteProtocolError:
                pass
            else:
                self._complete(exchange, events)
        super().lost(error, now)

    def _complete(self, exchange: Exchange, events: Sequence[ScriptEvent]) -> None:
        if self.reader.overrun:
            self.interface.site.report_overrun(exchange)
        self.exchange = None
        exchange.call = None
        exchange.take(events)

    # ------------------------------------------------------------------ words

    def broken_off(self, error: OSError | None = None) -> GatewayError:
        failure = super().broken_off(error)
        if self.proven:
            failure.retry = Retry.NO
        return failure

    def _rubbish(self, error: RemoteProtocolError) -> GatewayError:
        return GatewayError(
            502, "bad-response", f"{self.upstream}: {error.detail}",
            "see the worker's log, or whether the address is that of an SCGI worker",
        )  # fmt: skip
