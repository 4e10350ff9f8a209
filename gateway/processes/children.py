"""Keep the right number of child processes in a pool: when to fork, whom to end, when to wait.

Promise: decisions only; what is to be done is left as actions, and what happened is told in words. Never more
children than `most`, those that were told to end included; never fewer than `at_least`, but while starts go wrong.
Must never know: how a process is forked or signalled, HTTP, what a child serves.
Next: `gateway/concurrency/pool.py`, which carries the actions out; `scoreboard.py`, from where it knows who is idle.

A child, at its place of the scoreboard:

    fork ordered --started--> serves --told--> ends        (told: it had SIGTERM from us)
         | failed               | exited        | exited
         +----------------------+---------------+--> the place is free

One that has served as many requests as it shall leaves: it takes no more and ends by itself, once it has finished what
it has. That may take long, and clients do not wait for it: another one takes over, at one of `spare_places` beside
`most`; where there is none left, the one that has been leaving for longest is told to end.

The pool has a `target`, between `at_least` and `most`. Load moves it; deaths do not: who dies is replaced. As
long as starts go wrong, one child at a time is tried, later and later, until one has lived for STEADY_S.
"""

from __future__ import annotations

import errno
import math
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.processes.reap import LOST, exit_in_words

STEADY_S: Final = 1.0
"""Who lived as long did start well."""
FIRST_DELAY_S: Final = 0.1
"""Wait after one start that went wrong; doubles with each further one in a row."""
LONGEST_DELAY_S: Final = 10.0
LONGEST_DELAY_ON_PURPOSE_S: Final = 1.0
"""The same where children end on purpose, and too soon."""
STEP_S: Final = 0.5
"""So long a change of the target is given to show, before the next one."""
MOST_A_STEP: Final = 16
"""The target rises by 1, 2, 4 ... and at last by so many a step."""
URGED_S: Final = 2.0
"""What is left to a child that was told to end now."""
FULL_S: Final = 5.0
"""A pool that had nobody idle for so long is too small."""

