"""What all exchanges of one server share: routes, services, limits, names, logs.

Promise: built once from the config by `server.py`; exchanges and fronts only read it or report.
Must never know: sockets, drivers. Next: `exchange.py`, which asks it.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from mypy_extensions import mypyc_attr

from gateway import __version__
from gateway.config import Route
from gateway.counts import Counts
from gateway.errors import GatewayError, Retry, Side
from gateway.observe.access_log import AccessLog, AccessRecord
from gateway.observe.error_log import ErrorLog, StderrLog
from gateway.pages import error_page
from protocols.fields import first, http_date, lower
from protocols.http1 import HeadLimits, Tokeniser
from protocols.message import FieldLine, Peer, Request, Response

if TYPE_CHECKING:
    from gateway.config import Limits, Timeouts
    from gateway.ends import Turn
    from gateway.exchange import Client, Exchange
    from gateway.forwarding import Forwarding
    from gateway.routing import Found

SOFTWARE: Final = f"gateway-suite/{__version__}".encode()
SERVER: Final = b"Server: gateway-suite\r\n"
"""The line Server, for responses whose origin gave none."""
_TWO_DIGITS: Final = [b"%02x" % number for number in range(256)]
DROPPED_NAMES: Final = 100
"""Of so many names of dropped fields the log tells."""


class Interface(Protocol):
    """Whom we call; what the exchange must know of it is declared as data."""

    needs_length: bool
    """It cannot start before the length of the content is known (CGI, SCGI)."""
    spools: bool
    """Content is kept whole before a worker is asked (request_buffering)."""

    running: int
    """Processes of its requests that have not ended; 0 where there are none."""

    def start(self, exchange: Exchange) -> None:
        """Begin one attempt; raises GatewayError, or reports to `exchange.failed` later."""

    def tick(self, now: float) -> None:
        """Called at every sweep with the driver's clock."""

    def let_go(self) -> None:
        """Close what is kept for the next request: there may be none for long."""

    def close(self) -> None:
        """Let go of what is idle, and end what still runs: the server ends."""


class Front(Protocol):
    """A client's connection, as far as the site knows it."""

    def drain(self) -> None:
        """The engine ends: take no further request; `make_room` comes again and again from now on."""

    def make_room(self, now: float) -> None:
        """Others wait for the engine: close between requests, or where none has come for a while."""


