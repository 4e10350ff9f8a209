"""A supervisor's life as a conversation: what it is told on one side, what it orders on the other."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

import pytest

from gateway.ends import End, Kill, Launch, Order, Spawn, Turn
from gateway.processes.explain import Explanation
from gateway.processes.places import BROKEN, CLOSED, HUNG, LEAVING, OPEN, STARTING, Clerk, Places
from gateway.processes.staff import Phase, Staff, Worker
from gateway.processes.supervise import (
    FIRST_ANSWER_S,
    HUNG_GRACE_S,
    LEAVE_S,
    LONGEST_DELAY_S,
    STEADY_S,
    Supervisor,
)

LAUNCHES = [Launch(b"/usr/bin/php-cgi", [b"php-cgi"], {}, b"/", stdin=7 + number) for number in range(4)]
NOT_STARTED = Explanation(500, "no-interpreter", "no perl here", "install it")
SWEEP_S = 0.25


class Talk:
    """One supervisor, its clock, and what it said and ordered. Jitter is in the middle of its range."""

    def __init__(
        self, count: int = 1, *, grace_s: float = 10.0, tells: bool = False, refused: int = -1, **staff: Any
    ) -> None:
        self.turn = Turn()
        self.said: list[str] = []
        self.now = 100.0
        self.pid = 1000
        self.memory: dict[int, int] = {}
        self.restarted: list[str] = []
        staff = {"min": count, "max": count} | staff
        most = staff["max"]
        self.places = Places(most + 1, most, 4, b"bell")
        clerk = Clerk(b"bell")
        self.engine = clerk.desk(self.places)
        self.engine.sit()
        self.supervisor = Supervisor(
            self.turn, LAUNCHES[: most + 1], Staff(**staff), self.places, "wiki",
            lambda level, text: self.said.append(f"{level}: {text}"), lambda worker: End(self.turn),
            grace_s=grace_s, fraction=lambda: 0.5, why=lambda error, launch: NOT_STARTED, tells=tells,
            resident=lambda pid: self.memory.get(pid, 0), refused=refused,
        )  # fmt: skip
        self.supervisor.start(self.now)

    def orders(self) -> list[Order]:
        orders, self.turn.orders[:] = list(self.turn.orders), []
        return orders

    def spawned(self) -> list[Worker]:
        workers: list[Worker] = []
        for order in self.orders():
            if isinstance(order, Spawn):
                assert isinstance(order.child, Worker)
                workers.append(order.child)
        return workers

    def kills(self) -> list[tuple[int, int]]:
        return [(order.pid, order.signal) for order in self.orders() if isinstance(order, Kill)]

    def starts(self) -> Worker:
        """The one process that was ordered runs."""
        (worker,) = self.spawned()
        return self.runs(worker)

    def runs(self, worker: Worker) -> Worker:
        self.pid += 1
        worker.started(self.pid, self.now)
        return worker

    def all_run(self) -> list[Worker]:
        return [self.runs(worker) for worker in self.spawned()]

    def wait(self, length_s: float) -> None:
        """Time passes, with its sweeps."""
        until = self.now + length_s
        while self.now < until:
            self.now = min(until, self.now + SWEEP_S)
            self.supervisor.tick(self.now)

    def waits_until_due(self, worker: Worker) -> float:
        waited = worker.due - self.now
        self.now = worker.due
        self.supervisor.tick(self.now)
        return waited

    def exits(self, worker: Worker, code: int, after: float = 0.0) -> None:
        self.now += after
        worker.exited(code, self.now)

    def takes(self, worker: Worker, times: int = 1) -> None:
        for _ in range(times):
            self.engine.members[worker.number].took(self.now)

    def answers(self, worker: Worker, times: int = 1) -> None:
        for _ in range(times):
            self.engine.members[worker.number].done(self.now)

    def serves(self, worker: Worker, times: int = 1) -> None:
        for _ in range(times):
            self.takes(worker)
            self.answers(worker)

    def restart(self) -> None:
        self.supervisor.restart(self.now, self.restarted.append)

    @property
    def states(self) -> list[int]:
        return list(self.places.states)


def test_all_workers_are_started_with_the_socket_and_a_log() -> None:
    talk = Talk(3)
    orders = talk.orders()
    assert len(orders) == 3
    for order in orders:
        assert isinstance(order, Spawn)
        assert order.launch in LAUNCHES
        assert order.stdin is None and order.stdout is None and order.stderr is not None
    assert len({order.launch.stdin for order in orders if isinstance(order, Spawn)}) == 3  # each has its own
    assert talk.states == [STARTING] * 3 + [CLOSED]
    assert [talk.runs(order.child) for order in orders if isinstance(order, Spawn) and isinstance(order.child, Worker)]
    assert talk.states == [OPEN] * 3 + [CLOSED]


def test_it_is_down_while_every_start_is_a_bad_one() -> None:
    talk = Talk(2)
    one, two = talk.spawned()
    assert talk.supervisor.down(talk.now) == ""  # they are being started
    talk.runs(one).lines.append("no such table")
    talk.exits(one, 1, after=0.1)
    assert talk.supervisor.down(talk.now) == ""  # the other one may serve
    two.failed(FileNotFoundError(errno.ENOENT, "perl"), talk.now)
    assert talk.supervisor.down(talk.now) == "its worker dies at once; last line of its stderr: no such table"
    assert talk.supervisor.retry_after_s(talk.now) == 2
    talk.waits_until_due(one)
    talk.waits_until_due(two)
    started = talk.all_run()
    assert talk.supervisor.down(talk.now)  # it is not known yet to be better than the last
    talk.now += STEADY_S
    assert talk.supervisor.down(talk.now) == ""
    assert started


def test_one_signal_does_not_make_it_down_and_two_in_a_row_do() -> None:
    """Somebody may have killed a worker that was young; the requests that come wait at its socket."""
    talk = Talk()
    worker = talk.starts()
    talk.exits(worker, -9, after=0.1)
    assert talk.supervisor.down(talk.now) == ""
    talk.waits_until_due(worker)
    talk.exits(talk.starts(), -9, after=0.1)
    assert talk.supervisor.down(talk.now) == "its worker dies at once"


def test_who_ends_on_purpose_is_not_down_however_soon() -> None:
    talk = Talk()
    talk.exits(talk.starts(), 0, after=0.1)
    assert talk.supervisor.down(talk.now) == ""


def test_who_ends_on_purpose_again_and_again_is_told_less_and_less_often() -> None:
    talk = Talk()
    for _ in range(20):
        worker = talk.starts()
        talk.exits(worker, 0, after=0.1)
        talk.waits_until_due(worker)
    assert len(talk.said) == 5  # 1, 2, 4, 8, 16


def test_who_recycles_itself_is_started_again_at_once() -> None:
    talk = Talk()
    worker = talk.starts()
    talk.exits(worker, 0, after=60)
    assert talk.spawned() == [worker]
    assert talk.said == ["info: app 'wiki' worker 1001 exited with code 0 after 60.0 s; restarting"]


def test_who_crashes_after_a_long_life_is_started_again_at_once() -> None:
    talk = Talk()
    worker = talk.starts()
    talk.exits(worker, -signal.SIGSEGV, after=60)
    assert talk.spawned() == [worker]
    assert talk.said == ["error: app 'wiki' worker 1001 was ended by SIGSEGV after 60.0 s; restarting"]


def test_who_dies_soon_waits_and_its_last_words_are_told() -> None:
    talk = Talk()
    worker = talk.starts()
    worker.lines.extend(["Traceback", "no module named wiki"])
    talk.exits(worker, 3, after=0.2)
    assert talk.spawned() == []
    assert talk.said == [
        "error: app 'wiki' worker 1001 exited with code 3 after 0.2 s; "
        "last lines of its stderr: Traceback | no module named wiki; restarting in 0.1 s"
    ]
    assert talk.states[0] == BROKEN
    assert talk.waits_until_due(worker) == pytest.approx(0.1)
    assert talk.starts() is worker
    assert not worker.lines


def test_the_wait_doubles_up_to_a_limit_and_a_good_life_ends_it() -> None:
    talk = Talk()
    waits: list[float] = []
    for _ in range(12):
        worker = talk.starts()
        talk.exits(worker, 1, after=0.2)
        waits.append(talk.waits_until_due(worker))
    assert waits[:4] == [pytest.approx(wait) for wait in (0.1, 0.2, 0.4, 0.8)]
    assert max(waits) == pytest.approx(LONGEST_DELAY_S)
    talk.exits(talk.starts(), 1, after=5)
    worker = talk.starts()
    talk.exits(worker, 1, after=0.2)
    assert talk.waits_until_due(worker) == pytest.approx(0.1)


def test_waits_are_spread() -> None:
    talk = Talk(2)
    one, two = talk.all_run()
    talk.supervisor._fraction = iter([0.0, 0.999]).__next__
    talk.exits(one, 1)
    talk.exits(two, 1)
    assert 0.07 < one.due - talk.now < 0.1 < two.due - talk.now < 0.13


def test_who_goes_into_the_background_is_told_to_stay() -> None:
    talk = Talk()
    for _ in range(8):
        worker = talk.starts()
        talk.exits(worker, 0, after=0.01)
        assert talk.waits_until_due(worker) <= 1.0
    assert "does it go into the background?" in talk.said[-1]


def test_what_is_left_of_a_worker_s_group_ends_with_it() -> None:
    talk = Talk()
    talk.exits(talk.starts(), -signal.SIGKILL, after=60)
    assert talk.orders()[0] == Kill(1001, signal.SIGKILL)


def test_what_cannot_be_started_is_tried_again_later() -> None:
    talk = Talk()
    (worker,) = talk.spawned()
    worker.failed(OSError(errno.ENOENT, os.strerror(errno.ENOENT)), talk.now)
    assert talk.said == [
        "error: app 'wiki' worker could not be started: no perl here; install it; trying again in 0.1 s"
    ]
    assert talk.waits_until_due(worker) == pytest.approx(0.1)
    talk.runs(*talk.spawned())
    talk.now += STEADY_S
    assert talk.supervisor.down(talk.now) == ""


def test_one_of_several_waits_and_the_others_run_on() -> None:
    talk = Talk(2)
    first, second = [talk.runs(worker) for worker in talk.spawned()]
    talk.exits(first, 1, after=0.1)
    assert talk.supervisor.down(talk.now) == ""
    assert (first.phase, second.phase) == (Phase.WAITING, Phase.RUNNING)


def test_stopping_asks_first() -> None:
    talk = Talk(2)
    for worker in talk.spawned():
        talk.runs(worker)
    talk.supervisor.stop(talk.now)
    talk.supervisor.stop(talk.now)
    assert talk.orders() == [Kill(1001, signal.SIGTERM), Kill(1002, signal.SIGTERM)]
    for worker in talk.supervisor.workers[:2]:
        assert not talk.supervisor.stopped
        talk.exits(worker, 0, after=0.1)
    assert talk.supervisor.stopped
    assert talk.spawned() == []
    assert talk.said == []


def test_stopping_again_ends_by_force_at_once() -> None:
    talk = Talk()
    talk.starts()
    talk.supervisor.stop(talk.now)
    talk.supervisor.stop(talk.now, at_once=True)
    assert talk.orders() == [Kill(1001, signal.SIGTERM), Kill(1001, signal.SIGKILL)]


def test_stopping_ends_by_force_who_does_not_listen() -> None:
    talk = Talk(grace_s=2)
    worker = talk.starts()
    talk.supervisor.stop(talk.now)
    talk.orders()
    talk.wait(1.5)
    assert talk.orders() == []
    talk.wait(0.5)
    assert talk.orders() == [Kill(1001, signal.SIGKILL)]
    assert talk.said == ["warn: app 'wiki' worker 1001 did not end in time and is ended with SIGKILL"]
    talk.wait(1)
    assert talk.orders() == []
    talk.exits(worker, -signal.SIGKILL, after=0.1)
    assert talk.supervisor.stopped


def test_stopping_ends_who_waits_without_a_start() -> None:
    talk = Talk()
    talk.exits(talk.starts(), 1, after=0.1)
    talk.orders()
    talk.supervisor.stop(talk.now)
    assert talk.supervisor.stopped
    assert talk.orders() == []


@pytest.mark.parametrize(("late", "expected"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_one_whose_start_was_under_way_is_ended_when_it_runs(late: bool, expected: signal.Signals) -> None:
    talk = Talk()
    (worker,) = talk.spawned()
    talk.supervisor.stop(talk.now)
    if late:
        talk.wait(10)
    assert talk.orders() == []
    talk.runs(worker)
    assert talk.orders() == [Kill(1001, expected)]


def test_one_whose_start_failed_while_stopping_is_over() -> None:
    talk = Talk()
    (worker,) = talk.spawned()
    talk.supervisor.stop(talk.now)
    worker.failed(OSError(errno.EAGAIN, "busy"), talk.now)
    assert talk.supervisor.stopped
    assert talk.said == []


# ---------------------------------------------------------------------- as many as are needed


def test_nobody_is_there_before_the_first_request() -> None:
    talk = Talk(min=0, max=2)
    talk.wait(5)
    assert talk.spawned() == []
    assert talk.supervisor.down(talk.now) == ""
    talk.takes(talk.supervisor.workers[1])
    talk.supervisor.look(talk.now)
    assert talk.starts().number == 1


def test_one_that_is_idle_leaves_and_never_the_last_of_those_that_stay() -> None:
    talk = Talk(min=1, max=3, idle_s=10.0)
    first = talk.starts()
    for worker in talk.supervisor.workers[1:3]:
        talk.takes(worker)
    talk.supervisor.look(talk.now)
    second, third = talk.all_run()
    talk.wait(12)
    assert talk.states == [LEAVING, OPEN, OPEN, CLOSED]  # of two that have to do, none is idle
    assert talk.kills() == [(first.pid, signal.SIGTERM)]
    talk.exits(first, 0)
    assert talk.said[-1].endswith("exited with code 0 after 12.0 s: it was idle for 10 s")
    talk.answers(second)
    talk.answers(third)
    talk.wait(11)
    assert [worker.phase for worker in (second, third)].count(Phase.RUNNING) == 1
    talk.wait(30)
    assert [worker.phase for worker in (second, third)].count(Phase.RUNNING) == 1


def test_one_that_is_slow_to_say_that_it_cannot_start_waits_longer_each_time() -> None:
    talk = Talk(refused=2)
    for delay in ("0.1", "0.2", "0.4"):
        worker = talk.starts()
        talk.wait(3)
        talk.exits(worker, 2)
        assert talk.said[-1].endswith(f"restarting in {delay} s")
        talk.wait(1)


def test_one_too_many_leaves_as_soon_as_it_is_noticed() -> None:
    talk = Talk(min=1, max=1)
    first = talk.starts()
    talk.takes(talk.supervisor.workers[1])
    talk.supervisor.look(talk.now)
    talk.all_run()
    assert talk.states[:2] == [OPEN, OPEN]
    talk.wait(1)
    assert talk.states[:2] == [LEAVING, OPEN]
    assert talk.kills() == [(first.pid, signal.SIGTERM)]


def test_one_that_crashed_and_is_not_needed_is_not_started_again() -> None:
    talk = Talk(min=1, max=2)
    talk.starts()
    other = talk.supervisor.workers[1]
    talk.takes(other)
    talk.supervisor.look(talk.now)
    talk.starts()
    talk.answers(other)
    talk.exits(other, 1, after=5)
    assert talk.spawned() == []
    assert "no other one is needed now" in talk.said[-1]
    assert talk.states == [OPEN, CLOSED, CLOSED]


def test_one_that_crashed_with_requests_at_its_socket_is_started_again() -> None:
    talk = Talk(min=0, max=2)
    worker = talk.supervisor.workers[0]
    talk.takes(worker)
    talk.supervisor.look(talk.now)
    talk.exits(talk.starts(), 1, after=5)
    assert talk.starts() is worker


# ---------------------------------------------------------------------- another one takes over


def successor(talk: Talk) -> Worker:
    """The one that was started to take over."""
    return talk.starts()


@pytest.mark.parametrize(
    ("staff", "wear", "why"),
    [
        ({"requests": 5}, lambda talk, worker: talk.serves(worker, 5), "it has served 5 requests"),
        ({"lifetime_s": 60.0}, lambda talk, worker: talk.wait(60), "it has lived for 60 s"),
        ({"memory": 1 << 20}, lambda talk, worker: talk.memory.update({worker.pid: 2 << 20}), "it has 2048 KiB of memory"),
    ],
)
def test_who_is_worn_leaves_once_another_one_serves(staff: Any, wear: Any, why: str) -> None:
    talk = Talk(1, **staff)
    old = talk.starts()
    wear(talk, old)
    talk.takes(old)
    talk.wait(5)
    new = successor(talk)
    assert talk.states == [OPEN, OPEN]
    talk.serves(new)
    talk.wait(SWEEP_S)
    assert talk.states == [LEAVING, OPEN]
    talk.wait(5)
    assert talk.kills() == []  # it has a request still
    talk.answers(old)
    talk.wait(SWEEP_S)
    assert talk.kills() == [(old.pid, signal.SIGTERM)]
    talk.exits(old, -signal.SIGTERM)
    assert why in talk.said[-1]
    assert talk.states == [CLOSED, OPEN]


def test_who_is_said_to_leave_is_not_ended_at_once_by_what_an_engine_knew_before() -> None:
    talk = Talk(1, requests=5)
    old = talk.starts()
    talk.serves(old, 5)
    talk.wait(SWEEP_S)
    talk.serves(successor(talk))
    talk.wait(SWEEP_S)
    assert (talk.states[0], talk.kills()) == (LEAVING, [])
    talk.takes(old)  # by an engine that had chosen it before
    talk.wait(5)
    assert talk.kills() == []


def test_who_leaves_does_not_stay_for_ever() -> None:
    talk = Talk(1)
    old = talk.starts()
    talk.takes(old)
    talk.restart()
    talk.serves(successor(talk))
    talk.wait(LEAVE_S - 1)
    assert talk.kills() == []
    talk.wait(2)
    assert talk.kills() == [(old.pid, signal.SIGTERM)]


def test_one_at_a_time_is_replaced() -> None:
    talk = Talk(3, lifetime_s=10.0)
    workers = talk.all_run()
    talk.wait(10)
    new = successor(talk)
    talk.wait(5)
    assert [worker.phase for worker in workers].count(Phase.RUNNING) == 2
    assert talk.states.count(OPEN) == 3
    assert new.phase is Phase.RUNNING


def test_a_successor_that_dies_leaves_the_old_one_in_its_place() -> None:
    talk = Talk(1, requests=5)
    old = talk.starts()
    talk.serves(old, 5)
    talk.wait(SWEEP_S)
    new = successor(talk)
    talk.exits(new, 1, after=0.1)
    talk.wait(3)
    assert old.phase is Phase.RUNNING
    assert talk.states[0] == OPEN


def test_a_restart_replaces_all_and_tells_when_it_has() -> None:
    talk = Talk(2)
    old = talk.all_run()
    talk.restart()
    for worker in old:
        assert talk.restarted == []
        talk.serves(successor(talk))
        talk.wait(1)
        assert talk.kills() == [(worker.pid, signal.SIGTERM)]
        talk.exits(worker, 0)
        talk.supervisor.tick(talk.now)
    assert talk.restarted == [""]
    assert {worker.pid for worker in talk.supervisor.workers if worker.phase is Phase.RUNNING} == {1003, 1004}


def test_a_restart_to_what_does_not_run_leaves_everything_as_it_is() -> None:
    talk = Talk(2)
    old = talk.all_run()
    talk.restart()
    new = successor(talk)
    new.lines.append("syntax error")
    talk.exits(new, 1, after=0.1)
    talk.wait(30)
    assert talk.restarted == ["its worker dies at once; last line of its stderr: syntax error"]
    assert talk.spawned() == []
    assert [worker.phase for worker in old] == [Phase.RUNNING] * 2
    assert talk.supervisor.down(talk.now) == ""
    assert talk.states == [OPEN, OPEN, CLOSED]


def test_one_restart_at_a_time() -> None:
    talk = Talk(1)
    talk.starts()
    talk.restart()
    talk.restart()
    assert talk.restarted == ["a restart is under way"]
    talk.supervisor.stop(talk.now)
    assert talk.restarted[1:] == ["it was stopped"]


def test_who_tells_when_it_is_ready_is_waited_for() -> None:
    talk = Talk(1, tells=True)
    old = talk.starts()
    assert talk.states == [STARTING, CLOSED]
    talk.supervisor.ready(old)
    assert talk.states == [OPEN, CLOSED]
    talk.restart()
    new = successor(talk)
    talk.wait(5)
    assert talk.states == [OPEN, STARTING]
    talk.supervisor.ready(new)
    talk.wait(SWEEP_S)
    assert talk.states == [LEAVING, OPEN]


# ---------------------------------------------------------------------- who does not answer


def test_who_answers_nothing_for_too_long_is_ended() -> None:
    talk = Talk(1, busy_s=5.0)
    worker = talk.starts()
    talk.serves(worker)
    since = talk.now
    talk.takes(worker)
    talk.wait(4.5)
    assert talk.kills() == []
    talk.wait(0.5)
    ended, start = talk.orders()
    assert ended == Kill(worker.pid, signal.SIGTERM)
    assert isinstance(start, Spawn) and start.child is not worker  # it is not waited for
    assert talk.states == [HUNG, STARTING]
    assert talk.engine.members[0].hung(since)
    assert not talk.engine.members[0].hung(talk.now + 1)  # a request that comes to the next one
    start.child.started(1002, talk.now)
    talk.wait(HUNG_GRACE_S)
    assert talk.kills() == [(worker.pid, signal.SIGKILL)]
    talk.answers(worker)
    talk.exits(worker, -signal.SIGKILL)
    assert talk.states == [CLOSED, OPEN]
    assert talk.supervisor.down(talk.now) == ""


@pytest.mark.parametrize(("start_s", "bound_s"), [(0.0, FIRST_ANSWER_S), (3.0, 3.0), (20.0, 20.0)])
def test_who_has_answered_nothing_yet_may_still_be_starting(start_s: float, bound_s: float) -> None:
    """Ended and started again it would be no sooner ready: a program that takes a second under busy = "500ms"."""
    talk = Talk(1, busy_s=0.5, start_s=start_s)
    worker = talk.starts()
    talk.takes(worker)
    talk.wait(bound_s - 0.5)
    assert talk.kills() == []
    talk.wait(0.5)
    assert isinstance(talk.orders()[0], Kill)


def test_who_answers_from_time_to_time_is_not_hung() -> None:
    talk = Talk(1, busy_s=5.0)
    worker = talk.starts()
    talk.takes(worker, 2)
    for _ in range(5):
        talk.wait(3)
        talk.takes(worker)
        talk.answers(worker)
    assert talk.kills() == []


def test_whose_answer_an_engine_has_waited_for_in_vain_is_ended() -> None:
    talk = Talk(1)
    worker = talk.starts()
    talk.takes(worker)
    talk.wait(10)
    talk.engine.members[0].overdue()
    talk.supervisor.look(talk.now)
    assert talk.kills() == [(worker.pid, signal.SIGTERM)]


def test_a_request_that_has_waited_for_a_worker_does_not_end_it() -> None:
    talk = Talk(1)
    worker = talk.spawned()[0]
    talk.takes(worker)
    talk.wait(10)
    talk.runs(worker)
    talk.engine.members[0].overdue()
    talk.wait(5)
    assert talk.kills() == []
    talk.wait(5)
    assert talk.kills() == [(worker.pid, signal.SIGTERM)]


@pytest.mark.parametrize("tells", [False, True])
def test_who_does_not_get_ready_is_a_bad_start(tells: bool) -> None:
    talk = Talk(1, start_s=5.0, tells=tells)
    worker = talk.starts()
    if not tells:
        talk.takes(worker)
    talk.wait(5)
    assert talk.kills() == [(worker.pid, signal.SIGTERM)]
    talk.exits(worker, -signal.SIGTERM)
    assert talk.supervisor.down(talk.now) == "its worker was not ready within 5 s"
    assert talk.states[0] == BROKEN
    talk.orders()
    talk.waits_until_due(worker)
    assert talk.starts() is worker


def test_a_command_that_has_answered_once_or_was_not_asked_is_ready() -> None:
    talk = Talk(2, start_s=5.0)
    asked, _ = talk.all_run()
    talk.serves(asked)
    talk.takes(asked)
    talk.wait(30)
    assert talk.kills() == []
