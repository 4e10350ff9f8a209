"""The board as several real processes see it: who counts what, and what a death leaves behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.processes.scoreboard import (
    BUSY,
    ENDING,
    FREE,
    FRESH_S,
    IDLE,
    SCARCE_S,
    STARTING,
    Scoreboard,
    Slot,
)

ADDRESSES = ["unix:/run/a.sock", "127.0.0.1:9000"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Iterator[Scoreboard]:
    made = Scoreboard(8, ADDRESSES, 3, clock)
    yield made
    made.close()


def child(work: Callable[[], object]) -> int:
    """A process that does this work and ends: with 0, or with 1 where it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # who runs the tests may have threads
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ends_well(pid: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_new_board_is_empty(board: Scoreboard) -> None:
    slot = board.slot(0)
    assert (slot.pid, slot.state, slot.held, slot.requests, slot.running(2)) == (0, FREE, 0, 0, 0)
    assert (board.idle(), board.busy(), board.connections(), board.line) == (0, 0, 0, 0)
    assert not board.has_line()
    assert not slot.waiting()
    assert not slot.scarce(ADDRESSES[0])


def test_what_one_process_writes_another_one_reads(board: Scoreboard, clock: Clock) -> None:
    def serve() -> None:
        slot = board.slot(3)
        slot.take()
        slot.state = BUSY
        slot.hold(17)
        slot.requests = 1 << 40
        slot.beat = 1234.5
        assert slot.may_run(2, 5)
        board.slot(7).hold(1)

    pid = child(serve)
    ends_well(pid)
    slot = board.slot(3)
    assert (slot.pid, slot.state, slot.held, slot.requests, slot.beat) == (pid, BUSY, 17, 1 << 40, 1234.5)
    assert [slot.running(i) for i in range(3)] == [0, 0, 1]
    assert board.connections() == 18
    assert slot.connections() == 1
    assert board.slot(7).connections() == 17


def test_taking_a_slot_leaves_nothing_of_the_one_before(board: Scoreboard, clock: Clock) -> None:
    slot = board.slot(1)
    slot.hold(4)
    slot.requests = 9
    assert slot.may_run(0, 1)
    slot.take()
    assert (slot.pid, slot.state, slot.held, slot.requests, slot.running(0)) == (os.getpid(), STARTING, 0, 0, 0)
    assert slot.beat == clock.now


def test_clearing_frees_the_slot_of_the_dead_and_no_other(board: Scoreboard) -> None:
    for number in (1, 2):
        slot = board.slot(number)
        slot.take()
        slot.state = BUSY
        slot.hold(number)
        assert slot.may_run(0, 2)
    assert not board.slot(3).may_run(0, 2)
    board.clear(1)
    assert (board.slot(1).pid, board.slot(1).state, board.slot(1).held) == (0, FREE, 0)
    assert (board.slot(2).pid, board.slot(2).state, board.slot(2).held) == (os.getpid(), BUSY, 2)
    assert board.slot(3).may_run(0, 2)


@given(st.lists(st.sampled_from([FREE, STARTING, IDLE, BUSY, ENDING]), min_size=1, max_size=70), st.data())
def test_the_parent_counts_who_is_idle_and_who_is_not(states: list[int], data: st.DataObject) -> None:
    board = Scoreboard(len(states), ["a"], 2)
    for number, state in enumerate(states):
        board.slot(number).state = state
    first = data.draw(st.integers(0, len(states)))
    some = range(first, data.draw(st.integers(first, len(states))))
    assert board.idle() == states.count(IDLE)
    assert board.busy() == states.count(BUSY) + states.count(ENDING)
    assert board.busy(some) == sum(states[i] in (BUSY, ENDING) for i in some)
    assert board.anybody_idle() is (IDLE in states)
    board.close()


# ---------------------------------------------------------------------- who waits, who listens


def test_whether_somebody_waits_is_asked_only_while_nobody_is_idle(board: Scoreboard) -> None:
    slot, other = board.slot(0), board.slot(5)
    asked: list[bool] = []

    def pending() -> bool:
        asked.append(True)
        return True

    slot.pending = pending
    slot.state = BUSY
    other.state = IDLE
    assert not slot.waiting()
    assert asked == []
    for state in (FREE, STARTING, BUSY, ENDING):
        other.state = state
        assert slot.waiting()
    assert len(asked) == 4


def test_the_parent_s_line_is_seen_by_all(board: Scoreboard) -> None:
    board.line = 3
    ends_well(child(lambda: (board.line == 3 and board.has_line()) or 1 / 0))
    board.line = 0
    assert not board.has_line()


def test_a_change_of_connections_is_told(board: Scoreboard) -> None:
    slot = board.slot(0)
    told: list[int] = []
    slot.changed = told.append
    slot.hold(2)
    slot.hold(0)
    assert told == [2, 0]
    assert slot.held == 0


def test_only_who_listens_and_lives_counts_for_an_even_spread(board: Scoreboard, clock: Clock) -> None:
    me, other = board.slot(2), board.slot(7)
    for slot in (me, other):
        slot.take()
        slot.state = IDLE
    me.hold(1)
    other.hold(4)
    assert board.least(me, (IDLE,)) == (4, 7)
    other.state = BUSY
    assert board.least(me, (IDLE,)) == (-1, -1)
    assert board.least(me, (IDLE, BUSY)) == (4, 7)
    clock.now += FRESH_S + 0.1
    assert board.least(me, (IDLE, BUSY)) == (-1, -1)
    other.beat = clock.now
    assert board.least(me, (BUSY,)) == (4, 7)


@given(st.lists(st.tuples(st.sampled_from([IDLE, BUSY]), st.integers(0, 5)), min_size=2, max_size=9))
def test_the_one_with_the_fewest_is_found_wherever_it_is(engines: list[tuple[int, int]]) -> None:
    board = Scoreboard(len(engines), (), 0)
    for number, (state, held) in enumerate(engines):
        slot = board.slot(number)
        slot.take()
        slot.state = state
        slot.hold(held)
    found = [(held, number) for number, (state, held) in enumerate(engines) if state == IDLE and number]
    assert board.least(board.slot(0), (IDLE,)) == min(found, default=(-1, -1))
    board.close()


def test_who_ends_is_seen_where_all_of_a_process_do(board: Scoreboard) -> None:
    assert not board.ends(range(2, 4))
    board.slot(2).state = ENDING
    assert not board.ends(range(2, 4))
    board.slot(3).state = ENDING
    assert board.ends(range(2, 4))
    assert not board.ends(range(2, 5))


# ---------------------------------------------------------------------- what may run


LIMIT = 3
ROUNDS = 300


def hammer(board: Scoreboard, slot: Slot, tokens: tuple[int, int], granted: list[int]) -> None:
    """Run things; each that may takes a token out of a pipe that has LIMIT of them, and is wrong to find none."""
    taken, given_back = tokens
    rounds = 0
    while rounds < ROUNDS or not granted:
        rounds += 1
        if slot.may_run(1, LIMIT):
            os.read(taken, 1)  # raises BlockingIOError where more run than may
            granted.append(1)
            time.sleep(0)
            os.write(given_back, b"x")
            slot.has_run(1)


def test_never_more_run_than_may_whatever_processes_and_threads_do(board: Scoreboard) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, b"x" * LIMIT)

    def process(first: int) -> None:
        granted: list[int] = []
        failures: list[BaseException] = []

        def work(slot: Slot) -> None:
            try:
                hammer(board, slot, (reader, writer), granted)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(board.slot(first + i),)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert granted

    pids = [child(lambda first=first: process(first)) for first in (0, 2, 4, 6)]  # type: ignore[misc]
    for pid in pids:
        ends_well(pid)
    assert [board.slot(i).running(1) for i in range(8)] == [0] * 8
    assert len(os.read(reader, 100)) == LIMIT
    os.close(reader)
    os.close(writer)


