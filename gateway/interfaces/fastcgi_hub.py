"""Multiplexed FastCGI: connections to a worker that carry many requests at the same time (FastCGI 3.3).

Promise: no octet of one request ever reaches another; what comes in one round of the loop leaves in one write; a slow
client holds up its own stream only, and costs memory that is bounded; a large upload leaves room for the others.
Must never know: the front. Next: `fastcgi.py`, which decides who multiplexes; `protocols/fastcgi.py` for the records.

FastCGI has no windows, so what a client does not take yet has to be kept. Beyond KEPT_BYTES the connection is not read
any more; but who is found at a sweep to hold it up is slow, and what comes for it from then on goes to an unlinked
file. Beyond FILE_BYTES that one holds up the connection, too, and new requests go to another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.ends import OPEN, Close, End, Gather, Open
from gateway.errors import GatewayError, Retry
from gateway.interfaces.fastcgi_stream import Stream
from gateway.upstreams import health
from gateway.upstreams.connection import FLUSH_S, broken_off, not_connected, too_late
from gateway.upstreams.pool import Member
from protocols.fastcgi import GatewayConnection
from protocols.fastcgi_events import EndRequest, Skipped, Stderr, Stdout
from protocols.fastcgi_records import ProtocolStatus, Role
from protocols.message import RemoteProtocolError

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.interfaces.fastcgi import FastcgiInterface

STREAMS: Final = 1024
"""Requests on one connection, those included that were aborted and have not been ended."""
CROWDED: Final = 64
"""Who has as many on each connection opens a further one, beyond those for the worker's processes."""
KEPT_BYTES: Final = 8 * 1024 * 1024
"""What is kept in memory for the clients of one connection that do not take it yet."""
PATIENCE: Final = 4
"""Sweeps at which one that takes some, but not all, may be among those that hold up the others."""
FILE_BYTES: Final = 1 << 30
"""What is kept on disk for one that is slow."""
ABORTED_S: Final = 30.0
"""How long a worker has to confirm that it has given a request up."""
IDLE_S: Final = 60.0
"""Long: a worker that multiplexes is not kept from anything by a connection."""


class Hubs:
    """The connections to one worker that multiplexes."""

    def __init__(self, interface: FastcgiInterface, member: Member) -> None:
        self.interface = interface
        self.member = member
        self.open: list[Hub] = []
        """Those that take requests."""
        self.leaving: set[Hub] = set()
        """Those that take no more."""
        self.crowded, self.kept_bytes, self.file_bytes = CROWDED, KEPT_BYTES, FILE_BYTES
        self.doubtful = False
        """Whether who listens there is to be asked again."""

    def serve(self, exchange: Exchange) -> None:
        """Send the request."""
        interface = self.interface
        best: Hub | None = None
        for number, hub in enumerate(self.open, 1):
            if not hub.clogged and (best is None or hub.codec.active < best.codec.active):
                best = hub
            if number >= interface.spread and best is not None and best.codec.active < self.crowded:
                break  # the further ones are for when these are crowded: idle, they close
        most = interface.spread if best is not None and best.codec.active < self.crowded else interface.route.keepalive
        if best is None or (best.codec.active and len(self.open) < most):
            best = Hub(self)
            self.open.append(best)
            if self.doubtful:
                self.doubtful = False
                self.interface.probe(self.member)
        if best.codec.active >= STREAMS:
            raise GatewayError(
                503, "queue-full", f"{best.upstream} has {len(self.open)} times {STREAMS} requests already",
                "add workers, or find out what keeps them busy", retry_after_s=5, retry=Retry.NO,
            )  # fmt: skip
        interface.pool.began(self.member)
        best.serve(exchange)

    def tick(self, down: Callable[[float], GatewayError | None] | None, now: float) -> None:
        """Called at every sweep."""
        if self.member.place is not None and not self.member.place.takes():
            self.let_go()
        for hub in [*self.open, *self.leaving]:
            if hub.clogged:
                hub.find_slow()
            if hub.aborted and now - next(iter(hub.aborted.values())) >= ABORTED_S:
                hub.give_up_aborted()
        if down is not None:
            self._give_up(down, now)

    def _give_up(self, down: Callable[[float], GatewayError | None], now: float) -> None:
        """Who waits in the backlog of workers that all died need not wait for longer."""
        for hub in list(self.open):
            if not hub.proven and hub.streams:
                error = down(now)
                if error is None:
                    return
                hub.fail_all(partial(self._down, down, now))

    def _down(self, down: Callable[[float], GatewayError | None], now: float) -> GatewayError:
        return down(now) or not_connected(self.member.name, None)

    def retire(self, hub: Hub, *, doubtful: bool = False) -> None:
        """It takes no more requests; `doubtful`: the worker may have been replaced by another program."""
        if hub in self.open:
            self.open.remove(hub)
            self.leaving.add(hub)
            if doubtful and self.interface.route.multiplex is None:
                self.doubtful = True

    def gone(self, hub: Hub) -> None:
        self.retire(hub, doubtful=True)
        self.leaving.discard(hub)

    def let_go(self) -> None:
        """Close those that carry nothing, and the others when they do no more."""
        for hub in list(self.open):
            self.retire(hub)
            hub.leave()


