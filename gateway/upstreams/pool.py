"""Connections to the workers of one target: kept, bounded, waited for.

Promise: decisions only; a new connection is an order. Never more connections than a worker is
known to serve, and no idle one that keeps another waiting (SEMANTICS 41, 98).
Must never know: what travels on the connections. Next: `interfaces/fastcgi.py`, a user.

A connection is *proven* once octets came from it. One that is busy but unproven may sit in the backlog
of a worker process that serves one connection at a time, and would wait for as long as we keep another
one at that process. So a pool that `yields` lets go of a connection when an unproven one is older than
the request that has just ended (unless as many were served at the same time before), and of idle ones when an
unproven one has waited for YIELD_S. Where several
engines keep connections to the same workers, a pool also tells the others that it starves, and none of
them keeps any for a while.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from gateway.ends import OPEN, Address, Close, Open, Turn
from gateway.errors import GatewayError, Retry

if TYPE_CHECKING:
    from gateway.upstreams.connection import Carried, Connection
    from gateway.upstreams.places import Place

YIELD_S: Final = 0.2
PAUSE_S: Final = 5.0
"""A worker that refused a connection is passed over this long, if there are others."""


class Member:
    """One address of a target."""

    __slots__ = (
        "address", "down_until", "idle", "least_idle", "limit", "looked_at", "multiplexes", "name", "open", "place",
        "proven", "scarce", "served", "unproven",
    )  # fmt: skip

    def __init__(self, address: Address, limit: float) -> None:
        self.address = address
        self.name = str(address)
        self.limit = limit
        """How many connections the worker serves at the same time, as far as it is known."""
        self.multiplexes = False
        """Whether requests share a connection: then `limit` and `open` count requests."""
        self.idle: list[Connection[Any]] = []
        self.open = 0
        self.least_idle = 0
        """Since the last sweep."""
        self.proven = 0
        """How many of those that are open have been served."""
        self.served = 0
        """The most that were at the same time, as far as we know: so many cannot keep each other waiting."""
        self.unproven: dict[Connection[Any], float] = {}
        """Since when each waits, oldest first."""
        self.down_until = 0.0
        self.looked_at = -1.0
        self.scarce = False
        """Whether a neighbour starved there of late, when we last looked."""
        self.place: Place | None = None
        """Where a worker of our own is, or may be; None for somebody else's."""


Down: TypeAlias = Callable[[float], GatewayError | None]
"""Asked with the driver's clock: why nobody will answer, None while somebody will."""


class Neighbours(Protocol):
    """Other pools of the same server, in other threads and processes, with connections to the same workers."""

    def starves(self, address: str) -> None:
        """A connection of ours waits there for as long as others keep theirs."""

    def scarce(self, address: str) -> bool:
        """Whether somebody starved there of late."""


class Shared(Protocol):
    """Where the neighbours are found once there are any."""

    @property
    def neighbours(self) -> Neighbours: ...


class Waiter(Protocol):
    """Who waits for a connection."""

    queued_in: deque[Any] | None