def test_threads_of_one_process_count_one_after_the_other(board: Scoreboard) -> None:
    """The lock among processes keeps no thread of ours out."""
    granted: list[bool] = []
    second = threading.Thread(target=lambda: granted.append(board.slot(1).may_run(0, 1)))

    class Slow(list[int]):
        def __iter__(self) -> Iterator[int]:
            if second.ident is None:
                sums = list(super().__iter__())
                second.start()
                second.join(0.2)  # it would be through long before
                return iter(sums)
            return super().__iter__()

    board.running[0] = Slow([0] * 8)  # type: ignore[call-overload]
    granted.append(board.slot(0).may_run(0, 1))
    second.join()
    assert granted.count(True) == 1


def test_each_thing_is_counted_by_itself(board: Scoreboard) -> None:
    slot = board.slot(0)
    assert slot.may_run(0, 1)
    assert not slot.may_run(0, 1)
    assert slot.may_run(1, 1)
    slot.has_run(0)
    assert slot.may_run(0, 1)


def test_who_dies_while_it_counts_blocks_nobody(board: Scoreboard) -> None:
    """Many are killed at any point of it, the lock held or not, and what they had is given back."""
    for turn in range(20):
        pids = [child(lambda n=number: forever(board.slot(n))) for number in range(3)]  # type: ignore[misc]
        while not all(board.slot(number).requests > 10 + turn for number in range(3)):
            os.sched_yield()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        assert board.slot(7).may_run(0, 100)
        board.slot(7).has_run(0)
        for number in range(3):
            board.clear(number)
        assert sum(board.slot(number).running(0) for number in range(8)) == 0


