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
from gateway.upstreams import health
from gateway.upstreams.balance import begin_anywhere, by_hash, in_turn, least
from gateway.upstreams.member import Member as Member
from gateway.upstreams.terms import Entry, Terms
from gateway.upstreams.terms import Standing as Standing

if TYPE_CHECKING:
    from gateway.upstreams.connection import Carried, Connection

YIELD_S: Final = 0.2
TRIAL_S: Final = 5.0
"""So long one that was passed over has for the request that finds out whether it is well, if connecting is not bounded."""

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


class Roster(Protocol):
    """What whoever looks out for the workers tells of them: who they are by now, and how they are."""

    def changed(self) -> bool:
        """Whether there is more to be read than was read."""

    def read(self) -> Sequence[Entry]: ...


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
        brief: bool = False,
        ahead: int = 0,
        yields: bool = False,
        multiplexes: bool = False,
        down: Down | None = None,
        shared: Shared | None = None,
        terms: Terms | None = None,
        roster: Roster | None = None,
        left: Callable[[Member], None] | None = None,
    ) -> None:
        """
        ahead        so many connections to each member are opened before they are needed, once there are requests
        multiplexes  requests share connections, at every member
        roster       who the members are from now on; the addresses are for as long as it is empty
        left         told of each member that is none any more
        """
        self.turn = turn
        self.make = make
        self.ready = ready
        """Called with a waiter when a connection may be had for it."""
        self.connect_s = connect_s
        self.keepalive = keepalive
        self.idle_s = idle_s
        terms = terms or Terms()
        self.queue = terms.queue
        self.brief = brief
        self.ahead = ahead
        self.yields = yields
        self.multiplexes = multiplexes
        self.down = down
        self.shared = shared
        self.limit = min(limit, terms.limit)
        """As far as it is the same for all members."""
        self.hash = terms.hash
        """What `choose` wants to know of a request; "" for nothing."""
        self.rotates = terms.balance == "round-robin"
        self.slow_start_s = terms.slow_start_s
        self.failures = terms.failures
        self.pause_s = terms.pause_s
        self.trial_s = connect_s or TRIAL_S
        self.roster = roster
        self.left = left
        self.members = [
            self._member(address, terms.weight(number), terms.tier(number))
            for number, address in enumerate(addresses)
            if not address.service  # what that stands for the roster tells
        ]
        self.leaving: list[Member] = []
        """Members no more, with requests that are not over."""
        self.alone = roster is None and len(self.members) == 1
        """Whether there is nothing to choose, ever."""
        self.begun = False
        self.waiting: deque[Waiter] = deque()

    def _member(self, address: Address, weight: float, tier: int) -> Member:
        member = Member(address, self.limit, weight, tier)
        member.multiplexes = self.multiplexes
        return member

    def take(
        self, *, fresh: bool = False, key: bytes = b"", avoid: tuple[Any, ...] = ()
    ) -> Connection[Any] | None:
        """A connection to write to at once (it may still be connecting), or None: then `wait`.

        fresh   not one that was kept, because a kept one has just been found dead
        Raises GatewayError 503 if nobody will answer.
        """
        return self.take_from(self.choose(key, avoid), fresh=fresh)

    def choose(self, key: bytes = b"", avoid: tuple[Any, ...] = ()) -> Member:
        """Whom to ask. Raises GatewayError 503 if nobody will answer.

        key     what is hashed, where the pool goes by that
        avoid   members that this request has failed at: another one, if there is any
        """
        if self.down is not None and (error := self.down(self.turn.now)) is not None:
            raise error
        return self.members[0] if self.alone else self._choose(key, avoid)

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
                connection.mark = connection.writes
                connection.since = self.turn.now
                if connection.open:
                    connection.deadline = math.inf
        elif member.idle and (self.yields or member.open >= member.limit):
            # its worker process may be the very one that is to take the new connection
            member.idle.pop().close(Close.FLUSH)
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

    def _able(self, avoid: tuple[Any, ...]) -> list[Member]:
        """Those that are in order, and of these no backup while there are others; where none is, all."""
        members = self.members
        if avoid:
            members = [member for member in members if member not in avoid] or members
        now = self.turn.now
        able = [member for member in members if member.down_until <= now and not member.down]
        if not able:
            return members
        lowest = min([member.tier for member in able])
        return [member for member in able if member.tier == lowest]

    def _choose(self, key: bytes, avoid: tuple[Any, ...]) -> Member:
        if self.roster is not None and self.roster.changed():
            self._call_roll(self.roster.read())
        if not self.members:
            raise GatewayError(
                503, "no-address", "no address of a worker is known yet",
                "see the warnings above: the name of `address` was not found", retry_after_s=1,
            )  # fmt: skip
        if not self.begun:
            self.begun = True
            begin_anywhere(self.members)
        able = self._able(avoid)
        able = [member for member in able if member.idle or member.open < member.limit] or able
        now = self.turn.now
        if len(able) == 1:
            member = able[0]
        elif self.hash:
            member = by_hash(able, key, now, self.slow_start_s)
        elif self.rotates:
            member = in_turn(able, now, self.slow_start_s)
        else:
            member = least(able, now, self.slow_start_s)
        if member.down_until and member.down_until <= now:
            health.tried(member, now, self.trial_s)
        return member

    def another(self, avoid: tuple[Any, ...]) -> bool:
        """Whether there is a member that is not among these."""
        return any(member not in avoid for member in self.members)

    # ------------------------------------------------------------------ who the members are

    def _call_roll(self, entries: Sequence[Entry]) -> None:
        """Those that are new come, those that are missing leave when their requests are over."""
        known = {member.name: member for member in self.members}
        members: list[Member] = []
        for entry in entries:
            address = Address(entry.host, entry.port, entry.path)
            member = known.pop(str(address), None)
            if member is None:
                member = self._member(address, entry.weight, entry.tier)
            member.source, member.authority = entry.source, entry.authority
            member.weight, member.tier = entry.weight, entry.tier
            if member.down and entry.up:
                health.well(member)
            elif not entry.up:
                self._drop_idle(member)
            member.down = not entry.up
            member.since = -math.inf if entry.since is None else entry.since
            members.append(member)
        self.members = members
        for member in known.values():
            member.leaving = True
            self._drop_idle(member)
            self.leaving.append(member)
            if self.left is not None:
                self.left(member)

    def standings(self) -> list[Standing]:
        """How all members are."""
        now = self.turn.now
        found: list[Standing] = []
        for member in [*self.members, *self.leaving]:
            out_s = max(0.0, member.down_until - now)
            state = (
                "leaving" if member.leaving else "down" if member.down else "trial" if out_s and member.trial
                else "out" if out_s else "up"
            )  # fmt: skip
            found.append(
                Standing(member.name, state, member.outstanding, len(member.idle), member.failures, member.weight,
                         member.tier > 0, out_s)
            )  # fmt: skip
        return found

    # ------------------------------------------------------------------ the line

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
        if member.down_until:
            health.answers(member)
        member.proven += 1
        if member.proven > member.served:
            member.served = member.proven

    def struck(self, member: Member) -> None:
        """It takes no connection, or breaks off: others are asked first for a while."""
        health.struck(member, self.turn.now, self.failures, self.pause_s)

    def release(self, connection: Connection[Any], *, keep: bool) -> None:
        """The request is over. The last thing to be called in an input: it may start the next request."""
        member = connection.member
        connection.busy = False
        connection.wants_data = True
        keep = keep and connection.closing is OPEN and self.keepalive > 0 and not (member.multiplexes or member.leaving)
        if keep and self.yields:
            if member.unproven and member.open > member.served:
                keep = next(iter(member.unproven.values())) >= connection.since
            if keep and self.shared is not None:
                if member.looked_at != self.turn.now:  # once for all that came at the same time
                    member.looked_at = self.turn.now
                    member.scarce = self.shared.neighbours.scarce(member.source)
                keep = not member.scarce
        if keep:
            member.idle.append(connection)
            connection.deadline = self.turn.now + self.idle_s
        else:
            connection.close(Close.FLUSH if connection.closing is OPEN else connection.closing)
        if self.waiting:
            self.serve_waiting()

    def gone(self, connection: Connection[Any]) -> None:
        """Its stream is lost. The last thing to be called in an input, as `release`."""
        member = connection.member
        member.open -= 1
        if connection.proven:
            member.proven -= 1
        else:
            member.unproven.pop(connection, None)
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
        if self.roster is not None and self.roster.changed():
            self._call_roll(self.roster.read())
            self.serve_waiting()
        if self.leaving:
            self.leaving = [member for member in self.leaving if member.open]
        if self.waiting and not self.alone:  # the pause of one may be over
            self.serve_waiting()
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
                shared.neighbours.starves(member.source)
            if member.idle and (starves or (shared is not None and shared.neighbours.scarce(member.source))):
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
        member.limit = min(self.limit, float(max(1, limit)))
        while member.idle and member.open > member.limit:
            member.idle.pop().close(Close.FLUSH)

    def serve_waiting(self) -> None:
        """Somebody has less to do: the next ones in line may be served."""
        for _ in range(len(self.waiting)):  # each once: one that has to avoid somebody may have to go on waiting
            if not self.waiting or not any(m.idle or m.open < m.limit for m in self._able(())):
                return
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
        member.limit = min(self.limit, limit)
        self._drop_idle(member)

    @staticmethod
    def _drop_idle(member: Member) -> None:
        while member.idle:
            member.idle.pop().close(Close.FLUSH)
