"""A supervisor's life as a conversation: what it is told on one side, what it orders on the other."""

from __future__ import annotations

import errno
import math
import os
import signal

import pytest

from gateway.ends import End, Kill, Launch, Order, Spawn, Turn
from gateway.processes.explain import Explanation
from gateway.processes.supervise import LONGEST_DELAY_S, STEADY_S, Phase, Supervisor, Worker

LAUNCH = Launch(b"/usr/bin/php-cgi", [b"php-cgi"], {}, b"/", stdin=7)
NOT_STARTED = Explanation(500, "no-interpreter", "no perl here", "install it")


class Talk:
    """One supervisor, its clock, and what it said and ordered. Jitter is in the middle of its range."""

    def __init__(self, count: int = 1, *, grace_s: float = 10.0) -> None:
        self.turn = Turn()
        self.said: list[str] = []
        self.now = 100.0
        self.pid = 1000
        self.supervisor = Supervisor(
            self.turn, LAUNCH, count, "wiki",
            lambda level, text: self.said.append(f"{level}: {text}"),
            lambda worker: End(self.turn),
            grace_s=grace_s, fraction=lambda: 0.5, why=lambda error, launch: NOT_STARTED,
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

    def starts(self) -> Worker:
        """The one process that was ordered runs."""
        (worker,) = self.spawned()
        return self.runs(worker)

    def runs(self, worker: Worker) -> Worker:
        self.pid += 1
        worker.started(self.pid, self.now)
        return worker

    def waits_until_deadline(self) -> float:
        waited = self.supervisor.deadline - self.now
        self.now = self.supervisor.deadline
        self.supervisor.expired(self.now)
        return waited

    def exits(self, worker: Worker, code: int, after: float) -> None:
        self.now += after
        worker.exited(code, self.now)


def test_all_workers_are_started_with_the_socket_and_a_log() -> None:
    talk = Talk(3)
    orders = talk.orders()
    assert len(orders) == 3
    for order in orders:
        assert isinstance(order, Spawn)
        assert order.launch is LAUNCH and order.launch.stdin == 7
        assert order.stdin is None and order.stdout is None and order.stderr is not None
    assert talk.supervisor.deadline == math.inf


def test_it_is_down_while_every_start_is_a_bad_one() -> None:
    talk = Talk(2)
    one, two = talk.spawned()
    assert talk.supervisor.down(talk.now) == ""  # they are being started
    talk.runs(one).last_line = "no such table"
    talk.exits(one, 1, after=0.1)
    assert talk.supervisor.down(talk.now) == ""  # the other one may serve
    two.failed(FileNotFoundError(errno.ENOENT, "perl"), talk.now)
    assert talk.supervisor.down(talk.now) == "its worker dies at once; last line of its stderr: no such table"
    assert talk.supervisor.retry_after_s(talk.now) == 2
    talk.waits_until_deadline()
    started = [talk.runs(worker) for worker in talk.spawned()]
    assert talk.supervisor.down(talk.now)  # it is not known yet to be better than the last
    talk.now += STEADY_S
    assert talk.supervisor.down(talk.now) == ""
    assert started


def test_one_signal_does_not_make_it_down_and_two_in_a_row_do() -> None:
    """Somebody may have killed a worker that was young; the requests that come wait at its socket."""
    talk = Talk()
    talk.exits(talk.starts(), -9, after=0.1)
    assert talk.supervisor.down(talk.now) == ""
    talk.waits_until_deadline()
    talk.exits(talk.starts(), -9, after=0.1)
    assert talk.supervisor.down(talk.now) == "its worker dies at once"


def test_who_ends_on_purpose_is_not_down_however_soon() -> None:
    talk = Talk()
    talk.exits(talk.starts(), 0, after=0.1)
    assert talk.supervisor.down(talk.now) == ""


def test_who_ends_on_purpose_again_and_again_is_told_less_and_less_often() -> None:
    talk = Talk()
    for _ in range(20):
        talk.exits(talk.starts(), 0, after=0.1)
        talk.waits_until_deadline()
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
    worker.last_line = "no module named wiki"
    talk.exits(worker, 3, after=0.2)
    assert talk.spawned() == []
    assert talk.said == [
        "error: app 'wiki' worker 1001 exited with code 3 after 0.2 s; "
        "last line of its stderr: no module named wiki; restarting in 0.1 s"
    ]
    assert talk.waits_until_deadline() == pytest.approx(0.1)
    assert talk.starts() is worker
    assert worker.last_line == ""


def test_the_wait_doubles_up_to_a_limit_and_a_good_life_ends_it() -> None:
    talk = Talk()
    waits: list[float] = []
    for _ in range(12):
        talk.exits(talk.starts(), 1, after=0.2)
        waits.append(talk.waits_until_deadline())
    assert waits[:4] == [pytest.approx(wait) for wait in (0.1, 0.2, 0.4, 0.8)]
    assert max(waits) == pytest.approx(LONGEST_DELAY_S)
    talk.exits(talk.starts(), 1, after=5)
    talk.exits(talk.starts(), 1, after=0.2)
    assert talk.waits_until_deadline() == pytest.approx(0.1)


def test_waits_are_spread() -> None:
    fractions = iter([0.0, 0.999])
    turn = Turn()
    supervisor = Supervisor(turn, LAUNCH, 2, "wiki", lambda *_: None, fraction=lambda: next(fractions))
    supervisor.start(0)
    for worker in supervisor.workers:
        worker.started(1234, 0)
        worker.exited(1, 0)
    low, high = (worker.due for worker in supervisor.workers)
    assert 0.07 < low < 0.1 < high < 0.13


def test_who_goes_into_the_background_is_told_to_stay() -> None:
    talk = Talk()
    for _ in range(8):
        talk.exits(talk.starts(), 0, after=0.01)
        assert talk.waits_until_deadline() <= 1.0
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
    assert talk.waits_until_deadline() == pytest.approx(0.1)
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
    for worker in talk.supervisor.workers:
        assert not talk.supervisor.stopped
        talk.exits(worker, 0, after=0.1)
    assert talk.supervisor.stopped
    assert talk.spawned() == []
    assert talk.supervisor.deadline == math.inf
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
    assert talk.waits_until_deadline() == 2
    assert talk.orders() == [Kill(1001, signal.SIGKILL)]
    assert talk.said == ["warn: app 'wiki' worker 1001 did not end in time and is ended with SIGKILL"]
    talk.supervisor.expired(talk.now + 1)
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
        talk.waits_until_deadline()
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