def forever(slot: Slot) -> None:
    while True:
        slot.requests += 1
        if slot.may_run(0, 1 << 30):
            slot.has_run(0)


def test_who_is_killed_with_the_lock_in_its_hand_blocks_nobody(board: Scoreboard) -> None:
    reader, writer = os.pipe()

    class Caught(list[int]):
        """Counts that never end to be added up: the lock is held."""

        def __iter__(self) -> Iterator[int]:
            os.write(writer, b"x")
            signal.pause()
            return super().__iter__()

    def hold() -> None:
        board.running[0] = Caught()  # type: ignore[call-overload]
        board.slot(0).may_run(0, 1)

    pid = child(hold)
    assert os.read(reader, 1)
    with pytest.raises(BlockingIOError):
        fcntl.lockf(board.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert board.slot(1).may_run(0, 1)
    os.close(reader)
    os.close(writer)


def test_a_program_that_is_started_while_it_counts_takes_no_lock_away(board: Scoreboard) -> None:
    """The descriptor is not inherited by programs, and what a child of ours closes does not unlock for us."""
    fcntl.lockf(board.lock_file, fcntl.LOCK_EX)
    assert subprocess.run(["true"]).returncode == 0
    ends_well(child(lambda: os.close(board.lock_file)))

    def still_locked() -> None:
        with pytest.raises(BlockingIOError):
            fcntl.lockf(board.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    ends_well(child(still_locked))
    fcntl.lockf(board.lock_file, fcntl.LOCK_UN)
    assert not os.get_inheritable(board.lock_file)


# ---------------------------------------------------------------------- scarcity


def test_who_starves_is_heard_by_all_for_a_minute(board: Scoreboard, clock: Clock) -> None:
    ends_well(child(lambda: board.slot(4).starves(ADDRESSES[1])))
    slot = board.slot(0)
    assert slot.scarce(ADDRESSES[1])
    assert not slot.scarce(ADDRESSES[0])
    clock.now += SCARCE_S - 0.1
    assert slot.scarce(ADDRESSES[1])
    slot.starves(ADDRESSES[1])
    clock.now += 0.2
    assert slot.scarce(ADDRESSES[1])
    clock.now += SCARCE_S
    assert not slot.scarce(ADDRESSES[1])


def test_an_address_that_nobody_named_is_never_scarce(board: Scoreboard) -> None:
    board.slot(0).starves("10.0.0.1:80")
    assert not board.slot(0).scarce("10.0.0.1:80")
