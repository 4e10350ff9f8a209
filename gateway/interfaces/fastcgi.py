"""The interface `fastcgi`: workers that speak FastCGI 1.0 in the Responder role.

Promise: no octet of one request ever reaches another; a connection is used again only after
END_REQUEST, and only where everything was sent (SEMANTICS 34 to 42, 92, 93).
Must never know: the front. Next: `protocols/fastcgi.py` for the records.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.ends import OPEN, Close, End, Open
from gateway.errors import GatewayError, Retry
from gateway.interfaces.fastcgi_hub import Hubs
from gateway.upstreams.connection import Connection, blame
from gateway.upstreams.places import Desk, PlacePool
from gateway.upstreams.pool import Down, Member, Pool, Roster
from gateway.variables import Variables
from protocols.cgi import ScriptResponseReader
from protocols.fastcgi import GatewayConnection
from protocols.fastcgi_events import EndRequest, Skipped, Stderr, Stdout, StdoutEnd, UnknownType, Values
from protocols.fastcgi_records import ProtocolStatus, RecordType, Role, encode_pair
from protocols.message import RemoteProtocolError

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange
    from gateway.site import Site

IDLE_S: Final = 5.0
"""Short: a worker that serves one connection at a time is pinned while we keep one (iipsrv#203)."""
ABORT_GRACE_S: Final = 2.0
"""How long after ABORT_REQUEST the worker has for its END_REQUEST before the connection is closed."""
MOST_PROCESSES: Final = 8
"""So many processes a worker of somebody else's has at most, as far as we know, and no more than the machine has cores
(all of them: what we are bound to says nothing of a worker)."""
PROBE_S: Final = 2.0
"""How long a worker has to answer FCGI_GET_VALUES before it counts as one that cannot."""
OWN_PROBE_S: Final = 0.2
"""Likewise one that we run: it is near, and while it is deaf to the question it may be deaf to requests, too."""


class FastcgiInterface:
    """One route's FastCGI workers."""

    needs_length = False

    def __init__(
        self, site: Site, route: Route, processes: int = 0, down: Down | None = None, spread: int = 0,
        desk: Desk | None = None, limit: float = math.inf, roster: Roster | None = None,
    ) -> None:  # fmt: skip
        """`desk`: the places of an application of our own, and `limit`: how much a worker there takes at a time."""
        self.running = 0
        self.site = site
        self.route = route
        self.processes = processes
        """How many worker processes of our own listen at the address; 0 for somebody else's."""
        self.spread = spread or min(MOST_PROCESSES, os.cpu_count() or 1)
        """How many processes of a worker that multiplexes are to get work: each has its connection."""
        self.spools = route.request_buffering
        self.variables = Variables(route, site.software, encode_pair)
        self.pool: Pool
        if desk is None:
            self.pool = Pool(
                site.turn, route.addresses, self._connection, self._ready, connect_s=route.connect_s,
                keepalive=route.keepalive, idle_s=IDLE_S, yields=True, multiplexes=bool(route.multiplex), down=down,
                shared=site, terms=route.terms, roster=roster, left=self._left,
            )  # fmt: skip
        else:
            self.pool = PlacePool(
                site.turn, route.addresses, self._connection, self._ready, connect_s=route.connect_s,
                keepalive=route.keepalive, idle_s=IDLE_S, multiplexes=bool(route.multiplex), down=down, shared=site,
                desk=desk, limit=limit, terms=route.terms,
            )  # fmt: skip
        self.probed: set[str] = set()
        self.hubs: dict[str, Hubs] = {}
        """Of each worker that multiplexes, by its address."""
        self.gone: list[Hubs] = []
        """Of those that are no workers of ours any more."""

    def start(self, exchange: Exchange) -> None:
        """Send the request on a connection that carries others, on a kept one, or on a new one."""
        pool = self.pool
        member = pool.choose(self.site.hash_key(exchange, pool.hash) if pool.hash else b"", exchange.avoid)
        if member.multiplexes:
            if member.open >= member.limit:
                pool.wait(exchange)
                return
            hubs = self.hubs.get(member.name)
            if hubs is None:
                hubs = self.hubs[member.name] = Hubs(self, member)
            hubs.serve(exchange)
            return
        # a kept connection may be closed just now, as php-fpm does when it reloads, and this could not be sent again
        fresh = exchange.stale or not exchange.request.idempotent
        connection = pool.take_from(member, fresh=fresh)
        if connection is None:
            pool.wait(exchange)
            return
        assert isinstance(connection, FastcgiConnection)
        connection.serve(exchange)
        asked = self.route.app or member.name  # the workers of one application are all alike
        if connection.used == 1 and self.route.keepalive and asked not in self.probed:
            self.probed.add(asked)
            self.probe(member)

    def probe(self, member: Member) -> None:
        """Ask a worker what it can do."""
        self.site.turn.orders.append(Open(member.address, Probe(self, member)))

    def tick(self, now: float) -> None:
        self.pool.tick(now)
        if self.gone:
            self.gone = [hubs for hubs in self.gone if hubs.leaving]
        for hubs in [*self.hubs.values(), *self.gone]:
            hubs.tick(self.pool.down, now)

    def let_go(self) -> None:
        self.pool.let_go()
        for hubs in self.hubs.values():
            hubs.let_go()

    def close(self) -> None:
        self.pool.close()
        for hubs in self.hubs.values():
            hubs.let_go()

    def _connection(self, pool: Pool, member: Member) -> FastcgiConnection:
        return FastcgiConnection(pool, member, self)

    def _left(self, member: Member) -> None:
        """It is no worker of ours any more, but for the requests that it has."""
        self.probed.discard(member.name)
        hubs = self.hubs.get(member.name)
        if hubs is not None:
            hubs.let_go()
            self.gone.append(self.hubs.pop(member.name))

    def _ready(self, exchange: Exchange) -> None:
        try:
            self.start(exchange)
        except GatewayError as error:
            exchange.failed(error)

    def learned(self, member: Member, values: dict[bytes, bytes]) -> None:
        """A worker has told its limits; those of our own, each at a place, are all alike.

        Several processes may share one socket, and then FCGI_MAX_CONNS = 1 speaks for one of them
        only (libfcgi under spawn-fcgi -F): it is believed where we know how many there are.
        """
        for other in self.pool.members if member.place is not None else [member]:
            self._learned(other, values)
        self.pool.serve_waiting()

    def _learned(self, member: Member, values: dict[bytes, bytes]) -> None:
        if self.route.multiplex is None:
            if values.get(b"FCGI_MPXS_CONNS") == b"1":
                if not member.multiplexes:
                    requests = values.get(b"FCGI_MAX_REQS", b"")
                    known = requests.isdigit() and 1 < int(requests) < 100_000
                    self.pool.share(member, (self.processes or 1) * int(requests) if known else math.inf)
                return
            if member.multiplexes:  # it is another program by now
                self.forget_multiplexing(member)
        told = values.get(b"FCGI_MAX_CONNS", b"")
        if told.isdigit() and 0 < int(told) < 100_000:
            if self.processes:
                self.pool.limit_to(member, self.processes * int(told))
                self.pool.yields = member.limit > 1 or member.place is None
            elif int(told) > 1:
                self.pool.limit_to(member, int(told))

    def forget_multiplexing(self, member: Member) -> None:
        """It takes one request at a time on each connection, whatever was said before."""
        member.multiplexes = False
        member.limit = self.pool.limit
        if member.name in self.hubs:
            self.hubs[member.name].let_go()

    # ------------------------------------------------------------------ words

    def rejected(self, upstream: str, status: ProtocolStatus) -> GatewayError:
        """The error for a request that a worker did not take."""
        if status is ProtocolStatus.UNKNOWN_ROLE:
            return GatewayError(
                500, "unknown-role", f"{upstream} does not play the Responder role",
                "it may be an Authorizer or a Filter: use a program that answers requests",
            )  # fmt: skip
        if status is ProtocolStatus.OVERLOADED:
            return GatewayError(
                503, "overloaded", f"{upstream} is overloaded", "add workers", retry=Retry.SAFE, retry_after_s=5
            )
        return GatewayError(
            503, "cannot-multiplex", f"{upstream} takes one request at a time", retry=Retry.SAFE, retry_after_s=1
        )

    def rubbish(self, upstream: str, error: RemoteProtocolError) -> GatewayError:
        """The error for a response that is none."""
        return GatewayError(
            502, "bad-response", f"{upstream}: {error.detail}",
            "see the worker's stderr above, or whether the address is that of a FastCGI worker",
        )  # fmt: skip

    def report_skipped(self, upstream: str, event: Skipped) -> None:
        """Records that were never taken for another request's (34); to be told once a connection."""
        kind = RecordType(event.type).name if event.type in RecordType._value2member_map_ else f"type {event.type}"
        self.site.error_log.log(
            "warn", f"records that belong to no request were skipped, the first of them {kind} with "
            f"request id {event.request_id}",
            remedy="the worker's FastCGI library sends after END_REQUEST, or to a wrong id: look for a newer one",
            upstream=upstream,
        )  # fmt: skip


class FastcgiConnection(Connection["Exchange"]):
    """One connection to a worker; one request at a time travels on it."""

    __slots__ = (
        "aborting", "answered", "codec", "ended_stdout", "interface", "reader", "request_id", "sent", "skipped",
    )  # fmt: skip

    def __init__(self, pool: Pool, member: Member, interface: FastcgiInterface) -> None:
        super().__init__(pool, member)
        self.interface = interface
        self.codec = GatewayConnection()
        self.reader = ScriptResponseReader()
        self.request_id = 0
        self.sent = self.answered = self.ended_stdout = self.aborting = False
        self.skipped = False
        """Whether it was logged already that records belonged to no request of ours."""

    def serve(self, exchange: Exchange) -> None:
        """Carry this exchange."""
        interface, codec = self.interface, self.codec
        self.exchange = exchange
        self.answered = self.ended_stdout = self.aborting = False
        self.reader = ScriptResponseReader(request_method=exchange.request.method)
        whole = exchange.whole_content()
        self.request_id = codec.begin(
            Role.RESPONDER, interface.variables.encoded(exchange), interface.route.keepalive > 0, whole
        )
        self.sent = whole is not None
        self._flush()
        exchange.connected(self)
        if whole is None:
            exchange.pump()

    def _flush(self) -> None:
        for octets in self.codec.outgoing():
            self.send(octets)

    # ------------------------------------------------------------------ for the exchange (Call)

    def content(self, octets: bytes) -> None:
        self.codec.stdin(self.request_id, octets)
        self._flush()

    def content_end(self) -> None:
        self.sent = True
        self.codec.stdin_end(self.request_id)
        self._flush()

    def abort(self, *, client_left: bool = False) -> None:
        """ABORT_REQUEST, and the connection lives on once the worker has confirmed (39)."""
        exchange, self.exchange = self.exchange, None
        if not self.open or self.closing is not OPEN:
            self.close(Close.ABORT)
            return
        self.codec.abort(self.request_id)
        self._flush()
        self.read(True)
        kept = exchange is not None and self.pool.given_up(self, exchange, answered=self.answered)
        if self.sent and (kept or self.interface.route.keepalive):
            self.aborting = True
            if not kept:
                self.deadline = self.turn.now + ABORT_GRACE_S
        else:  # STDIN is not complete: the stream can't be brought back into step
            self.close(Close.FLUSH)

    # ------------------------------------------------------------------ from the driver

    def received(self, octets: bytes, now: float) -> None:
        if not self.proven:
            self.pool.proved(self)
        exchange = self.exchange
        try:
            events = self.codec.receive(octets)
            if exchange is None:
                self._late(events)
                return
            for event in events:
                kind = type(event)
                if kind is Stdout:
                    self.answered = True
                    exchange.take(self.reader.receive(event.octets))  # type: ignore[union-attr]
                elif kind is EndRequest:
                    if event is not events[-1]:
                        for later in events:
                            if type(later) is Skipped:
                                self._skip(later)
                    self._end(exchange, event)  # type: ignore[arg-type]
                    return
                elif kind is Stderr:
                    self._log(exchange, event.octets)  # type: ignore[union-attr]
                elif kind is StdoutEnd:
                    self.ended_stdout = True
                elif kind is Skipped:
                    self._skip(event)  # type: ignore[arg-type]
                if self.exchange is not exchange:
                    later_from = events.index(event) + 1
                    self._late(events[later_from:])
                    return
            exchange.wait_for_more()
        except RemoteProtocolError as error:
            self.fail(self.interface.rubbish(self.upstream, error))

    def _late(self, events: Sequence[object]) -> None:
        """What comes after an abort is dropped, until END_REQUEST makes the connection usable."""
        ended = False
        for event in events:
            if type(event) is Skipped:
                self._skip(event)
            elif type(event) is EndRequest:
                ended = self.aborting
        if ended:
            self.aborting = False
            self.finish(keep=self.interface.route.keepalive > 0)
            return
        if self.aborting and self.due and events:  # it writes: once the connection is closed, it finds out
            self.due = 0.0
            self.deadline = self.turn.now + ABORT_GRACE_S
        if not self.aborting and not self.busy:  # nobody asked
            self.pool.retire(self)

    def _end(self, exchange: Exchange, end: EndRequest) -> None:
        status = end.protocol_status
        if status is not ProtocolStatus.REQUEST_COMPLETE:
            self.exchange = None
            exchange.call = None
            if status is ProtocolStatus.UNKNOWN_ROLE:
                self.finish(keep=self.sent)
            else:  # what has been kept would be asked again at once, and a new connection is taken most likely (36)
                exchange.stale = True
                if status is ProtocolStatus.OVERLOADED:
                    self.pool.struck(self.member)
                self.pool.release(self, keep=False)
            error = self.interface.rejected(self.upstream, status)
            blame(self.pool, self.member, exchange, error)
            exchange.failed(error)
            return
        if end.app_status:
            self._log(exchange, b"exited with status %d\n" % end.app_status)
        events = self.reader.receive_eof()
        if self.reader.overrun:
            self.interface.site.report_overrun(exchange)
        self.exchange = None
        exchange.call = None
        exchange.take(events)
        # a worker may answer before it has read everything; then STDIN is not complete (92)
        self.finish(keep=self.sent and self.interface.route.keepalive > 0)

    def ended(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        if self.interface.route.keepalive == 0 and self.ended_stdout:  # sloppy, but whole (93)
            try:
                events = self.reader.receive_eof()
            except RemoteProtocolError as error:
                self.fail(self.interface.rubbish(self.upstream, error))
                return
            self.exchange = None
            exchange.call = None
            exchange.take(events)
            self.finish(keep=False)
            return
        super().ended()

    # ------------------------------------------------------------------ words

    def broken_off(self, error: OSError | None = None) -> GatewayError:
        failure = super().broken_off(error)
        if self.answered:
            failure.retry = Retry.NO
        return failure

    def _skip(self, event: Skipped) -> None:
        if not self.skipped:
            self.skipped = True
            self.interface.report_skipped(self.upstream, event)

    def _log(self, exchange: Exchange, octets: bytes) -> None:
        self.interface.site.log_stderr(exchange, octets)


class Probe(End):
    """Asks a worker once what it can do (FastCGI 4.1), on a connection of its own.

    Of its own, because php-fpm closes the connection after its answer, and others never answer.
    """

    __slots__ = ("codec", "interface", "member")

    def __init__(self, interface: FastcgiInterface, member: Member) -> None:
        super().__init__(interface.site.turn)
        self.interface = interface
        self.member = member
        self.codec = GatewayConnection()
        self.codec.get_values()
        for octets in self.codec.outgoing():
            self.send(octets)
        self.deadline = self.turn.now + (PROBE_S if member.place is None else OWN_PROBE_S)

    def received(self, octets: bytes, now: float) -> None:
        try:
            for event in self.codec.receive(octets):
                if type(event) is Values:
                    self.interface.learned(self.member, event.pairs)
                if type(event) in (Values, UnknownType):
                    self.close(Close.ABORT)
        except RemoteProtocolError:
            self.close(Close.ABORT)

    def received_eof(self, now: float) -> None:
        self.close(Close.ABORT)

    def expired(self, now: float) -> None:
        self.close(Close.ABORT)
