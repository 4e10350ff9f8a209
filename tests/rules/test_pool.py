"""The pool decides without input and output: which connection, how many, who is next (SEMANTICS 41, 98)."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.ends import OPEN, Address, Close, Open, Turn
from gateway.errors import GatewayError, Retry
from gateway.upstreams.connection import Connection
from gateway.upstreams.health import MOST_PAUSE_S
from gateway.upstreams.pool import YIELD_S, Member, Pool
from gateway.upstreams.terms import Entry, Terms


class Waiter:
    """An exchange, as far as a pool and a connection know one."""

    queued_in: deque[Any] | None = None
    call: Any = None
    stale = False
    avoid: tuple[Any, ...] = ()

    def __init__(self) -> None:
        self.errors: list[GatewayError] = []

    def pump(self) -> None:
        """It has nothing to send."""

    def failed(self, error: GatewayError) -> None:
        self.errors.append(error)


class Rig:
    """A pool, and the driver's part of its life."""

    def __init__(self, addresses: int = 1, **options: Any) -> None:
        self.turn = Turn(now=100.0)
        self.served: list[Waiter] = []
        self.running: dict[Waiter, Connection[Any]] = {}
        options = {"connect_s": 5.0, "keepalive": 2, "idle_s": 10.0} | options
        self.pool = Pool(
            self.turn, [Address(path=f"/{n}") for n in range(addresses)], Connection, self.ready, **options
        )

    def ready(self, waiter: Waiter) -> None:
        self.served.append(waiter)
        self.start(waiter)

    def start(self, waiter: Waiter, **options: Any) -> Connection[Any] | None:
        connection = self.pool.take(**options)
        if connection is None:
            self.pool.wait(waiter)
            return None
        connection.exchange = waiter
        waiter.call = connection
        self.running[waiter] = connection
        return connection

    def taken(self, **options: Any) -> Connection[Any]:
        connection = self.start(Waiter(), **options)
        assert connection is not None
        return connection

    def works(self, connection: Connection[Any]) -> Connection[Any]:
        """It is connected, and octets have come."""
        connection.connected(self.turn.now)
        if not connection.proven:
            self.pool.proved(connection)
        return connection

    def done(self, connection: Connection[Any], *, keep: bool = True) -> None:
        self.running = {w: c for w, c in self.running.items() if c is not connection}
        connection.finish(keep=keep)
        self.settle()

    def lose(self, connection: Connection[Any], error: OSError | None = None) -> None:
        connection.lost(error, self.turn.now)
        self.settle()

    def settle(self) -> None:
        """What is to be closed is lost."""
        while self.turn.ends:
            end = self.turn.ends.pop()
            end.touched = False
            if end.closing is not OPEN and not getattr(end, "gone", False):
                end.lost(None, self.turn.now)

    @property
    def opened(self) -> int:
        return sum(isinstance(order, Open) for order in self.turn.orders)


def test_a_connection_is_taken_from_those_kept_newest_first() -> None:
    rig = Rig()
    first, second = rig.works(rig.taken()), rig.works(rig.taken())
    rig.done(first)
    rig.done(second)
    assert rig.taken() is second
    assert rig.taken() is first
    assert rig.opened == 2


def test_no_more_are_kept_than_configured() -> None:
    rig = Rig(keepalive=1)
    first, second = rig.works(rig.taken()), rig.works(rig.taken())
    rig.done(first)
    rig.done(second)
    rig.pool.tick(rig.turn.now)
    rig.settle()
    assert rig.pool.members[0].open == 2  # it may be needed in a moment
    rig.pool.tick(rig.turn.now)
    rig.settle()
    assert first.closing is Close.FLUSH
    assert rig.pool.members[0].open == 1


def test_what_is_needed_again_and_again_is_kept_beyond_that() -> None:
    rig = Rig(keepalive=1)
    first, second = rig.works(rig.taken()), rig.works(rig.taken())
    for _ in range(5):
        rig.done(first)
        rig.done(second)
        assert {rig.taken(), rig.taken()} == {first, second}
        rig.pool.tick(rig.turn.now)
        rig.settle()
    assert rig.opened == 2


@pytest.mark.parametrize("keepalive", [0, 1])
def test_one_that_is_not_to_be_kept_is_closed(keepalive: int) -> None:
    rig = Rig(keepalive=keepalive)
    rig.done(rig.works(rig.taken()), keep=keepalive == 0)
    assert rig.pool.members[0].open == 0


