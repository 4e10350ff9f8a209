"""A pool whose members are the places of an application of our own: which worker gets a request, and when one is called.

Promise: as `pool.py`; and a request goes to a worker that is free, if there is one, else a further one is started for
it, if there may be one, else it waits until a place is free, whichever engine had that.
Must never know: what travels on the connections, how a worker is started. Next: `gateway/processes/places.py`.

A worker that serves one connection at a time is busy from when it gets a request until it has answered that, or has
ended; also where nobody wants the answer any more. So a connection on which a request was given up is kept until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gateway.ends import Address, Turn
from gateway.errors import GatewayError, Retry
from gateway.upstreams.pool import Down, Member, Pool, Shared, Waiter
from gateway.upstreams.terms import Terms

if TYPE_CHECKING:
    from gateway.upstreams.connection import Carried, Connection


class Place(Protocol):
    """Where one worker process is, or may be."""

    def takes(self) -> bool:
        """Whether requests may be sent there."""

    def closed(self) -> bool:
        """Whether somebody would have to be started for a request."""

    def others(self) -> int:
        """Requests of other engines there."""

    def pinned(self) -> bool:
        """Whether another engine keeps an idle connection there."""

    def unpin(self) -> None:
        """Have the others let go of their idle connections."""

    def took(self, now: float) -> None:
        """One more request of ours."""

    def done(self, now: float) -> None:
        """One less."""

    def keeps(self, idle: bool) -> None:
        """Whether we keep an idle connection there."""

    def overdue(self) -> None:
        """Its answer to us is too late: whoever is there is to be ended."""

    def hung(self, since: float) -> bool:
        """Whether who had our request since then was ended because it did not answer."""


class Desk(Protocol):
    """What concerns all places."""

    rung: Callable[[], None]
    """Called when somebody wants us to look."""

    @property
    def members(self) -> Sequence[Place]: ...

    def sole(self) -> bool:
        """Whether there is no other engine."""

    def grows(self, called: int) -> bool:
        """Whether there may be a further worker, beside so many of whom the places do not tell yet."""

    def call(self) -> None:
        """Have somebody started where requests wait and nobody is."""

    def ring(self, row: int) -> None:
        """Wake another engine."""

    def queues(self, since: float) -> None:
        """Since when our queue has waited; 0 for an empty one."""

    def next(self) -> int:
        """The engine whose queue has waited for longer than ours; -1 for none."""


class PlacePool(Pool):
    """All connections to the workers of one application."""

    def __init__(
        self,
        turn: Turn,
        addresses: Sequence[Address],
        make: Callable[[Pool, Member], Connection[Any]],
        ready: Callable[[Any], None],
        *,
        desk: Desk,
        keepalive: int,
        idle_s: float,
        limit: float,
        connect_s: float,
        brief: bool = False,
        ahead: int = 0,
        multiplexes: bool = False,
        down: Down | None = None,
        shared: Shared | None = None,
        terms: Terms | None = None,
    ) -> None:
        """`limit`: requests that one worker serves at the same time, as far as nothing else is known of it."""
        super().__init__(
            turn, addresses, make, ready, connect_s=connect_s, keepalive=keepalive, idle_s=idle_s, limit=limit,
            brief=brief, ahead=ahead, yields=limit > 1, multiplexes=multiplexes, down=down, shared=shared, terms=terms,
        )  # fmt: skip
        self.desk = desk
        for number, member in enumerate(self.members):
            member.place = desk.members[number]
        self.nobody = Member(Address(), 0.0)
        """Who is chosen where all are busy: it takes no connection, so the request waits."""
        desk.rung = self.look

    # ------------------------------------------------------------------ who is asked

    def choose(self, key: bytes = b"", avoid: tuple[Any, ...] = ()) -> Member:
        if self.down is not None and (error := self.down(self.turn.now)) is not None:
            raise error
        return self._find() or self.nobody

    def _find(self) -> Member | None:
        """Who has least to do: of several that are free one at which we have a connection, then the first; so those
        that are not needed are idle, and leave."""
        sole = self.desk.sole()
        best: Member | None = None
        closed: Member | None = None
        least = math.inf
        called = 0
        for member in self.members:
            place = _place(member)
            takes = place.takes()
            if not takes and not place.closed():
                continue
            idle = len(member.idle)
            held = member.open - idle
            if not sole:
                held += place.others()
            if takes:
                if held >= member.limit:
                    continue
                burden = held + 0.5
                if idle:
                    burden = float(held)
                elif not sole and member.limit <= 1 and place.pinned():
                    burden = held + 0.75
                if burden < least:
                    best, least = member, burden
                    if not burden:
                        break
            elif held:  # somebody is on the way there
                called += 1
                if held < member.limit and best is None:
                    best = member
            elif closed is None:
                closed = member
        if best is None and closed is not None and self.desk.grows(called):
            return closed
        return best

    def take_from(self, member: Member, *, fresh: bool = False) -> Connection[Any] | None:
        connection = super().take_from(member, fresh=fresh)
        if connection is not None:
            self._took(member)
        return connection

    def _took(self, member: Member) -> None:
        place = _place(member)
        place.took(self.turn.now)
        if place.closed():
            self.desk.call()
        elif not self.desk.sole():
            place.keeps(bool(member.idle))
            if member.limit <= 1 and place.pinned():
                place.unpin()

    def began(self, member: Member) -> None:
        super().began(member)
        self._took(member)

    def over(self, member: Member, count: int = 1) -> None:
        super().over(member, count)
        for _ in range(count):
            _place(member).done(self.turn.now)

    # ------------------------------------------------------------------ who is done

    def release(self, connection: Connection[Any], *, keep: bool) -> None:
        member = connection.member
        place = _place(member)
        if connection.busy:
            place.done(self.turn.now)
        keep = keep and place.takes()
        if self.desk.sole():
            super().release(connection, keep=keep)
            return
        waited_for = member.limit <= 1 and place.others() > 0  # two engines chose it at the same moment
        super().release(connection, keep=keep and not waited_for and self.desk.next() < 0)
        place.keeps(bool(member.idle))
        if not self.waiting:
            self._pass_on()

    def gone(self, connection: Connection[Any]) -> None:
        if connection.busy:
            connection.busy = False
            _place(connection.member).done(self.turn.now)
        super().gone(connection)
        if not self.desk.sole() and not self.waiting:
            self._pass_on()

    def _pass_on(self) -> bool:
        """A place may be free: whether another engine is to have it, since its queue has waited for longer."""
        longer = self.desk.next()
        if longer >= 0:
            self.desk.ring(longer)
        return longer >= 0

    # ------------------------------------------------------------------ who waits

    def wait(self, waiter: Waiter) -> None:
        super().wait(waiter)
        if len(self.waiting) == 1:
            self.desk.queues(self.turn.now)

    def serve_waiting(self) -> None:
        if self.desk.sole() or not self._pass_on():
            self._serve()

    def _serve(self) -> None:
        while self.waiting and self._find() is not None:
            waiter = self.waiting.popleft()
            waiter.queued_in = None
            self.desk.queues(self.turn.now if self.waiting else 0.0)
            self.ready(waiter)

    def look(self) -> None:
        """Another engine, or the parent, has changed something."""
        self._make_way()
        if self.waiting:
            self.serve_waiting()
        if not self.waiting:
            self.desk.queues(0.0)
            if self._find() is not None:
                self._pass_on()

    def _make_way(self) -> None:
        """Keep no connection that others wait for, or that leads to one who is about to leave."""
        sole = self.desk.sole()
        for member in self.members:
            place = _place(member)
            if member.idle and (not place.takes() or (not sole and member.limit <= 1 and place.others())):
                self._drop_idle(member)
            place.keeps(bool(member.idle))

    def tick(self, now: float) -> None:
        super().tick(now)
        self._make_way()
        if self.down is not None and self.down(now) is not None:
            while self.waiting:
                waiter = self.waiting.popleft()
                waiter.queued_in = None
                self.ready(waiter)
        self._serve()  # whoever was rung may not have come
        if not self.waiting:
            self.desk.queues(0.0)

    def let_go(self) -> None:
        super().let_go()
        for member in self.members:
            _place(member).keeps(False)

    # ------------------------------------------------------------------ who does not answer

    def given_up(self, connection: Connection[Any], exchange: Carried, *, answered: bool) -> bool:
        member, due = connection.member, exchange.deadline
        if member.limit > 1 or not connection.open:
            return False
        late = due <= self.turn.now
        if answered and not (late and exchange.late == "read"):  # it writes, and so finds out that nobody reads
            return False
        connection.due = due
        connection.deadline = due
        if late:
            self.still_busy(connection)
        return True

    def still_busy(self, connection: Connection[Any]) -> None:
        if not connection.due:
            super().still_busy(connection)
            return
        _place(connection.member).overdue()
        connection.deadline = math.inf

    def hung(self, connection: Connection[Any]) -> GatewayError | None:
        member = connection.member
        if not _place(member).hung(connection.since):
            return None
        return GatewayError(
            504, "worker-hung", f"{member.name} did not answer in time, and its process was ended",
            "see what it waits for; workers.busy of the app bounds it", retry=Retry.NO,
        )  # fmt: skip


def _place(member: Member) -> Place:
    place = member.place
    assert place is not None
    return place
