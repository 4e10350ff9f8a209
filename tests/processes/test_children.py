"""A pool's life as a conversation: who starts and ends on one side, what is ordered on the other."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.processes.children import (
    FULL_S,
    LONGEST_DELAY_S,
    MOST_A_STEP,
    STEADY_S,
    STEP_S,
    URGED_S,
    Action,
    Fork,
    Keeper,
    Signal,
    spread,
)

TICK_S = 0.25


class Pool:
    """The processes that a keeper orders, without any. Jitter is in the middle of its range."""

    def __init__(
        self,
        at_least: int = 1,
        most: int = 1,
        min_spare: int = 0,
        max_spare: int | None = None,
        threads: int = 1,
        grace_s: float = 10.0,
        busy_in: Callable[[int], int] = lambda slot: 0,
        spare_places: int = 0,
    ) -> None:
        self.said: list[str] = []
        self.now = 100.0
        self.keeper = Keeper(
            at_least=at_least, most=most, min_spare=min_spare, max_spare=max_spare, threads=threads, grace_s=grace_s,
            report=lambda level, text: self.said.append(f"{level}: {text}"), busy_in=busy_in, fraction=lambda: 0.5,
            spare_places=spare_places,
        )  # fmt: skip
        self.threads = threads
        self.slots: dict[int, int] = {}
        """Where each process that lives is, by its number."""
        self.signals: dict[int, list[int]] = {}
        self.since: dict[int, float] = {}
        self.leaving: set[int] = set()
        """Who takes no more, and has not finished yet."""
        self.forks = 0
        self.refuses: OSError | None = None
        """What fork says."""
        self.lives_s: float | None = None
        """How long a new child lives; None: until it is told."""
        self.leaves_with = 1
        self.demand = 0
        """How many engines are busy, as far as there are some."""
        self.stuck = False
        """Whether children do not do as they are told."""
        self.keeper.start(self.now)

    # what the driver of a real one does

    def act(self) -> list[Action]:
        """Carry out what was ordered."""
        done: list[Action] = []
        while actions := self.keeper.actions():
            done += actions
            for action in actions:
                if isinstance(action, Fork):
                    assert action.slot not in self.slots.values(), "a place is taken by one"
                    self.forks += 1
                    if self.refuses is not None:
                        self.keeper.failed(action.slot, self.refuses, self.now)
                        continue
                    pid = 1000 + self.forks
                    self.slots[pid] = action.slot
                    self.signals[pid] = []
                    self.since[pid] = self.now
                    self.keeper.started(pid, action.slot, self.now)
                else:
                    assert action.pid in self.slots, "nobody else has the number"
                    self.signals[action.pid].append(action.number)
        return done

    def exits(self, pid: int, code: int, after: float = 0.0) -> list[Action]:
        self.now += after
        self.leaving.discard(pid)
        del self.slots[pid]
        self.keeper.exited(pid, code, self.now)
        return self.act()

    def ticks(self, seconds: float = TICK_S) -> list[Action]:
        done: list[Action] = []
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            for pid in list(self.slots):
                told = self.signals[pid]
                if signal.SIGKILL in told:
                    done += self.exits(pid, -signal.SIGKILL)
                elif told and not self.stuck:
                    done += self.exits(pid, 0)
                elif self.lives_s is not None and self.now - self.since[pid] >= self.lives_s:
                    done += self.exits(pid, self.leaves_with)
            for pid in self.leaving:
                self.keeper.leaving(self.slots[pid], self.now)
            self.keeper.tick(self.now, self.idle, self.busy)
            done += self.act()
        return done

    def stopped(self) -> bool:
        return self.keeper.stopped

    @property
    def serving(self) -> list[int]:
        return [pid for pid in self.slots if not self.signals[pid] and pid not in self.leaving]

    @property
    def in_use(self) -> int:
        return min(self.demand, len(self.serving) * self.threads)

    @property
    def busy(self) -> int:
        return self.in_use + len(self.leaving) * self.threads

    @property
    def idle(self) -> int:
        return len(self.serving) * self.threads - self.in_use


# ---------------------------------------------------------------------- a fixed number


def test_so_many_are_started_each_at_a_place_of_its_own() -> None:
    pool = Pool(at_least=3, most=5)
    assert pool.act() == [Fork(0), Fork(1), Fork(2)]
    assert pool.keeper.pids() == [1001, 1002, 1003]
    assert pool.ticks(5) == []
    assert pool.said == []
    assert not pool.stopped()


def test_who_has_served_enough_is_replaced_at_once_however_soon() -> None:
    pool = Pool(at_least=2, most=2)
    pool.act()
    assert pool.exits(1002, 0, after=3600.0) == [Fork(1)]
    assert pool.exits(1001, 0, after=0.01) == [Fork(0)]
    assert pool.exits(1003, 0, after=0.01) == [Fork(1)]
    assert pool.said == []


def test_who_leaves_is_replaced_while_it_finishes_what_it_has() -> None:
    pool = Pool(at_least=2, most=2, spare_places=1)
    pool.act()
    pool.leaving.add(1001)
    assert pool.ticks(3600) == [Fork(2)]
    assert pool.exits(1001, 0) == []
    assert pool.ticks(60) == []
    assert pool.said == []


def test_where_no_place_is_left_the_one_that_has_been_leaving_for_longest_is_told_to_end() -> None:
    pool = Pool(at_least=2, most=2, spare_places=1)
    pool.act()
    pool.leaving.add(1002)
    assert pool.ticks() == [Fork(2)]
    pool.leaving.add(1001)
    assert pool.ticks() == [Signal(1002, signal.SIGTERM)]
    assert pool.ticks() == [Fork(1)]
    assert sorted(pool.serving) == [1003, 1004]


def test_without_a_place_beside_the_others_a_child_that_leaves_has_its_grace() -> None:
    pool = Pool(at_least=1, most=1)
    pool.act()
    pool.stuck = True
    pool.leaving.add(1001)
    assert pool.ticks(9) == [Signal(1001, signal.SIGTERM)]
    pool.ticks(5)
    assert pool.serving == [1002]


def test_who_leaves_is_told_when_the_pool_stops() -> None:
    pool = Pool(at_least=1, most=1, spare_places=1)
    pool.act()
    pool.leaving.add(1001)
    pool.ticks()
    pool.keeper.stop(pool.now)
    assert pool.act() == [Signal(1001, signal.SIGTERM), Signal(1002, signal.SIGTERM)]
    pool.ticks()
    assert pool.stopped()


def test_who_crashes_after_a_life_is_replaced_at_once_and_told() -> None:
    pool = Pool(at_least=2, most=2)
    pool.act()
    assert pool.exits(1001, -signal.SIGSEGV, after=60.0) == [Fork(0)]
    assert pool.said == [
        "error: child 1001 was ended by SIGSEGV after 60.0 s: the requests that it had are lost, no other child is "
        "touched; another one takes its place; a module in C is at fault: PYTHONFAULTHANDLER=1 in the environment "
        "shows which"
    ]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (70, "exited with code 70 after 60.0 s:"),
        (70, "see what it told before"),
        (-signal.SIGKILL, "was ended by SIGKILL (perhaps out of memory?)"),
        (-signal.SIGKILL, "dmesg"),
        (-signal.SIGUSR1, "find out who sent that signal"),
        (256, "its exit code is not known"),
    ],
)
def test_each_way_to_end_has_its_remedy(code: int, told: str) -> None:
    pool = Pool()
    pool.act()
    pool.exits(1001, code, after=60.0)
    assert told in pool.said[0]


# ---------------------------------------------------------------------- starts that go wrong


def test_who_dies_at_once_is_replaced_later_and_later_by_one_at_a_time() -> None:
    pool = Pool(at_least=4, most=4)
    pool.act()
    for pid in (1001, 1002, 1003, 1004):
        assert pool.exits(pid, 3, after=0.01) == []
    assert "the next one is started in 0.1 s" in pool.said[0]
    pool.lives_s = 0.0
    before = pool.forks
    pool.ticks(60)
    assert 10 <= pool.forks - before <= 15  # 0.1, 0.2 ... 6.4, 10, 10 ... seconds apart, and the ticks between
    pool.lives_s = None
    while not pool.serving:
        pool.ticks()
    pool.ticks(STEADY_S - TICK_S)
    assert len(pool.serving) == 1
    pool.ticks()
    assert len(pool.serving) == 4


def test_one_that_lives_ends_the_waiting() -> None:
    pool = Pool()
    pool.lives_s = 0.0
    pool.ticks(30)
    assert f"started in {LONGEST_DELAY_S:.1f} s" in pool.said[-1]
    pool.lives_s = None
    pool.ticks(LONGEST_DELAY_S + STEADY_S)
    (pid,) = pool.serving
    assert pool.exits(pid, 1, after=5.0) == [Fork(0)]
    assert pool.exits(pool.serving[0], 1, after=0.5) == []
    assert "the next one is started in 0.1 s" in pool.said[-1]


def test_one_that_lived_between_two_looks_ends_the_waiting_too() -> None:
    pool = Pool(at_least=2, most=2)
    pool.act()
    pool.exits(1001, 1)
    pool.exits(1002, 1)
    assert pool.ticks() == [Fork(0)]
    assert pool.exits(1003, 1, after=STEADY_S) == [Fork(0), Fork(1)]


def test_one_that_has_lived_for_long_says_nothing_of_the_starts_of_now() -> None:
    pool = Pool(at_least=2, most=2)
    pool.ticks(60)
    pool.lives_s = 0.0
    old, other = pool.serving
    pool.since[old] = 1e9  # this one does not end by itself
    before = pool.forks
    pool.exits(other, 1)
    pool.ticks(60)
    assert pool.forks - before <= 15
    assert old in pool.serving


def test_a_start_that_failed_is_told_once_for_all_and_tried_again() -> None:
    pool = Pool(at_least=3, most=3)
    pool.refuses = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    pool.act()
    assert pool.said == [
        "error: no child could be started: the system allows no more processes; raise the limit (ulimit -u, TasksMax= "
        "of systemd, pids.max of the container), or lower `max`; trying again in 0.1 s"
    ]
    pool.ticks(60)
    assert pool.forks <= 3 + 15
    pool.refuses = None
    pool.ticks(LONGEST_DELAY_S * 1.25 + STEADY_S)
    assert len(pool.serving) == 3


@pytest.mark.parametrize(
    ("code", "told"), [(errno.ENOMEM, "no memory for another process"), (errno.ENOSYS, os.strerror(errno.ENOSYS))]
)
def test_a_start_that_failed_has_its_remedy(code: int, told: str) -> None:
    pool = Pool()
    pool.refuses = OSError(code, os.strerror(code))
    pool.act()
    assert told in pool.said[0]


def test_who_ends_on_purpose_and_at_once_for_ever_does_not_keep_us_busy() -> None:
    pool = Pool(at_least=2, most=2)
    pool.act()
    before = pool.now
    while pool.now < before + 10.0:
        for pid in pool.serving:
            pool.exits(pid, 0, after=0.001)
        if not pool.serving:
            pool.ticks()
    assert pool.forks <= 10 * (MOST_A_STEP + 6)
    assert any("raise `requests`" in text for text in pool.said)


# ---------------------------------------------------------------------- as many as are needed


def test_the_pool_grows_faster_and_faster_and_not_beyond_what_may_be() -> None:
    pool = Pool(at_least=1, most=40, min_spare=2, max_spare=100)
    pool.demand = 1000
    counts = [len(pool.slots)]
    for _ in range(12):
        pool.ticks(STEP_S)
        counts.append(len(pool.slots))
    assert counts[:6] == [0, 2, 4, 8, 16, 32]
    assert max(counts) == 40
    pool.ticks(FULL_S)
    assert pool.said == [
        "warn: all 40 processes have been busy for 5 s, and further clients wait; raise `max`, or find out why requests "
        "take so long (this is told once)"
    ]


def test_one_that_is_still_starting_is_not_started_twice() -> None:
    pool = Pool(at_least=1, most=10, min_spare=1, max_spare=3)
    pool.act()
    for _ in range(40):
        pool.now += TICK_S
        pool.keeper.tick(pool.now, 0, 0)  # it takes long to build
    pool.act()
    assert pool.forks == 1


def test_no_more_are_started_than_may_be_idle() -> None:
    pool = Pool(at_least=1, most=64, min_spare=4, max_spare=9, threads=4)
    pool.ticks(30)
    assert len(pool.slots) == 1
    pool.demand = 1
    pool.ticks(STEP_S)
    assert len(pool.slots) == 2


def test_idle_ones_are_let_go_one_at_a_time_the_youngest_first() -> None:
    pool = Pool(at_least=1, most=10, min_spare=1, max_spare=3)
    pool.demand = 6
    pool.ticks(10)
    assert len(pool.serving) == 7
    pool.demand = 0
    assert pool.ticks() == [Signal(1007, signal.SIGTERM)]
    pool.ticks(30)
    assert pool.serving == [1001, 1002, 1003]
    assert pool.said == []


def test_who_has_the_least_to_finish_is_let_go() -> None:
    pool = Pool(at_least=1, most=4, min_spare=1, max_spare=9, threads=4, busy_in=lambda slot: [1, 0, 3, 2][slot])
    pool.demand = 16
    pool.ticks(10)
    assert len(pool.serving) == 4
    pool.demand = 6
    assert pool.ticks() == [Signal(1002, signal.SIGTERM)]


def test_a_child_that_may_go_leaves_enough() -> None:
    """It has more engines than there are between the bounds: a config that names such is refused, and nothing breaks."""
    pool = Pool(at_least=1, most=2, min_spare=4, max_spare=5, threads=8)
    pool.demand = 5
    pool.ticks(STEP_S)
    assert len(pool.serving) == 2
    assert pool.ticks(30) == []


def test_after_a_calm_the_pool_grows_slowly_again() -> None:
    pool = Pool(at_least=1, most=100, min_spare=1, max_spare=50)
    pool.demand = 15
    pool.ticks(10)
    assert len(pool.slots) == 16
    pool.demand = 16
    pool.ticks()
    assert len(pool.slots) == 17


def test_the_pool_grows_after_a_bad_start_of_long_ago() -> None:
    pool = Pool(at_least=1, most=10, min_spare=1, max_spare=3)
    pool.demand = 6
    pool.ticks(10)
    (fork,) = pool.exits(1007, 0)
    assert isinstance(fork, Fork)
    pool.exits(1000 + pool.forks, 1)  # and before another one is tried, nobody more is needed
    pool.demand = 0
    pool.ticks(10)
    assert pool.serving == [1001, 1002, 1003]
    pool.demand = 6
    pool.ticks(10)
    assert len(pool.serving) >= 7


def test_a_pool_whose_starts_all_go_wrong_wants_no_more_and_more() -> None:
    pool = Pool(at_least=1, most=64, min_spare=1, max_spare=64)
    pool.ticks(10)
    pool.demand = 64
    pool.lives_s = 0.0
    pool.since[1001] = 1e9
    pool.ticks(60)
    assert pool.keeper.target == 2


def test_nobody_is_let_go_while_others_are_missing() -> None:
    pool = Pool(at_least=1, most=10, min_spare=1, max_spare=3)
    pool.demand = 6
    pool.ticks(10)
    pool.demand = 0
    pool.refuses = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    for pid in (1005, 1006, 1007):
        pool.exits(pid, -signal.SIGKILL)
    assert [action for action in pool.ticks(STEP_S) if isinstance(action, Signal)] == []
    pool.refuses = None
    pool.ticks(30)
    assert len(pool.serving) == 3


def test_who_dies_while_the_pool_is_large_is_replaced() -> None:
    pool = Pool(at_least=1, most=10, min_spare=1, max_spare=3)
    pool.demand = 6
    pool.ticks(10)
    assert [type(action) for action in pool.exits(1004, -signal.SIGKILL)] == [Fork]
    assert len(pool.serving) == 7


def test_who_was_let_go_is_not_replaced_and_its_end_is_no_news() -> None:
    pool = Pool(at_least=1, most=10, min_spare=1, max_spare=3)
    pool.demand = 6
    pool.ticks(10)
    pool.demand = 3
    pool.stuck = True
    assert pool.ticks() == [Signal(1007, signal.SIGTERM)]
    assert pool.exits(1007, -signal.SIGTERM) == []
    assert pool.said == []


def test_who_was_let_go_and_crashes_is_told_of() -> None:
    pool = Pool(at_least=1, most=10, min_spare=1, max_spare=3)
    pool.demand = 6
    pool.ticks(10)
    pool.demand = 3
    pool.stuck = True
    pool.ticks()
    assert pool.exits(1007, -signal.SIGKILL) == []
    assert "child 1007 was ended by SIGKILL" in pool.said[0]
    assert "it was to end anyway" in pool.said[0]


def test_who_still_ends_counts_among_the_most() -> None:
    pool = Pool(at_least=1, most=5, min_spare=1, max_spare=2)
    pool.demand = 4
    pool.ticks(10)
    pool.demand = 0
    pool.stuck = True
    pool.ticks(5)
    pool.demand = 5
    pool.ticks(5)
    assert len(pool.slots) == 5


def test_a_pool_that_has_somebody_idle_is_not_too_small() -> None:
    pool = Pool(at_least=2, most=2, min_spare=2, max_spare=2)
    pool.demand = 1
    pool.ticks(60)
    assert pool.said == []


def test_a_pool_that_is_too_small_is_told_of_once_and_only_if_it_lasts() -> None:
    pool = Pool(at_least=2, most=2, min_spare=1, max_spare=8, threads=4)
    pool.demand = 8
    pool.ticks(FULL_S - 1)
    pool.demand = 7
    pool.ticks()
    pool.demand = 8
    pool.ticks(FULL_S)
    assert pool.said == []
    pool.ticks(FULL_S)
    pool.demand = 0
    pool.ticks()
    pool.demand = 8
    pool.ticks(60)
    assert pool.said == [
        "warn: all 4 threads of all 2 processes have been busy for 5 s, and further clients wait; raise `max` or "
        "`threads`, or find out why requests take so long (this is told once)"
    ]


# ---------------------------------------------------------------------- the end


def test_all_are_asked_once_and_then_it_has_stopped() -> None:
    pool = Pool(at_least=2, most=4)
    pool.act()
    pool.keeper.stop(pool.now)
    pool.keeper.stop(pool.now)
    assert pool.act() == [Signal(1001, signal.SIGTERM), Signal(1002, signal.SIGTERM)]
    assert not pool.stopped()
    assert pool.exits(1001, 0, after=0.1) == []
    assert pool.exits(1002, 0) == []
    assert pool.stopped()
    assert pool.said == []


def test_a_second_signal_has_them_end_now_and_then_they_are_killed() -> None:
    pool = Pool(at_least=1, most=1)
    pool.act()
    pool.stuck = True
    pool.keeper.stop(pool.now)
    pool.act()
    for _ in range(3):
        pool.keeper.stop(pool.now, at_once=True)
    assert pool.act() == [Signal(1001, signal.SIGTERM)]
    assert pool.ticks(URGED_S) == [Signal(1001, signal.SIGKILL)]
    assert pool.said == [
        "warn: child 1001 did not end in time and is ended with SIGKILL: the requests that it had are lost; find out "
        "what in the application blocks"
    ]
    pool.keeper.tick(pool.now + 100, 0, 0)
    assert pool.act() == []
    pool.ticks()
    assert pool.stopped()
    assert len(pool.said) == 1


def test_who_does_not_end_in_its_time_is_urged_and_then_killed() -> None:
    pool = Pool(at_least=1, most=1, grace_s=3.0)
    pool.act()
    pool.stuck = True
    pool.keeper.stop(pool.now)
    assert pool.act() == [Signal(1001, signal.SIGTERM)]
    assert pool.ticks(3.0) == [Signal(1001, signal.SIGTERM)]
    assert pool.ticks(URGED_S) == [Signal(1001, signal.SIGKILL)]
    pool.ticks()
    assert pool.stopped()


def test_who_was_let_go_and_does_not_end_is_killed_too() -> None:
    pool = Pool(at_least=1, most=5, min_spare=1, max_spare=2, grace_s=3.0)
    pool.demand = 4
    pool.ticks(10)
    pool.stuck = True
    pool.demand = 0
    pool.ticks(60)
    assert len(pool.slots) == 2
    assert any(text.startswith("warn: child 1005 did not end in time") for text in pool.said)


def test_nobody_is_started_any_more() -> None:
    pool = Pool(at_least=2, most=2)
    pool.keeper.stop(pool.now)  # before anything was done
    assert pool.act() == []
    assert pool.stopped()
    assert pool.ticks(10) == []


@pytest.mark.parametrize("at_once", [False, True])
def test_one_whose_start_was_under_way_is_told_when_it_runs(at_once: bool) -> None:
    pool = Pool()
    assert pool.keeper.actions() == [Fork(0)]
    pool.keeper.stop(pool.now, at_once=at_once)
    assert pool.keeper.actions() == []
    assert not pool.stopped()
    pool.keeper.started(1, 0, pool.now)
    assert pool.keeper.actions() == [Signal(1, signal.SIGTERM)]
    pool.keeper.tick(pool.now + URGED_S, 0, 0)
    assert pool.keeper.actions() == ([Signal(1, signal.SIGKILL)] if at_once else [])
    pool.said.clear()
    pool.keeper.exited(1, -signal.SIGKILL if at_once else -signal.SIGTERM, pool.now)
    assert pool.stopped()
    assert pool.said == []


def test_one_whose_start_failed_meanwhile_is_over() -> None:
    pool = Pool()
    assert pool.keeper.actions() == [Fork(0)]
    pool.keeper.stop(pool.now)
    pool.keeper.failed(0, OSError(errno.EAGAIN, "busy"), pool.now)
    assert pool.stopped()
    assert pool.said == []


def test_one_that_crashes_while_all_end_is_told_of() -> None:
    pool = Pool()
    pool.act()
    pool.keeper.stop(pool.now)
    pool.act()
    assert pool.exits(1001, 70) == []
    assert "child 1001 exited with code 70" in pool.said[0]
    assert pool.stopped()


# ---------------------------------------------------------------------- limits


@given(st.integers(1, 1 << 62), st.floats(0, 1, exclude_max=True))
def test_limits_are_spread_over_a_quarter(requests: int, fraction: float) -> None:
    limit = spread(requests, fraction)
    assert limit >= 1
    assert abs(limit - requests) <= requests / 8 * (1 + 1e-12) + 1


def test_no_limit_stays_no_limit() -> None:
    assert spread(0, 0.0) == spread(0, 0.9) == 0
    assert spread(1, 0.0) == 1
    assert spread(10_000, 0.0) == 8_750
    assert spread(10_000, 0.5) == 10_000


# ---------------------------------------------------------------------- any life


class AnyLife(RuleBasedStateMachine):
    """Load, deaths, failures and time in any order; whenever they leave it in peace, the pool is as it shall be."""

    pool: Pool

    @initialize(
        at_least=st.integers(1, 5), more=st.integers(0, 20), threads=st.integers(1, 4), min_spare=st.integers(1, 5),
        room=st.integers(0, 6), spare_places=st.integers(0, 2),
    )  # fmt: skip
    def begin(self, at_least: int, more: int, threads: int, min_spare: int, room: int, spare_places: int) -> None:
        self.spare_places = spare_places
        self.at_least = at_least
        self.most = at_least + more
        self.min_spare = min(min_spare, self.most * threads)
        self.max_spare = self.min_spare + threads + room
        self.pool = Pool(at_least, self.most, self.min_spare, self.max_spare, threads, spare_places=spare_places)
        self.pool.act()

    @rule(demand=st.integers(0, 60))
    def load(self, demand: int) -> None:
        self.pool.demand = demand

    @rule(ticks=st.integers(1, 20))
    def time(self, ticks: int) -> None:
        self.pool.ticks(ticks * TICK_S)

    @rule(which=st.integers(0, 100), code=st.sampled_from([0, 1, 70, -9, -11, 256]), after=st.sampled_from([0.0, 0.1, 2.0]))
    def death(self, which: int, code: int, after: float) -> None:
        if self.pool.slots:
            self.pool.exits(list(self.pool.slots)[which % len(self.pool.slots)], code, after)

    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        serving = self.pool.serving
        if serving:
            self.pool.leaving.add(serving[which % len(serving)])

    @rule(code=st.sampled_from([None, errno.EAGAIN, errno.ENOMEM]))
    def system(self, code: int | None) -> None:
        self.pool.refuses = OSError(code, os.strerror(code)) if code else None

    @rule(lives_s=st.sampled_from([None, 0.0, 0.5]), code=st.sampled_from([1, -11]))
    def health(self, lives_s: float | None, code: int) -> None:
        self.pool.lives_s = lives_s
        self.pool.leaves_with = code

    @rule(stuck=st.booleans())
    def manners(self, stuck: bool) -> None:
        self.pool.stuck = stuck

    @rule()
    def bad_minute(self) -> None:
        """Whatever was before, starts that all go wrong are few."""
        if self.pool.lives_s == 0.0:
            self.pool.ticks(STEADY_S + TICK_S)  # what was started before has died or proved itself
            before = self.pool.forks
            self.pool.ticks(60)
            assert self.pool.forks - before <= 15

    @rule()
    def peace(self) -> None:
        self.pool.refuses = self.pool.lives_s = None
        self.pool.stuck = False
        self.pool.ticks(90)
        serving = len(self.pool.serving)
        assert self.at_least <= serving <= self.most
        assert self.pool.idle >= self.min_spare or serving == self.most
        assert self.pool.idle <= self.max_spare or serving == self.at_least
        forks = self.pool.forks
        assert self.pool.ticks(60) == []
        assert self.pool.forks == forks

    @invariant()
    def never_more_than_there_may_be(self) -> None:
        if hasattr(self, "pool"):
            assert len(self.pool.slots) <= self.most + self.spare_places
            told = sum(bool(self.pool.signals[pid]) for pid in self.pool.slots if pid not in self.pool.leaving)
            assert len(self.pool.serving) + told <= self.most
            assert sorted(self.pool.keeper.pids()) == sorted(self.pool.slots)

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.pool.keeper.stop(self.pool.now)
            self.pool.act()
            forks = self.pool.forks
            self.pool.ticks(20)
            assert self.pool.stopped()
            assert not self.pool.slots
            assert self.pool.forks == forks


AnyLife.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnyLife = AnyLife.TestCase


# ---------------------------------------------------------------------- another pool takes its place


def test_who_retires_has_all_the_time_and_nobody_is_replaced() -> None:
    pool = Pool(at_least=2, most=4, grace_s=1.0)
    first, second = pool.act() and list(pool.slots)
    pool.stuck = True
    pool.keeper.retire()
    assert pool.act() == [Signal(first, signal.SIGUSR2), Signal(second, signal.SIGUSR2)]
    assert pool.ticks(10.0) == []
    pool.stuck = False
    assert pool.exits(first, 0) == []
    assert not pool.stopped()
    assert pool.exits(second, 1) == []
    assert pool.stopped()
    assert len(pool.said) == 1 and "it was to end anyway" in pool.said[0]


def test_who_retires_may_be_stopped() -> None:
    pool = Pool(at_least=1, most=4, grace_s=1.0)
    pool.act()
    (child,) = pool.slots
    pool.stuck = True
    pool.keeper.retire()
    pool.act()
    pool.keeper.stop(pool.now)
    assert pool.act() == [Signal(child, signal.SIGTERM)]
    assert Signal(child, signal.SIGTERM) in pool.ticks(1.25)


def test_a_child_that_was_being_forked_is_told_at_once() -> None:
    keeper = Keeper(at_least=1, most=1, report=lambda level, text: None)
    keeper.start(0.0)
    (fork,) = keeper.actions()
    assert isinstance(fork, Fork)
    keeper.retire()
    keeper.started(7, fork.slot, 0.1)
    assert keeper.actions() == [Signal(7, signal.SIGUSR2)]