def test_after_a_dead_one_a_new_one_is_made() -> None:
    rig = Rig()
    rig.done(rig.works(rig.taken()))
    assert rig.taken(fresh=True).used == 1
    assert rig.opened == 2


def test_a_new_one_makes_room_among_the_kept_where_there_is_a_limit() -> None:
    rig = Rig(limit=1)
    kept = rig.works(rig.taken())
    rig.done(kept)
    waiter = Waiter()
    rig.start(waiter, fresh=True)
    assert kept.closing is Close.FLUSH
    rig.settle()
    assert waiter in rig.running
    assert rig.pool.members[0].open == 1


def test_who_comes_when_all_are_busy_waits_in_order() -> None:
    rig = Rig(limit=1)
    first = rig.works(rig.taken())
    waiters = [Waiter() for _ in range(3)]
    for waiter in waiters:
        rig.start(waiter)
    rig.done(first)
    assert rig.served == waiters[:1]
    rig.done(first)
    rig.lose(first, None)
    assert rig.served == waiters
    assert rig.pool.members[0].open == 1


def test_a_full_line_is_503() -> None:
    rig = Rig(limit=1, terms=Terms(queue=1))
    rig.taken()
    rig.start(Waiter())
    with pytest.raises(GatewayError) as caught:
        rig.start(Waiter())
    assert (caught.value.status, caught.value.cause) == (503, "queue-full")


def test_an_address_that_refused_is_passed_over_for_a_while() -> None:
    rig = Rig(addresses=2)
    refused = rig.taken()
    rig.lose(refused, OSError(111, "refused"))
    assert all(rig.taken().member is not refused.member for _ in range(4))
    rig.turn.now += MOST_PAUSE_S
    assert refused.member in {rig.taken().member for _ in range(10)}


def test_who_waits_is_not_sent_to_an_address_that_is_out_of_order() -> None:
    rig = Rig(addresses=2, limit=1)
    first, second = rig.works(rig.taken()), rig.taken()
    waiter = Waiter()
    rig.start(waiter)
    rig.lose(second, OSError(111, "refused"))
    assert rig.served == []
    rig.done(first)
    assert rig.served == [waiter]
    assert rig.running[waiter] is first


def test_an_address_with_room_is_preferred_to_one_that_is_full() -> None:
    rig = Rig(addresses=2)
    rig.pool.limit_to(rig.pool.members[0], 1)
    assert [rig.taken() is not None for _ in range(6)] == [True] * 6
    assert [member.open for member in rig.pool.members] == [1, 5]


def test_where_all_have_refused_one_is_tried_all_the_same() -> None:
    rig = Rig(addresses=2)
    for _ in range(2):
        rig.lose(rig.taken(), OSError(111, "refused"))
    assert rig.taken() is not None


def test_the_address_with_the_fewest_requests_is_next() -> None:
    rig = Rig(addresses=3)
    for _ in range(6):
        rig.taken()
    assert [member.open for member in rig.pool.members] == [2, 2, 2]


def test_an_idle_one_makes_way_for_one_that_waits_at_the_worker() -> None:
    rig = Rig(yields=True)
    first = rig.works(rig.taken())
    second = rig.taken()  # connected perhaps, but nobody answers
    first.since = rig.turn.now - 1
    rig.turn.now += 1
    rig.done(first)
    # `second` is newer than the request that has ended: perhaps it only needs its time
    assert first.closing is OPEN
    rig.pool.tick(rig.turn.now)
    assert first.closing is Close.FLUSH
    assert second.closing is OPEN


def test_one_that_waited_longer_than_the_request_took_gets_its_place_at_once() -> None:
    rig = Rig(yields=True)
    rig.taken()
    rig.turn.now += YIELD_S
    late = rig.works(rig.taken())
    rig.done(late)
    assert late.closing is Close.FLUSH


def test_a_new_connection_does_not_cost_those_that_are_served_beside_each_other() -> None:
    """Else one that breaks would have all the others closed, one after the other, under load."""
    rig = Rig(yields=True, keepalive=5)
    three = [rig.works(rig.taken()) for _ in range(3)]
    for connection in three:
        rig.done(connection)
    rig.lose(three[2])
    rig.turn.now += 0.01
    new = rig.taken(fresh=True)
    rig.turn.now += 0.01
    kept = rig.taken()
    rig.done(rig.works(kept))
    assert kept.closing is Close.NO  # three can be served at the same time, as was seen
    assert not new.proven
    rig.turn.now += YIELD_S
    rig.pool.tick(rig.turn.now)  # or can no longer
    rig.settle()
    assert kept.closing is Close.FLUSH