class Hub(End):
    """One connection, and the requests on it."""

    __slots__ = (
        "aborted", "clogged", "codec", "draining", "gathers", "hubs", "interface", "is_open", "keeping", "kept_bytes",
        "member", "pool", "proven", "round", "skipped", "streams", "waiting",
    )  # fmt: skip

    def __init__(self, hubs: Hubs) -> None:
        interface = hubs.interface
        super().__init__(interface.site.turn)
        self.hubs = hubs
        self.interface = interface
        self.pool = interface.pool
        self.member = hubs.member
        self.codec = GatewayConnection(STREAMS)
        self.streams: dict[int, Stream] = {}
        """By request id, until END_REQUEST: those that were aborted, too."""
        self.is_open = False
        self.proven = False
        self.clogged = False
        """Whether it is not read: too much is kept for somebody."""
        self.skipped = False
        self.gathers = False
        """Whether it is called when this round is over."""
        self.round = 0
        self.waiting: list[Stream] = []
        """Streams that want room for their content, in turn."""
        self.aborted: dict[Stream, float] = {}
        """Streams of which the worker has been told that nobody wants them, and when; until END_REQUEST."""
        self.keeping: set[Stream] = set()
        """Streams for whose clients something is kept."""
        self.kept_bytes = 0
        """How much of that is in memory."""
        self.draining: dict[Stream, None] = {}
        """Streams whose clients take what was kept for them."""
        connect_s = self.pool.connect_s
        self.deadline = self.turn.now + connect_s if connect_s else math.inf
        self.turn.orders.append(Open(self.member.address, self))

    @property
    def upstream(self) -> str:
        return self.member.name

    def serve(self, exchange: Exchange) -> None:
        """Carry one more."""
        interface = self.interface
        whole = exchange.whole_content()
        request_id = self.codec.begin(Role.RESPONDER, interface.variables.encoded(exchange), True, whole)
        stream = self.streams[request_id] = Stream(self, exchange, request_id)
        if self.is_open:
            self.deadline = math.inf
        self.gather()
        exchange.connected(stream)
        if whole is None:
            exchange.pump()

    # ------------------------------------------------------------------ once a round

    def gather(self) -> None:
        """Write what was said in this round of the loop, once it is over."""
        if not self.gathers:
            self.gathers = True
            self.turn.orders.append(Gather(self))

    def gathered(self, now: float) -> None:
        self.gathers = False
        self.round += 1
        draining = self.draining
        if draining:
            self.draining = {}
            for stream in draining:
                stream.drain()
        if self.clogged or self.keeping:
            self._look()
        said = self.codec.outgoing()
        if said and self.closing is OPEN:
            self.send(b"".join(said) if len(said) > 1 else said[0])
        self.touch()

    # ------------------------------------------------------------------ from the driver

    def connected(self, now: float) -> None:
        self.is_open = True
        self.deadline = math.inf

    def unsent(self, length: int, now: float) -> None:
        """Each stream that waits sends one piece before any of them sends another."""
        self.held = length
        if not length and self.waiting:
            waiting, self.waiting = self.waiting, []
            for stream in waiting:
                if stream.exchange is not None:
                    stream.exchange.pump()

    def received(self, octets: bytes, now: float) -> None:
        if not self.proven:
            self.proven = True
            health.answers(self.member)
        try:
            events = self.codec.receive(octets)
        except RemoteProtocolError as error:
            self.fail_all(partial(self.interface.rubbish, self.upstream, error))
            return
        streams = self.streams
        said: list[Stream] = []
        for event in events:
            kind = type(event)
            if kind is Stdout:
                stream = streams[event.request_id]  # type: ignore[union-attr]
                stream.printed(event.octets)  # type: ignore[union-attr]
                said.append(stream)
            elif kind is EndRequest:
                self._end(event)  # type: ignore[arg-type]
            elif kind is Stderr:
                stream = streams[event.request_id]  # type: ignore[union-attr]
                if stream.exchange is not None:
                    self.interface.site.log_stderr(stream.exchange, event.octets)  # type: ignore[union-attr]
            elif kind is Skipped:
                self._skip(event)  # type: ignore[arg-type]
        for stream in said:
            exchange = stream.exchange
            if exchange is not None and stream.end is None:
                exchange.wait_for_more()
        self._look()

    def _end(self, event: EndRequest) -> None:
        stream = self.streams.pop(event.request_id)
        self.aborted.pop(stream, None)
        self.pool.over(self.member)
        status = event.protocol_status
        if status is ProtocolStatus.OVERLOADED:
            self.hubs.retire(self)
        elif status is ProtocolStatus.CANT_MPX_CONN:
            self.interface.forget_multiplexing(self.member)
        stream.ended(event)
        if self.pool.waiting:
            self.pool.serve_waiting()
        if not self.streams:
            if self in self.hubs.leaving:
                self.leave()
            else:
                self.deadline = self.turn.now + IDLE_S

    def _look(self) -> None:
        """Read no more while one that does not take its share has too much here."""
        clogged = self.kept_bytes > self.hubs.kept_bytes
        for stream in self.keeping:
            if stream.spool is not None and stream.spool.rest > self.hubs.file_bytes:
                clogged = True
        if clogged is not self.clogged:
            self.clogged = clogged
            self.wants_data = not clogged
            self.touch()

    def find_slow(self) -> None:
        """Those whose clients have taken nothing since the last sweep, or for long not all, are not waited for."""
        if self.kept_bytes > self.hubs.kept_bytes:
            for stream in list(self.keeping):
                stream.sweeps += 1
                if stream.paused and (not stream.moved or stream.sweeps > PATIENCE):
                    stream.to_file()
                stream.moved = False
            self._look()

    def give_up_aborted(self) -> None:
        """The worker does not confirm aborts: no more on this connection, which ends with the last one that is wanted."""
        self.hubs.retire(self)
        if len(self.aborted) == len(self.streams):
            self.fail_all(partial(broken_off, self.upstream, None))

    def leave(self) -> None:
        """Close once nothing is under way."""
        if not self.streams and self.closing is OPEN:
            self.deadline = self.turn.now + FLUSH_S
            self.close(Close.FLUSH)

    def received_eof(self, now: float) -> None:
        self.hubs.retire(self, doubtful=True)
        if self.streams:
            self.fail_all(partial(broken_off, self.upstream, None))
        else:
            self.close(Close.FLUSH)

    def expired(self, now: float) -> None:
        if self.closing is not OPEN:
            self.close(Close.ABORT)
        elif self.is_open:
            self.hubs.retire(self)
            self.leave()
        else:
            self.pool.struck(self.member)
            self.fail_all(partial(too_late, self.pool, self.upstream))

    def lost(self, error: OSError | None, now: float) -> None:
        self.hubs.gone(self)
        if not self.is_open:
            if error is not None:
                self.pool.struck(self.member)
            self._tell_all(partial(not_connected, self.upstream, error))
        else:
            self._strike()
            self._tell_all(partial(broken_off, self.upstream, error))

    def fail_all(self, error: Callable[[], GatewayError]) -> None:
        """End the connection, and tell each of those that it carried."""
        self.hubs.retire(self, doubtful=True)
        self._strike()
        self.close(Close.ABORT)
        self._tell_all(error)

    def _strike(self) -> None:
        """It breaks off what it has; where nothing of that was sent, it may have been closed for its age."""
        if any(stream.exchange is not None and stream.mark != self.writes for stream in self.streams.values()):
            self.pool.struck(self.member)

    def _tell_all(self, error: Callable[[], GatewayError]) -> None:
        streams, self.streams = self.streams, {}
        self.pool.over(self.member, len(streams))
        for stream in streams.values():
            stream.fail(error())
        if self.pool.waiting:
            self.pool.serve_waiting()

    # ------------------------------------------------------------------ words

    def _skip(self, event: Skipped) -> None:
        if not self.skipped:
            self.skipped = True
            self.interface.report_skipped(self.upstream, event)