class Neighbours(Protocol):
    """The other engines of the server: what the rules of one must know of them."""

    def hold(self, connections: int) -> None:
        """So many client connections are ours now."""

    def connections(self) -> int:
        """How many client connections they have."""

    def waiting(self) -> bool:
        """Whether a client waits that no engine takes before one of them lets go of its own."""

    def may_run(self, route: int, limit: int) -> bool:
        """Count one more script of a route if all engines together run less than `limit`."""

    def has_run(self, route: int) -> None:
        """A script that `may_run` has counted is gone."""

    def starves(self, address: str) -> None:
        """A connection of ours waits at this worker for as long as others keep theirs."""

    def scarce(self, address: str) -> bool:
        """Whether somebody starved there of late: then no connection is kept."""

    def publish(self, route: int, values: Sequence[int]) -> None:
        """What was counted of a route; the number after the last one is for requests of none."""

    def tell(self, text: bytes) -> None:
        """What else there is to know of us, in place of what we told before."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Alone:
    """There is one engine only."""

    def hold(self, connections: int) -> None:
        """Nobody wants to know."""

    def connections(self) -> int:
        return 0

    def waiting(self) -> bool:
        return False

    def may_run(self, route: int, limit: int) -> bool:
        return True

    def has_run(self, route: int) -> None:
        """Nobody else counts."""

    def starves(self, address: str) -> None:
        """The pool itself sees to that."""

    def scarce(self, address: str) -> bool:
        return False

    def publish(self, route: int, values: Sequence[int]) -> None:
        """Nobody asks."""

    def tell(self, text: bytes) -> None:
        """Nobody asks."""


ALONE: Final = Alone()


class Resolver(Protocol):
    """Finds the route of a request, and the place in it."""

    def resolve(self, method: bytes, host: bytes, raw_target: bytes) -> Found:
        """Raises GatewayError."""


@dataclass(frozen=True, slots=True)
class Service:
    """A route with its interface, ready to be used."""

    route: Route
    interface: Interface
    counts: Counts = field(default_factory=Counts)


class Site:
    """The shared state of one server process."""

    unknown_peer = Peer(b"", b"", b"", b"", False)

    def __init__(
        self,
        turn: Turn,
        limits: Limits,
        timeouts: Timeouts,
        tokeniser: Tokeniser,
        forwarding: Forwarding,
        access_log: AccessLog | None,
        error_log: ErrorLog,
    ) -> None:
        self.turn = turn
        self.limits = limits
        self.timeouts = timeouts
        self.tokeniser = tokeniser
        self.head_limits = HeadLimits(limits.request_line, limits.header_fields, limits.header_count)
        self.response_limits = HeadLimits(64 * 1024, 64 * 1024, 256)
        self.forwarding = forwarding
        self.access_log = access_log
        self.error_log = error_log
        self.router: Resolver
        self.services: Sequence[Service] = ()
        self.counts = Counts()
        """Of requests that no route took."""
        self.fronts: set[Front] = set()
        self.exchanges = 0
        """How many exchanges are under way; the drain waits for 0, and for every connection of a client."""
        self.served = 0
        """How many exchanges are over."""
        self.requests = sys.maxsize
        """So many are enough: another engine is to take the place of this one."""
        self.draining = False
        self.retiring = False
        """It drains, and others go on in its place: nobody is in a hurry."""
        self.neighbours: Neighbours = ALONE
        self.wall = 0.0
        self.date = b""
        """The line Date, for responses whose origin gave none."""
        self.software = SOFTWARE
        self.server = SERVER
        self._looked = -1.0
        self._waiting = False
        """Whether others waited for their turn at that time."""
        self._prefix = b""
        self._count = 0
        self._high = b""
        """The prefix and all digits but the last two of the exchange ids that are given now."""
        self._dropped: set[bytes] = set()
        """Names of fields of which `report_dropped` has told."""
        self.begin(time.time())

    def begin(self, wall: float) -> None:
        """The process or thread that will run it stands: from here on its exchange ids are its own."""
        self._prefix = os.urandom(5).hex().encode() + b"-"
        self._count = 0
        self.tick(self.turn.now, wall)

    def tick(self, now: float, wall: float) -> None:
        """Called at every sweep with the driver's clock and the wall clock, both in seconds."""
        if int(wall) != int(self.wall):
            self.date = b"Date: %b\r\n" % http_date(int(wall))
            if self.access_log is not None:
                self.access_log.flush()
            self.error_log.flush()
        self.wall = wall

    # ------------------------------------------------------------------ connections

    def admit(self, front: Front) -> bool:
        """Count a client's connection; False if there are too many."""
        self.fronts.add(front)
        self.neighbours.hold(len(self.fronts))
        return len(self.fronts) + self.neighbours.connections() <= self.limits.connections

    def full(self) -> bool:
        """Whether a connection is to end with the response to the request that has just come: the engine has
        served enough, or others wait for their turn."""
        if self.draining or self.served + self.exchanges + 1 >= self.requests:
            return True
        if self.turn.now != self._looked:  # once for all that came at the same time
            self._looked = self.turn.now
            self._waiting = self.neighbours.waiting()
        return self._waiting

    def leave(self, front: Front) -> None:
        self.fronts.discard(front)
        self.neighbours.hold(len(self.fronts))

    def drain(self, *, retiring: bool = False) -> None:
        """The engine ends: idle connections close, the others after their response. A connection that has just come
        is served: its request is on the way. `retiring`: an idle one is given time for that, too. May come again."""
        self.draining = True
        self.retiring = retiring
        for front in list(self.fronts):
            front.drain()

    def exchange_id(self, client: Client, request: Request) -> bytes:
        """That of a web server or a trusted proxy, so that its log and ours can be put together; or a new one."""
        given: bytes | None = None
        if client.variables is not None:
            given = client.variables.get(b"EXCHANGE_ID")
        elif self.forwarding.trusts(client.peer):
            given = first(request.fields, b"x-request-id")
        if given and len(given) <= 128 and given.isascii() and given.replace(b"-", b"").isalnum():
            return given
        return self.new_exchange_id()

    def new_exchange_id(self) -> bytes:
        """Unique in this process's life and beyond."""
        low = self._count & 0xFF
        if not low:
            self._high = self._prefix + b"%x" % (self._count >> 8)
        self._count += 1
        return self._high + _TWO_DIGITS[low]

    def hash_key(self, exchange: Exchange, what: str) -> bytes:
        """What a request is told apart by: "client", "field:NAME" or "cookie:NAME"; the client where it has none of that."""
        kind, _, name = what.partition(":")
        value: bytes | None = None
        if kind == "field":
            value = first(exchange.request.fields, name.lower().encode())
        elif kind == "cookie":
            for line in exchange.request.fields:
                if lower(line[0]) == b"cookie":
                    for pair in line[1].split(b";"):
                        key, _, given = pair.strip().partition(b"=")
                        if key == name.encode() and value is None:
                            value = given
        return exchange.peer.remote_addr if value is None else value

    # ------------------------------------------------------------------ responses

    def error_response(self, exchange: Exchange, error: GatewayError) -> tuple[Response, bytes]:
        """A short, plain page: status, what it means for the reader, the exchange id."""
        page = error_page(error.status, exchange.id)
        fields: list[FieldLine] = [
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"X-Exchange-Id", exchange.id),
        ]
        fields += error.fields
        if error.retry_after_s:
            fields.append((b"Retry-After", b"%d" % error.retry_after_s))
        return Response(error.status, fields, length=len(page), keep_alive=not error.close), page

    # ------------------------------------------------------------------ reports

    def report_failure(self, exchange: Exchange, error: GatewayError) -> None:
        self._counts_of(exchange).failed(error.cause)
        level = "info" if error.side is Side.CLIENT else "error" if error.status >= 500 else "warn"
        self.error_log.log(
            level, f"{error.status} {error.cause}: {error.detail}", remedy=error.remedy,
            exchange=exchange.id.decode("latin-1"), route=error.route or route_name(exchange),
            upstream=exchange.upstream,
        )  # fmt: skip

    def report_client(self, peer: Peer, error: GatewayError) -> None:
        """What a client did wrong when none of its requests was under way."""
        self.counts.failed(error.cause)
        who = f"client {peer.remote_addr.decode('latin-1') or 'on a unix socket'}"
        self.error_log.log("info", f"{error.cause}: {who}: {error.detail}", remedy=error.remedy)

    def report_retry(self, exchange: Exchange, error: GatewayError) -> None:
        self._counts_of(exchange).retried()
        how = "nothing was processed" if error.retry is Retry.SAFE else "the method is idempotent"
        self.error_log.log(
            "warn", f"{error.cause}: {error.detail}; sent again, since {how}", remedy=error.remedy,
            exchange=exchange.id.decode("latin-1"), route=route_name(exchange), upstream=exchange.upstream,
        )  # fmt: skip

    def report_overrun(self, exchange: Exchange) -> None:
        """A script printed more content than its header has room for (SEMANTICS 25)."""
        self.error_log.log(
            "warn", "content beyond its Content-Length, or of a response that has none, was cut",
            remedy="correct the script's Content-Length, or leave it out",
            exchange=exchange.id.decode("latin-1"), route=route_name(exchange), upstream=exchange.upstream,
        )  # fmt: skip

    def report_dropped(self, exchange: Exchange, name: bytes) -> None:
        """A field that no script or worker gets, once for each name (SEMANTICS 13, 72)."""
        known = name.lower()
        if known in self._dropped or len(self._dropped) > DROPPED_NAMES:
            return
        self._dropped.add(known)
        text = name[:80].decode("latin-1")
        told, remedy = "", ""
        if len(self._dropped) > DROPPED_NAMES:  # whoever makes up names does not fill the log
            told = f"{DROPPED_NAMES} names of fields were not passed on, and no further ones are told"
        elif "_" in text:
            other = text.replace("_", "-")
            told = f"field {text} is not passed on: as a meta-variable it could not be told from {other}"
            remedy = f"let the client send {other}"
        else:
            told = f"field {text} is not passed on: its name has more in it than letters, digits and -"
            remedy = "let the client send it by another name"
        self.error_log.log(
            "warn", told, remedy=remedy, exchange=exchange.id.decode("latin-1"), route=route_name(exchange)
        )  # fmt: skip

    def stderr_log(self, exchange: Exchange) -> StderrLog:
        """Takes what a script prints to its stderr while it answers this exchange."""
        return self.error_log.stderr_of(exchange.id.decode("latin-1"), route_name(exchange), exchange.upstream)

    def log_stderr(self, exchange: Exchange, octets: bytes) -> None:
        """Some whole lines that came from a worker's stderr stream."""
        log = self.stderr_log(exchange)
        log.write(octets)
        log.close()

    def log_access(self, exchange: Exchange) -> None:
        """The exchange is over."""
        self.exchanges -= 1
        self.served += 1
        now = self.turn.now
        service = exchange.service
        if service is not None:
            counts = service.counts
            counts.left()
        else:
            counts = self._counts_of(exchange)
        counts.over(exchange.status, exchange.response_octets, now - exchange.started)
        log = self.access_log
        if log is None:
            return
        request = exchange.request
        route = exchange.found.route if exchange.found is not None else None
        log.log(
            AccessRecord(
                remote_addr=exchange.peer.remote_addr, time=self.wall, method=request.method,
                target=request.target, version=request.version, status=exchange.status,
                octets=exchange.response_octets, fields=request.fields,
                route=route.path if route else "-", interface=route.interface if route else "-",
                upstream=exchange.upstream,
                upstream_s=exchange.responded_at - exchange.started if exchange.responded_at else math.nan,
                total_s=now - exchange.started, exchange=exchange.id,
            )
        )  # fmt: skip

    def _counts_of(self, exchange: Exchange) -> Counts:
        found = exchange.found
        return self.services[found.route.number].counts if found is not None else self.counts


def route_name(exchange: Exchange) -> str:
    return exchange.found.route.path if exchange.found is not None else "-"