def test_a_limit_that_is_learned_late_closes_what_is_idle() -> None:
    rig = Rig(keepalive=5)
    connections = [rig.works(rig.taken()) for _ in range(4)]
    for connection in connections[:3]:
        rig.done(connection)
    rig.pool.limit_to(rig.pool.members[0], 2)
    rig.settle()
    member = rig.pool.members[0]
    assert member.open <= 2


class PoolMachine(RuleBasedStateMachine):
    """Anything may happen to connections in any order: the counts stay right and nobody waits in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(addresses=2, limit=2, keepalive=1, yields=True)
        self.waiting: list[Waiter] = []

    @property
    def busy(self) -> list[Connection[Any]]:
        return list(self.rig.running.values())

    @property
    def idle(self) -> list[Connection[Any]]:
        return [connection for member in self.rig.pool.members for connection in member.idle]

    @rule(fresh=st.booleans())
    def ask(self, fresh: bool) -> None:
        waiter = Waiter()
        if self.rig.start(waiter, fresh=fresh) is None:
            self.waiting.append(waiter)
        self.rig.settle()

    @precondition(lambda self: self.busy)
    @rule(which=st.integers(0, 9), keep=st.booleans())
    def end(self, which: int, keep: bool) -> None:
        connection = self.busy[which % len(self.busy)]
        self.rig.works(connection)
        self.rig.done(connection, keep=keep)

    @precondition(lambda self: self.busy)
    @rule(which=st.integers(0, 9), proven=st.booleans(), error=st.sampled_from([None, OSError(111, "refused")]))
    def lose(self, which: int, proven: bool, error: OSError | None) -> None:
        connection = self.busy[which % len(self.busy)]
        if proven:
            self.rig.works(connection)
        self.rig.running = {w: c for w, c in self.rig.running.items() if c is not connection}
        self.rig.lose(connection, error)

    @precondition(lambda self: self.idle)
    @rule(which=st.integers(0, 9), how=st.sampled_from(["lost", "eof", "expired"]))
    def idle_ends(self, which: int, how: str) -> None:
        connection = self.idle[which % len(self.idle)]
        if how == "lost":
            self.rig.lose(connection)
        elif how == "eof":
            connection.received_eof(self.rig.turn.now)
        else:
            connection.expired(self.rig.turn.now)
        self.rig.settle()

    @precondition(lambda self: self.rig.pool.waiting)
    @rule()
    def leave_the_line(self) -> None:
        waiter: Any = self.rig.pool.waiting[-1]
        assert waiter.queued_in is self.rig.pool.waiting
        waiter.queued_in.remove(waiter)

    @rule(length_s=st.sampled_from([0.1, 1.0, 10.0]))
    def wait(self, length_s: float) -> None:
        self.rig.turn.now += length_s
        for _ in range(2):
            self.rig.pool.tick(self.rig.turn.now)
            self.rig.settle()
        assert all(len(member.idle) <= self.rig.pool.keepalive for member in self.rig.pool.members)

    @rule(which=st.integers(0, 1), limit=st.integers(1, 3))
    def learn(self, which: int, limit: int) -> None:
        self.rig.pool.limit_to(self.rig.pool.members[which], limit)
        self.rig.settle()

    @invariant()
    def counts_are_right(self) -> None:
        pool = self.rig.pool
        for member in pool.members:
            mine = [connection for connection in self.busy if connection.member is member]
            assert member.open == len(mine) + len(member.idle)
            assert set(member.unproven) <= set(mine)
            assert all(not connection.busy and connection.proven for connection in member.idle)
            assert member.proven == sum(connection.proven for connection in [*mine, *member.idle])
        assert all(not waiter.errors or waiter not in self.rig.running for waiter in self.rig.running)

    def teardown(self) -> None:
        while self.busy:
            connection = self.busy[0]
            self.rig.running = {w: c for w, c in self.rig.running.items() if c is not connection}
            self.rig.lose(connection)
        self.rig.pool.close()
        self.rig.settle()
        assert not self.rig.pool.waiting
        for member in self.rig.pool.members:
            assert (member.open, member.idle, member.unproven) == (0, [], {})


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPoolMachine = PoolMachine.TestCase


# ---------------------------------------------------------------------- who is chosen


class Told:
    """A roster that a test writes."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = list(entries)
        self.new = True

    def tell(self, *entries: Entry) -> None:
        self.entries = list(entries)
        self.new = True

    def changed(self) -> bool:
        return self.new

    def read(self) -> list[Entry]:
        self.new = False
        return self.entries