_OF_C: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a child at this place, and tell `started` or `failed`."""

    slot: int


@dataclass(frozen=True, slots=True)
class Signal:
    """SIGUSR2: finish what you have, others serve already. SIGTERM: finish it within the grace, and end; a second one:
    end now. SIGKILL: it did not."""

    pid: int
    number: signal.Signals


Action: TypeAlias = Fork | Signal


class Child:
    """One that was ordered and has not ended."""

    __slots__ = ("deadline", "generation", "leaving_since", "pid", "signals", "since", "slot", "steady")

    def __init__(self, slot: int, generation: int) -> None:
        self.slot = slot
        self.generation = generation
        """How many starts had gone wrong when it was ordered; those ordered together are one."""
        self.pid = 0
        self.since = 0.0
        self.steady = False
        self.leaving_since = math.inf
        """When it was first seen to take no more, by its own decision."""
        self.signals = 0
        """How many it had from us: 1, it was told to end; 2, to end now; 3, it was killed."""
        self.deadline = math.inf
        """When it gets the next signal, if it has not ended by then."""


class Keeper:
    """The children of one pool.

    `at_least`   processes that are started at once, and kept
    `most`       processes at most
    `spare_places`  more than that, while so many are leaving
    `report`     takes level ("error", "warn", "info") and text
    `min_spare`  engines that shall be idle at least, `max_spare` at most; None: as many as there are
    `threads`    engines of one process
    `grace_s`    how long a child may take to end; inf: until `stop(at_once=True)`
    `busy_in`    how many engines of the child at a place are busy; without it, the youngest child is ended first
    """

    def __init__(
        self,
        *,
        at_least: int,
        most: int,
        report: Callable[[str, str], None],
        min_spare: int = 0,
        max_spare: int | None = None,
        threads: int = 1,
        spare_places: int = 0,
        grace_s: float = math.inf,
        busy_in: Callable[[int], int] = lambda slot: 0,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self.at_least = at_least
        self.most = most
        self.min_spare = min_spare
        self.max_spare = math.inf if max_spare is None else max_spare
        self.threads = threads
        self.grace_s = grace_s
        self.target = at_least
        """So many shall serve."""
        self.stopping = False
        self.retiring = False
        """Another pool serves in place of this one."""
        self.places: list[Child | None] = [None] * (most + spare_places)
        self._at_once = False
        self._report = report
        self._busy_in = busy_in
        self._fraction = fraction
        self._actions: list[Action] = []
        self._rise = 1
        """By how much the target rises next."""
        self._next_step = -math.inf
        self._full_since = math.inf
        """Since when nobody is idle, and nobody more may come; inf: it is not so."""
        self._full_told = False
        self._bad_starts = 0
        """In a row, all over the pool."""
        self._generation = 0
        self._due = -math.inf
        """When the next start may be tried, after bad ones."""
        self._soon = 0
        """Children that ended on purpose within STEADY_S, in the second that began at `_soon_since`."""
        self._soon_since = -math.inf

    # ------------------------------------------------------------------ what others see

    def actions(self) -> list[Action]:
        """What is to be done now, in this order; handed out once."""
        actions, self._actions = self._actions, []
        return actions

    def pids(self) -> list[int]:
        """Who runs."""
        return [child.pid for child in self._children() if child.pid]

    @property
    def stopped(self) -> bool:
        """After `retire` or `stop`: nobody is left."""
        return self._ending and not any(self.places)

    @property
    def _ending(self) -> bool:
        return self.retiring or self.stopping

    # ------------------------------------------------------------------ what it is told

    def start(self, now: float) -> None:
        self._fill(now)

    def started(self, pid: int, slot: int, now: float) -> None:
        """The child that was ordered at this place runs."""
        child = self._at(slot)
        child.pid = pid
        child.since = now
        if self._at_once:
            self._urge(child, now)
        elif self.stopping:
            self._end(child, now)
        elif self.retiring:
            self._actions.append(Signal(pid, signal.SIGUSR2))

    def failed(self, slot: int, error: OSError, now: float) -> None:
        """It could not be forked."""
        child = self._at(slot)
        self.places[slot] = None
        if self._ending or not self._went_bad(child, now, LONGEST_DELAY_S):
            return  # those that were ordered together fail for one reason, which is told once
        what, remedy = f"{error.strerror or error}", "see what the system allows"
        if error.errno == errno.EAGAIN:
            what = "the system allows no more processes"
            remedy = "raise the limit (ulimit -u, TasksMax= of systemd, pids.max of the container), or lower `max`"
        elif error.errno == errno.ENOMEM:
            what, remedy = "no memory for another process", "lower `max`, or add memory"
        self._report("error", f"no child could be started: {what}; {remedy}; trying again in {self._due - now:.1f} s")

    def leaving(self, slot: int, now: float) -> None:
        """The child at this place takes no more, and will end by itself; may be told again and again."""
        child = self.places[slot]
        if child is not None and child.pid and child.leaving_since == math.inf and not child.signals:
            child.leaving_since = now

    def exited(self, pid: int, code: int, now: float) -> None:
        """A child has ended; `code` as in subprocess.Popen.returncode, or reap.LOST."""
        child = next(child for child in self._children() if child.pid == pid)
        self.places[child.slot] = None
        lived_s = now - child.since
        if lived_s >= STEADY_S:
            self._is_steady(child)
        if child.signals:
            ours = -signal.SIGKILL if child.signals == 3 else -signal.SIGTERM  # it may not have got as far as to listen
            if code not in (0, ours):
                self._report_crash(child, code, lived_s, "it was to end anyway")
        elif self.retiring:
            if code:
                self._report_crash(child, code, lived_s, "it was to end anyway")
        elif code:
            bad = lived_s < STEADY_S
            if bad:
                self._went_bad(child, now, LONGEST_DELAY_S)
            wait_s = self._due - now if self._bad_starts else 0.0
            then = f"the next one is started in {wait_s:.1f} s" if wait_s > 0 else "another one takes its place"
            self._report_crash(child, code, lived_s, then)
        elif lived_s < STEADY_S:
            self._ended_soon(child, now)
        self._fill(now)

    def tick(self, now: float, idle: int, busy: int) -> None:
        """To be called several times a second; so many engines are idle, and so many serve or finish what they have."""
        for child in self._children():
            if child.pid and now - child.since >= STEADY_S:
                self._is_steady(child)
            if now >= child.deadline:
                self._overdue(child, now)
        if self._ending:
            return
        if now >= self._next_step:
            self._follow_load(now, idle, busy)
        self._fill(now)

    def stop(self, now: float, *, at_once: bool = False) -> None:
        """Have all finish what they have and end, or, called again with `at_once`, end now."""
        self.stopping = True
        self._at_once |= at_once
        self._order_nobody()
        for child in self._children():
            if child.pid and at_once:
                self._urge(child, now)
            elif child.pid:
                self._end(child, now)

    def retire(self) -> None:
        """Have all finish what they have and end, however long that takes."""
        self.retiring = True
        self._order_nobody()
        for child in self._children():
            if child.pid:
                self._actions.append(Signal(child.pid, signal.SIGUSR2))

    def _order_nobody(self) -> None:
        for action in self._actions:
            if isinstance(action, Fork):
                self.places[action.slot] = None
        self._actions = [action for action in self._actions if not isinstance(action, Fork)]

    # ------------------------------------------------------------------ how many

    def _follow_load(self, now: float, idle: int, busy: int) -> None:
        alive = len(self._children())
        counted = self._counted()
        # Who starts is not on the board yet: not to count it would be to start too many.
        soon_idle = idle + max(0, alive * self.threads - idle - busy)
        serving = self._serving()
        if soon_idle < self.min_spare:
            room = min(self.most - counted, max(1.0, (self.max_spare - soon_idle) / self.threads))
            self._full(now, room < 1 and not soon_idle)
            if room >= 1 and serving >= self.target:
                self.target = serving + int(min(self._rise, room))
                self._rise = min(2 * self._rise, MOST_A_STEP)
                self._next_step = now + STEP_S
            return
        self._rise = 1
        self._full(now, False)
        if idle > self.max_spare and self.target > self.at_least:
            if serving < self.target:
                self.target -= 1
                return
            # The one with the least to finish; among those, the youngest: the others have proved themselves.
            candidates = [child for child in self._children() if child.pid and serves(child)]
            child = min(candidates, key=lambda child: (self._busy_in(child.slot), -child.since, -child.slot), default=None)
            if child is not None and idle - (self.threads - self._busy_in(child.slot)) >= self.min_spare:
                self.target -= 1
                self._next_step = now + STEP_S
                self._end(child, now)

    def _full(self, now: float, full: bool) -> None:
        """Whether all are busy, and nobody more may come: told once, where it lasts."""
        if not full:
            self._full_since = math.inf
        elif self._full_since == math.inf:
            self._full_since = now
        elif now - self._full_since >= FULL_S and not self._full_told:
            self._full_told = True
            all_of_them = f"all {self.most} processes"
            keys = "`max`"
            if self.threads > 1:
                all_of_them, keys = f"all {self.threads} threads of {all_of_them}", "`max` or `threads`"
            self._report(
                "warn",
                f"{all_of_them} have been busy for {FULL_S:.0f} s, and further clients wait; raise {keys}, or find out "
                "why requests take so long (this is told once)",
            )

    def _fill(self, now: float) -> None:
        """Order as many as are missing, and may be."""
        if self._ending:
            return
        count = min(self.target - self._serving(), self.most - self._counted())
        if self._bad_starts:
            tried = any(child.generation == self._generation for child in self._children())
            count = 0 if tried or now < self._due else min(count, 1)
        for slot, child in enumerate(self.places):
            if count > 0 and child is None:  # who still ends has a place, too
                self.places[slot] = Child(slot, self._generation)
                self._actions.append(Fork(slot))
                count -= 1
        if count > 0:
            leaving = [child for child in self._children() if child.leaving_since < math.inf and not child.signals]
            for child in sorted(leaving, key=lambda child: child.leaving_since)[:count]:
                self._end(child, now)

    def _serving(self) -> int:
        return sum(map(serves, self._children()))

    def _counted(self) -> int:
        """Of those that there may be at most; who leaves by itself is beside them."""
        return sum(child.leaving_since == math.inf for child in self._children())

    def _children(self) -> list[Child]:
        return [child for child in self.places if child is not None]

    def _at(self, slot: int) -> Child:
        child = self.places[slot]
        assert child is not None
        return child

    # ------------------------------------------------------------------ starts that go wrong

    def _went_bad(self, child: Child, now: float, longest_s: float) -> bool:
        """Let the next start wait; False where it waits already, for one that was ordered together with this one."""
        if child.generation != self._generation:
            return False
        # spread, so that the pools of several servers do not come back at once
        delay_s = min(FIRST_DELAY_S * 2.0 ** min(self._bad_starts, 30), longest_s) * (0.75 + self._fraction() / 2)
        self._bad_starts += 1
        self._generation += 1
        self._due = now + delay_s
        return True

    def _is_steady(self, child: Child) -> None:
        """It has lived through the time within which a bad one dies: starts go well again."""
        if not child.steady:
            child.steady = True
            self._bad_starts = 0

    def _ended_soon(self, child: Child, now: float) -> None:
        """On purpose: it has served as many as it shall. Where all do that all the time, there is little else done."""
        if now - self._soon_since >= 1.0:
            self._soon_since = now
            self._soon = 0
        self._soon += 1
        if self._soon > max(MOST_A_STEP, 2 * self.most) and self._went_bad(child, now, LONGEST_DELAY_ON_PURPOSE_S):
            self._report(
                "warn",
                "children end of themselves as soon as they are started, and the next ones have to wait; raise "
                "`requests`, or find out why the application ends its process",
            )

    # ------------------------------------------------------------------ how they end

    def _end(self, child: Child, now: float) -> None:
        if not child.signals:
            child.signals = 1
            child.deadline = now + self.grace_s
            self._actions.append(Signal(child.pid, signal.SIGTERM))

    def _urge(self, child: Child, now: float) -> None:
        if child.signals < 2:
            child.signals = 2
            child.deadline = now + URGED_S
            self._actions.append(Signal(child.pid, signal.SIGTERM))

    def _overdue(self, child: Child, now: float) -> None:
        if child.signals < 2:
            self._urge(child, now)
            return
        child.signals = 3
        child.deadline = math.inf
        self._actions.append(Signal(child.pid, signal.SIGKILL))
        self._report(
            "warn",
            f"child {child.pid} did not end in time and is ended with SIGKILL: the requests that it had are lost; find "
            "out what in the application blocks",
        )

    def _report_crash(self, child: Child, code: int, lived_s: float, then: str) -> None:
        if code == LOST:
            remedy = "something in this process reaps children that are not its own"
        elif code >= 0:
            remedy = "see what it told before, above"
        elif -code == signal.SIGKILL:
            remedy = "the kernel's log (dmesg) tells if memory was short: lower `max` then"
        elif -code in _OF_C:
            remedy = "a module in C is at fault: PYTHONFAULTHANDLER=1 in the environment shows which"
        else:
            remedy = "find out who sent that signal"
        self._report(
            "error",
            f"child {child.pid} {exit_in_words(code)} after {lived_s:.1f} s: the requests that it had are lost, no other "
            f"child is touched; {then}; {remedy}",
        )


def serves(child: Child) -> bool:
    """Whether it takes requests, or will."""
    return not child.signals and child.leaving_since == math.inf


def spread(requests: int, fraction: float) -> int:
    """One child's own limit, within 12.5 % of the pool's, so that not all end at once; 0, without limit, stays 0."""
    return max(1, round(requests * (0.875 + fraction / 4))) if requests > 0 else 0