class Pool:
    """All connections to the addresses of one target."""

    def __init__(
        self,
        turn: Turn,
        addresses: Sequence[Address],
        make: Callable[[Pool, Member], Connection[Any]],
        ready: Callable[[Any], None],
        *,
        connect_s: float,
        keepalive: int,
        idle_s: float,
        limit: float = math.inf,
        queue: int = 1024,
        brief: bool = False,
        ahead: int = 0,
        rotate: bool = False,
        yields: bool = False,
        down: Down | None = None,
        shared: Shared | None = None,
    ) -> None:
        """`ahead`: so many connections to each member are opened before they are needed, once there are requests."""
        self.turn = turn
        self.make = make
        self.ready = ready
        """Called with a waiter when a connection may be had for it."""
        self.connect_s = connect_s
        self.keepalive = keepalive
        self.idle_s = idle_s
        self.queue = queue
        self.brief = brief
        self.ahead = ahead
        self.rotate = rotate
        self.yields = yields
        self.down = down
        self.shared = shared
        self.members = [Member(address, limit) for address in addresses]
        self.waiting: deque[Waiter] = deque()
        self._turn = 0

    def take(self, *, fresh: bool = False) -> Connection[Any] | None:
        """A connection to write to at once (it may still be connecting), or None: then `wait`.

        fresh   not one that was kept, because a kept one has just been found dead
        Raises GatewayError 503 if nobody will answer.
        """
        return self.take_from(self.choose(), fresh=fresh)

    def choose(self) -> Member:
        """Whom to ask. Raises GatewayError 503 if nobody will answer."""
        if self.down is not None and (error := self.down(self.turn.now)) is not None:
            raise error
        return self._choose() if len(self.members) > 1 else self.members[0]

    def take_from(self, member: Member, *, fresh: bool = False) -> Connection[Any] | None:
        """As `take`, with a member that was chosen."""
        connection: Connection[Any] | None = None
        if not fresh:
            idle = member.idle
            if idle:
                # the one that was used last; of those that were opened ahead, the one that stands most surely
                connection = idle.pop(0) if self.ahead else idle.pop()
                if len(idle) < member.least_idle:
                    member.least_idle = len(idle)
                connection.busy = True
                connection.used += 1
                connection.since = self.turn.now
                if connection.open:
                    connection.deadline = math.inf
        elif member.open >= member.limit and member.idle:
            member.idle.pop().close(Close.ABORT)
        if connection is None and member.open < member.limit:
            connection = self._opened(member)
        if self.ahead:
            self._open_ahead(member)
        return connection

    def _opened(self, member: Member) -> Connection[Any]:
        connection = self.make(self, member)
        connection.used = 1
        connection.since = self.turn.now
        connection.deadline = self.turn.now + self.connect_s if self.connect_s else math.inf
        member.open += 1
        member.unproven[connection] = self.turn.now
        self.turn.orders.append(Open(member.address, connection, self.brief))
        return connection

    def _open_ahead(self, member: Member) -> None:
        """Not where nobody answers: that the next request finds out."""
        while len(member.idle) < self.ahead and member.open < member.limit and member.down_until <= self.turn.now:
            connection = self._opened(member)
            connection.busy = False
            member.idle.append(connection)

    def _able(self) -> list[Member]:
        """Those that are in order; where none is, all."""
        now = self.turn.now
        return [member for member in self.members if member.down_until <= now] or self.members

    def _choose(self) -> Member:
        able = self._able()
        able = [member for member in able if member.idle or member.open < member.limit] or able
        if self.rotate:
            self._turn += 1
            return able[self._turn % len(able)]
        self._turn += 1
        shift = self._turn % len(able)  # equals are taken in turn
        return min(able[shift:] + able[:shift], key=lambda m: m.open - len(m.idle))

    def wait(self, waiter: Waiter) -> None:
        """Stand in line; raises GatewayError 503 if the line is full."""
        if len(self.waiting) >= self.queue:
            raise GatewayError(
                503, "queue-full", f"{self.queue} requests wait for a worker already",
                "add workers, or find out what keeps them busy", retry_after_s=5, retry=Retry.NO,
            )  # fmt: skip
        waiter.queued_in = self.waiting
        self.waiting.append(waiter)

    def proved(self, connection: Connection[Any]) -> None:
        """First octets came from it: the worker serves it."""
        member = connection.member
        connection.proven = True
        member.unproven.pop(connection, None)
        member.down_until = 0.0
        member.proven += 1
        if member.proven > member.served:
            member.served = member.proven

    def passed_over(self, member: Member) -> None:
        """It takes no connection: others are asked first for a while."""
        member.down_until = self.turn.now + PAUSE_S

    def release(self, connection: Connection[Any], *, keep: bool) -> None:
        """The request is over. The last thing to be called in an input: it may start the next request."""
        member = connection.member
        connection.busy = False
        connection.wants_data = True
        keep = keep and connection.closing is OPEN and self.keepalive > 0 and not member.multiplexes
        if keep and self.yields:
            if member.unproven and member.open > member.served:
                keep = next(iter(member.unproven.values())) >= connection.since
            if keep and self.shared is not None:
                if member.looked_at != self.turn.now:  # once for all that came at the same time
                    member.looked_at = self.turn.now
                    member.scarce = self.shared.neighbours.scarce(member.name)
                keep = not member.scarce
        if keep:
            member.idle.append(connection)
            connection.deadline = self.turn.now + self.idle_s
        else:
            connection.close(Close.FLUSH if connection.closing is OPEN else connection.closing)
        if self.waiting:
            self.serve_waiting()

    def gone(self, connection: Connection[Any], error: OSError | None) -> None:
        """Its stream is lost. The last thing to be called in an input, as `release`."""
        member = connection.member
        member.open -= 1
        if connection.proven:
            member.proven -= 1
        else:
            member.unproven.pop(connection, None)
            if error is not None:
                self.passed_over(member)
        if not connection.busy and connection in member.idle:
            member.idle.remove(connection)
        if self.waiting:
            self.serve_waiting()

    def began(self, member: Member) -> None:
        """A request more shares a connection there."""
        member.open += 1

    def over(self, member: Member, count: int = 1) -> None:
        """So many less."""
        member.open -= count

    def given_up(self, connection: Connection[Any], exchange: Carried, *, answered: bool) -> bool:
        """Nobody wants its answer any more, of which some has come if `answered`. Whether the connection is to be kept
        all the same, until the worker has done with it."""
        return False

    def still_busy(self, connection: Connection[Any]) -> None:
        """A connection that was given up has not ended by its deadline."""
        self.retire(connection)

    def hung(self, connection: Connection[Any]) -> GatewayError | None:
        """The error, if its worker was ended because it did not answer."""
        return None

    def retire(self, connection: Connection[Any]) -> None:
        """An idle connection is of no use any more."""
        if connection in connection.member.idle:
            connection.member.idle.remove(connection)
        connection.close(Close.FLUSH)

    def tick(self, now: float) -> None:
        """Called at every sweep: too many idle connections are closed, and others make way for one that waits."""
        if self.down is not None:
            self._give_up(self.down, now)
        kept = max(self.keepalive, self.ahead)
        for member in self.members:
            for _ in range(min(member.least_idle, len(member.idle)) - kept):  # not needed for a whole sweep
                member.idle.pop(0).close(Close.FLUSH)
            member.least_idle = len(member.idle)
        if not self.yields:
            return
        for member in self.members:
            starves = bool(member.unproven) and now - next(iter(member.unproven.values())) >= YIELD_S
            shared = self.shared
            if starves:
                member.served = member.proven
            if starves and shared is not None:
                shared.neighbours.starves(member.name)
            if member.idle and (starves or (shared is not None and shared.neighbours.scarce(member.name))):
                self._drop_idle(member)

    def _give_up(self, down: Down, now: float) -> None:
        """Who waits in the backlog of workers that all died need not wait for longer."""
        for member in self.members:
            for connection in list(member.unproven):
                error = down(now)
                if error is None:
                    return
                connection.fail(error)

    def limit_to(self, member: Member, limit: int) -> None:
        """The worker has told how many connections it serves."""
        member.limit = float(max(1, limit))
        while member.idle and member.open > member.limit:
            member.idle.pop().close(Close.FLUSH)

    def serve_waiting(self) -> None:
        """Somebody has less to do: the next ones in line may be served."""
        while self.waiting and any(m.idle or m.open < m.limit for m in self._able()):
            waiter = self.waiting.popleft()
            waiter.queued_in = None
            self.ready(waiter)

    def close(self) -> None:
        """No connection is kept any longer."""
        self.keepalive = self.ahead = 0
        self.let_go()

    def let_go(self) -> None:
        """No idle connection is kept: there may be no request for long."""
        for member in self.members:
            self._drop_idle(member)

    def share(self, member: Member, limit: float) -> None:
        """Requests share a connection there from now on, at most so many at the same time."""
        member.multiplexes = True
        member.limit = limit
        self._drop_idle(member)

    @staticmethod
    def _drop_idle(member: Member) -> None:
        while member.idle:
            member.idle.pop().close(Close.FLUSH)