def entry(path: str, **options: Any) -> Entry:
    return Entry("", 0, path, f"unix:{path}", "localhost", **options)


def refused(rig: Rig, member: Member) -> None:
    """A connection there is refused."""
    connection = rig.pool.take_from(member)
    assert connection is not None
    rig.lose(connection, OSError(111, "refused"))


def chosen(rig: Rig, count: int = 12, **options: Any) -> set[str]:
    return {rig.pool.choose(**options).name for _ in range(count)}


def test_backups_are_for_when_no_other_is_able() -> None:
    rig = Rig(addresses=3, terms=Terms(backups=(False, True, False)))
    a, backup, c = rig.pool.members
    assert chosen(rig) == {a.name, c.name}
    refused(rig, a)
    assert chosen(rig) == {c.name}
    refused(rig, c)
    assert chosen(rig) == {backup.name}


def test_one_request_finds_out_whether_it_is_well_again() -> None:
    rig = Rig(addresses=2)
    lost = rig.pool.members[0]
    refused(rig, lost)
    rig.turn.now = lost.down_until
    first = [rig.taken() for _ in range(10)]
    trials = [connection for connection in first if connection.member is lost]
    assert len(trials) == 1
    rig.works(trials[0])
    rig.done(trials[0])
    assert lost.name in chosen(rig)
    assert lost.strikes == 0


def test_a_trial_that_fails_makes_the_pause_longer() -> None:
    rig = Rig(addresses=2)
    lost = rig.pool.members[0]
    refused(rig, lost)
    rig.turn.now = lost.down_until
    while (connection := rig.taken()).member is not lost:
        pass
    rig.lose(connection, OSError(111, "refused"))
    assert lost.down_until - rig.turn.now >= 1.6


def test_a_trial_of_which_nothing_is_heard_makes_room_for_another() -> None:
    rig = Rig(addresses=2)
    lost = rig.pool.members[0]
    refused(rig, lost)
    for _ in range(3):
        rig.turn.now = lost.down_until
        assert [rig.taken().member for _ in range(10)].count(lost) == 1


def test_a_request_avoids_where_it_has_failed() -> None:
    rig = Rig(addresses=3)
    a, b, c = rig.pool.members
    assert chosen(rig, avoid=(a,)) == {b.name, c.name}
    assert chosen(rig, avoid=(a, b)) == {c.name}
    assert chosen(rig, avoid=(a, b, c)) == {a.name, b.name, c.name}


def test_a_failed_connection_is_noted_at_the_request() -> None:
    rig = Rig(addresses=2)
    connection = rig.taken()
    waiter = next(iter(rig.running))
    rig.lose(connection, OSError(111, "refused"))
    assert waiter.avoid == (connection.member,)
    assert waiter.errors[0].retry is Retry.SAFE


def test_nothing_taken_is_nothing_sent() -> None:
    """A kept connection that the worker has closed: the kernel takes not one octet."""
    rig = Rig()
    kept = rig.works(rig.taken())
    kept.writes += 1
    rig.done(kept)
    waiter = Waiter()
    assert rig.start(waiter) is kept
    rig.lose(kept, BrokenPipeError(32, "broken pipe"))
    assert waiter.errors[0].retry is Retry.SAFE
    assert waiter.stale and not waiter.avoid
    assert kept.member.strikes == 0


def test_something_taken_may_have_been_processed() -> None:
    rig = Rig()
    kept = rig.works(rig.taken())
    kept.writes += 1
    rig.done(kept)
    waiter = Waiter()
    rig.start(waiter)
    kept.writes += 1
    rig.lose(kept, ConnectionResetError(104, "reset"))
    assert waiter.errors[0].retry is Retry.IF_IDEMPOTENT


