"""A pool of places decides without input and output: which worker gets a request, and when one is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.ends import Address, Turn
from gateway.upstreams.connection import Connection
from gateway.upstreams.places import PlacePool
from tests.rules.test_pool import Waiter


class Place:
    """One place, as it is told to be."""

    def __init__(self, state: str = "closed") -> None:
        self.state = state
        self.busy = self.elsewhere = 0
        self.idle = self.late = self.kept_elsewhere = self.is_hung = False
        self.unpinned = 0

    def takes(self) -> bool:
        return self.state == "open"

    def closed(self) -> bool:
        return self.state == "closed"

    def others(self) -> int:
        return self.elsewhere

    def pinned(self) -> bool:
        return self.kept_elsewhere

    def unpin(self) -> None:
        self.unpinned += 1

    def took(self, now: float) -> None:
        self.busy += 1

    def done(self, now: float) -> None:
        self.busy -= 1

    def keeps(self, idle: bool) -> None:
        self.idle = idle

    def overdue(self) -> None:
        self.late = True

    def hung(self, since: float) -> bool:
        return self.is_hung


class Desk:
    def __init__(self, states: str, most: int) -> None:
        self.members = [Place({"o": "open", "c": "closed", "l": "leaving"}[state]) for state in states]
        self.most = most
        self.rung: Callable[[], None] = lambda: None
        self.calls = 0
        self.alone = True
        self.older = -1
        self.rang: list[int] = []
        self.since = 0.0

    def sole(self) -> bool:
        return self.alone

    def grows(self, called: int) -> bool:
        return called + sum(place.takes() for place in self.members) < self.most

    def call(self) -> None:
        self.calls += 1

    def ring(self, row: int) -> None:
        self.rang.append(row)

    def queues(self, since: float) -> None:
        self.since = since

    def next(self) -> int:
        return self.older


class Rig:
    def __init__(self, states: str, most: int, limit: float = 1) -> None:
        self.turn = Turn(now=100.0)
        self.desk = Desk(states, most)
        self.pool = PlacePool(
            self.turn, [Address(path=f"/{n}") for n in range(len(states))], Connection, self.start, desk=self.desk,
            keepalive=2, idle_s=5.0, limit=limit, connect_s=5.0,
        )  # fmt: skip

    def start(self, waiter: Any) -> Connection[Any] | None:
        connection = self.pool.take()
        if connection is None:
            self.pool.wait(waiter)
            return None
        connection.exchange = waiter
        connection.connected(self.turn.now)
        waiter.call = connection
        return connection

    def asked(self) -> str:
        """At which place a further request is; "" for one that waits."""
        connection = self.start(Waiter())
        return connection.member.name.removeprefix("unix:/") if connection is not None else ""


def test_a_free_worker_is_taken_then_one_is_called_then_requests_wait() -> None:
    rig = Rig("occc", 3)
    assert [rig.asked() for _ in range(4)] == ["0", "1", "2", ""]
    assert rig.desk.calls == 2
    assert rig.desk.since == 100.0


def test_requests_that_wait_are_served_once_somebody_is_free() -> None:
    rig = Rig("oc", 1)
    first = rig.start(Waiter())
    assert first is not None
    assert rig.asked() == ""
    rig.pool.proved(first)
    first.finish(keep=True)
    assert not rig.pool.waiting
    assert (rig.desk.members[0].busy, rig.desk.since) == (1, 0.0)


def test_who_leaves_gets_nothing_and_keeps_no_connection() -> None:
    rig = Rig("oc", 1)
    first = rig.start(Waiter())
    assert first is not None
    rig.desk.members[0].state = "leaving"
    first.finish(keep=True)
    assert not rig.pool.members[0].idle
    assert rig.asked() == "1"


def test_the_requests_of_other_engines_count() -> None:
    rig = Rig("ooc", 2)
    rig.desk.alone = False
    rig.desk.members[0].elsewhere = 1
    assert [rig.asked() for _ in range(2)] == ["1", ""]
    rig.desk.members[0].elsewhere = 0
    rig.desk.rung()
    assert rig.desk.members[0].busy == 1


def test_a_place_that_another_engine_keeps_a_connection_to_is_taken_last() -> None:
    rig = Rig("ooc", 2)
    rig.desk.alone = False
    rig.desk.members[0].kept_elsewhere = True
    assert [rig.asked() for _ in range(2)] == ["1", "0"]
    assert rig.desk.members[0].unpinned == 1


def test_a_queue_that_has_waited_for_longer_comes_first() -> None:
    rig = Rig("oc", 1)
    rig.desk.alone = False
    first = rig.start(Waiter())
    assert first is not None
    assert rig.asked() == ""
    rig.desk.older = 7
    rig.pool.proved(first)
    first.finish(keep=True)
    assert 7 in rig.desk.rang
    assert rig.desk.members[0].busy == 0
    rig.pool.members[0].open = 0  # the connection is closed for the other one
    rig.pool.tick(101.0)  # it has not come
    assert rig.desk.members[0].busy == 1


def test_a_worker_that_takes_many_gets_many() -> None:
    rig = Rig("oc", 1, limit=float("inf"))
    assert [rig.asked() for _ in range(3)] == ["0", "0", "0"]