def test_the_same_key_goes_to_the_same_member() -> None:
    rig = Rig(addresses=4, terms=Terms(balance="hash", hash="client"))
    assert len(chosen(rig, key=b"192.0.2.1")) == 1
    assert len({name for n in range(40) for name in chosen(rig, 1, key=b"%d" % n)}) == 4


def test_a_limit_is_kept_whatever_the_worker_tells() -> None:
    rig = Rig(terms=Terms(limit=2.0))
    rig.pool.limit_to(rig.pool.members[0], 9)
    assert [rig.start(Waiter()) is not None for _ in range(3)] == [True, True, False]


def test_who_has_to_avoid_the_one_with_room_goes_on_waiting() -> None:
    rig = Rig(addresses=2, terms=Terms(limit=1.0))
    first, second = rig.works(rig.taken()), rig.works(rig.taken())
    waiter = Waiter()
    rig.start(waiter, avoid=(second.member,))
    rig.start = lambda waiter, **options: Rig.start(rig, waiter, avoid=waiter.avoid)  # type: ignore[method-assign]
    waiter.avoid = (second.member,)
    rig.done(second)
    assert waiter not in rig.running
    rig.done(first)
    assert rig.running[waiter].member is first.member


# ---------------------------------------------------------------------- who the members are


def test_members_come_and_go_by_the_roster() -> None:
    told = Told(entry("/0"), entry("/1"))
    left: list[str] = []
    rig = Rig(addresses=1, keepalive=5, roster=told, left=lambda member: left.append(member.name))
    rig.pool.choose()
    gone = rig.pool.members[0]
    idle, busy = (rig.pool.take_from(gone) for _ in range(2))
    assert idle is not None and busy is not None
    rig.done(rig.works(idle))
    told.tell(entry("/1"), entry("/2"))
    assert chosen(rig) == {"unix:/1", "unix:/2"}
    assert left == ["unix:/0"]
    rig.settle()
    assert gone.open == 1
    assert {one.address: one.state for one in rig.pool.standings()} == {
        "unix:/1": "up", "unix:/2": "up", "unix:/0": "leaving",
    }  # fmt: skip
    rig.done(rig.works(busy))  # what it had is finished, and nothing is kept
    rig.pool.tick(rig.turn.now)
    assert (gone.open, rig.pool.leaving) == (0, [])


def test_one_that_comes_back_is_the_same() -> None:
    told = Told(entry("/0"), entry("/1"))
    rig = Rig(roster=told)
    rig.pool.choose()
    known = {member.name: member for member in rig.pool.members}
    told.tell(entry("/1", weight=4.0, tier=1), entry("/0"))
    rig.pool.choose()
    assert {member.name: member for member in rig.pool.members} == known
    assert (known["unix:/1"].weight, known["unix:/1"].tier) == (4.0, 1)


def test_one_that_is_down_is_passed_over_and_comes_back_well() -> None:
    told = Told(entry("/0", up=False), entry("/1"))
    rig = Rig(roster=told)
    assert chosen(rig) == {"unix:/1"}
    refused(rig, rig.pool.members[0])
    told.tell(entry("/0", since=100.0), entry("/1"))
    assert chosen(rig) == {"unix:/0", "unix:/1"}
    told.tell(entry("/0", up=False), entry("/1", up=False))
    assert chosen(rig) == {"unix:/0", "unix:/1"}  # all are: all are tried


def test_nobody_is_known_yet() -> None:
    rig = Rig(addresses=0, roster=Told())
    with pytest.raises(GatewayError) as caught:
        rig.pool.choose()
    assert (caught.value.status, caught.value.cause) == (503, "no-address")


def test_who_waits_gets_one_that_has_come() -> None:
    told = Told(entry("/0"))
    rig = Rig(roster=told, terms=Terms(limit=1.0))
    rig.taken()
    waiter = Waiter()
    rig.start(waiter)
    told.tell(entry("/0"), entry("/1"))
    rig.pool.tick(rig.turn.now)
    assert rig.running[waiter].member.name == "unix:/1"


def test_how_members_stand() -> None:
    rig = Rig(addresses=2, terms=Terms(weights=(1.0, 3.0), backups=(False, True)))
    refused(rig, rig.pool.members[0])
    out, up = rig.pool.standings()
    assert (out.state, out.failures, out.outstanding) == ("out", 1, 0)
    assert 0 < out.out_s < 2
    assert (up.state, up.weight, up.backup) == ("up", 3.0, True)
