"""The places of one application, a worker process each, as its parent and all engines know them: in shared memory.

Promise: each cell has one writer, the parent or the engine whose row it is, and is written at once, so nobody waits
for anybody; a request that was sent by what was true a moment ago waits at the socket of the place, and is not lost.
Must never know: HTTP, how a worker is started. Next: `supervise.py`, which says what becomes of each place, and
`gateway/upstreams/places.py`, which sends requests there.

The memory is made with the application and belongs to no config: engines of an old and of a new one may both use it.
A pool of an engine that begins takes a row of its own, and the engine gets a bell: a datagram socket by which others
wake it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import mmap
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from gateway.processes.reap import process_exists

CLOSED: Final = 0
"""Nobody is there. A request may be sent all the same: it waits at the socket while somebody is called."""
STARTING: Final = 1
OPEN: Final = 2
LEAVING: Final = 3
"""It takes no new request, and ends when it has none."""
HUNG: Final = 4
"""It is being ended."""
BROKEN: Final = 5
"""Whoever was started there died at once; the next one waits for its time."""

_WORD: Final = 8
READABLE: Final = select.EPOLLIN
_MOST: Final = 0
_USED: Final = 1
_HIGH: Final = 2
_PIDS: Final = 3


class Places:
    """Those of one application: the memory, and what its parent says and sees there."""

    def __init__(self, count: int, most: int, users: int, name: bytes) -> None:
        """`most` places may be in use at the same time, by so many pools of engines; `name` is that of the parent's bell,
        with which those of the engines begin."""
        self.count = count
        self.users = users
        self.width = users + 1
        """Of the rows; in the last one, which nobody counts, writes who has none."""
        self.name = name
        cells = count * self.width
        queued = _PIDS + 2 * users + count
        first = queued + self.width
        last = first + 2 * cells
        octets = memoryview(mmap.mmap(-1, last * _WORD + 3 * cells + count))
        numbers = octets[: last * _WORD]
        self.words: memoryview[int] = numbers.cast("q")
        seconds: memoryview[float] = numbers.cast("d")
        self.hung_at = seconds[queued - count : queued]
        self.queued = seconds[queued:first]
        """Of each row: since when its queue has not been served; 0 for an empty one."""
        self.since = seconds[first : first + cells]
        """Of each cell: since when what is outstanding there waits; negative where that is too long."""
        self.served = self.words[first + cells : last]
        at = last * _WORD
        self.busy: memoryview[int] = octets[at : at + 2 * cells].cast("H")
        self.kept = octets[at + 2 * cells : at + 3 * cells]
        self.states = octets[at + 3 * cells :]
        self.words[_MOST] = most
        # as the lock of a scoreboard: it is the process's, and goes with it
        self.lock_file = os.memfd_create("places", os.MFD_CLOEXEC)
        self.thread_lock = threading.Lock()

    def close(self) -> None:
        """The application is gone. The memory goes with the last object that looks into it."""
        os.close(self.lock_file)

    @property
    def high(self) -> int:
        """No row from here on has ever been taken."""
        return self.words[_HIGH]

    # ------------------------------------------------------------------ who has which row

    def claim(self, serial: int) -> int:
        """A free row, for a pool of this process; `serial` tells its bell from others. Raises OSError for none."""
        words = self.words
        with self._locked():
            for row in range(self.users):
                if not words[_PIDS + row]:
                    words[_PIDS + row] = os.getpid()
                    words[_PIDS + self.users + row] = serial
                    words[_USED] += 1
                    words[_HIGH] = max(words[_HIGH], row + 1)
                    self._clear(row)
                    return row
        raise OSError(f"{self.users} engines use an application already: restart the gateway")

    def free(self, row: int) -> None:
        """Its engine is gone; what it has counted as served stays."""
        with self._locked():
            if self.words[_PIDS + row]:
                self._clear(row)
                self.words[_PIDS + row] = 0
                self.words[_USED] -= 1

    def bell_of(self, row: int) -> bytes:
        return bell_name(self.name, self.words[_PIDS + row], self.words[_PIDS + self.users + row])

    def _clear(self, row: int) -> None:
        self.queued[row] = 0.0
        for cell in range(row, self.count * self.width, self.width):
            self.busy[cell] = 0
            self.kept[cell] = 0

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self.thread_lock:
            fcntl.lockf(self.lock_file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self.lock_file, fcntl.LOCK_UN)

    # ------------------------------------------------------------------ for the parent

    @property
    def used(self) -> int:
        """How many rows are taken."""
        return self.words[_USED]

    def bury(self) -> None:
        """Let go of the rows of processes that have died."""
        for row, pid in enumerate(self.words[_PIDS : _PIDS + self.high].tolist()):
            if pid and not process_exists(pid):
                self.free(row)

    def outstanding(self, number: int) -> int:
        """Requests that are with this place, or wait at its socket."""
        first = number * self.width
        last = first + self.high
        return sum(self.busy[first:last])

    def answered(self, number: int) -> int:
        """Requests that this place was rid of, since the memory was made."""
        first = number * self.width
        last = first + self.high
        return sum(self.served[first:last])

    def busy_since(self, number: int) -> float:
        """Since when who has waited longest there got no answer; negative for too long, 0 where none waits."""
        first = number * self.width
        waiting = [self.since[cell] for cell in range(first, first + self.high) if self.busy[cell]]
        return min(waiting, default=0.0)

    def overdue_since(self, number: int) -> float:
        """The same of one whose answer is too late; 0 for none."""
        return max(0.0, -self.busy_since(number))

    def hung(self, number: int, now: float) -> None:
        """Who is there is ended, since it does not answer what it has got."""
        self.hung_at[number] = now
        self.states[number] = HUNG

    def waiting(self) -> list[int]:
        """Rows whose requests wait for a place."""
        return [row for row, since in enumerate(self.queued[: self.high].tolist()) if since]


class Place:
    """One of them, as one pool of an engine sees it (the `Place` of `upstreams/places.py`)."""

    def __init__(self, desk: Desk, number: int) -> None:
        places = desk.places
        self.desk = desk
        self.places = places
        self.number = number
        self.states = places.states
        self.busy = places.busy
        self.kept = places.kept
        self.since = places.since
        self.served = places.served
        self.hung_at = places.hung_at
        self.first = number * places.width
        self.cell = self.first + places.users

    def takes(self) -> bool:
        """Whether requests may be sent there; who is just being started will answer them."""
        state = self.states[self.number]
        return OPEN >= state >= STARTING

    def closed(self) -> bool:
        """Whether somebody would have to be started for a request."""
        return self.states[self.number] == CLOSED

    def others(self) -> int:
        """Requests of others there."""
        last = self.first + self.places.high
        return sum(self.busy[self.first : last]) - self.busy[self.cell]

    def pinned(self) -> bool:
        """Whether somebody else keeps an idle connection there."""
        last = self.first + self.places.high
        return bytes(self.kept[self.first : last]).count(1) > self.kept[self.cell]

    def unpin(self) -> None:
        """Have the others let go of their idle connections."""
        for row in range(self.places.high):
            cell = self.first + row
            if self.kept[cell] and cell != self.cell:
                self.desk.ring(row)

    def took(self, now: float) -> None:
        """One more request of ours."""
        busy = self.busy[self.cell]
        if not busy:
            self.since[self.cell] = now
        self.busy[self.cell] = busy + 1

    def done(self, now: float) -> None:
        """One less."""
        cell = self.cell
        if self.busy[cell]:  # else our row was given back since
            self.busy[cell] -= 1
            self.since[cell] = now
            self.served[cell] += 1

    def keeps(self, idle: bool) -> None:
        """Whether we keep an idle connection there."""
        self.kept[self.cell] = idle

    def overdue(self) -> None:
        """Its answer to us is too late: whoever is there is to be ended."""
        self.since[self.cell] = -abs(self.since[self.cell])
        self.desk.call()

    def hung(self, since: float) -> bool:
        """Whether who had our request since then was ended because it did not answer."""
        return self.hung_at[self.number] >= since


class Desk:
    """All places of one application, as one pool of an engine sees them (the `Desk` of `upstreams/places.py`)."""

    def __init__(self, clerk: Clerk, places: Places) -> None:
        self.clerk = clerk
        self.places = places
        self.row = places.users
        self.members = [Place(self, number) for number in range(places.count)]
        self.rung: Callable[[], None] = _nobody
        """Called when somebody has rung our bell."""

    def sit(self) -> None:
        """Take a row."""
        self._move(self.places.claim(self.clerk.serial))

    def leave(self) -> None:
        """Give it back; what is still done does not count."""
        row = self.row
        self._move(self.places.users)
        if row < self.places.users:
            self.places.free(row)

    def _move(self, row: int) -> None:
        self.row = row
        for place in self.members:
            place.cell = place.first + row

    def sole(self) -> bool:
        """Whether nobody else sends requests there."""
        return self.places.words[_USED] <= 1

    def grows(self, called: int) -> bool:
        """Whether there may be a further worker, beside so many of whom the places do not tell yet."""
        states = bytes(self.places.states)
        return called + states.count(OPEN) + states.count(STARTING) + states.count(BROKEN) < self.places.words[_MOST]

    def call(self) -> None:
        """Have the parent look at the places."""
        self.clerk.ring(self.places.name)

    def ring(self, row: int) -> None:
        """Wake somebody else."""
        self.clerk.ring(self.places.bell_of(row))

    def queues(self, since: float) -> None:
        """Since when our queue has waited; 0 for an empty one."""
        self.places.queued[self.row] = since

    def next(self) -> int:
        """The row whose queue has waited for longer than ours; -1 for none."""
        queued = self.places.queued
        longest, found = queued[self.row], -1
        for row in self.places.waiting():
            since = queued[row]
            if row != self.row and (not longest or since < longest):
                longest, found = since, row
        return found


def _nobody() -> None:
    pass


class Clerk:
    """An engine's bell, and its desks (a `Hosted` of `engine.py`)."""

    serials = itertools.count(1)

    def __init__(self, name: bytes) -> None:
        """`name`: of the parent's bell."""
        self.name = name
        self.serial = 0
        self.desks: list[Desk] = []
        self.bell: socket.socket | None = None

    def desk(self, places: Places) -> Desk:
        made = Desk(self, places)
        self.desks.append(made)
        return made

    def open(self, driver: Any) -> None:
        """In the process and the thread of the engine; again: nothing."""
        if self.bell is not None:
            return
        self.serial = next(self.serials)
        self.bell = make_bell(bell_name(self.name, os.getpid(), self.serial))
        for desk in self.desks:
            desk.sit()
        driver.poller.watch(self.bell.fileno(), READABLE, self._rung)

    def shut(self, driver: Any) -> None:
        """Nobody is served any more."""
        if self.bell is None:
            return
        driver.poller.forget(self.bell.fileno())
        self.bell.close()
        self.bell = None
        for desk in self.desks:
            desk.leave()

    def ring(self, name: bytes) -> None:
        """Wake whoever has this bell; who has not read what came before is awake."""
        if self.bell is not None:
            with contextlib.suppress(OSError):
                self.bell.sendto(b"", name)

    def _rung(self, events: int) -> None:
        assert self.bell is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                self.bell.recv(1)
        for desk in self.desks:
            desk.rung()


def bell_name(name: bytes, pid: int, serial: int) -> bytes:
    return b"%b-%d-%d" % (name, pid, serial)


def make_bell(name: bytes) -> socket.socket:
    """A socket by which others wake us; its name is an abstract one, for which no file is needed."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.bind(name)
    except BaseException:
        made.close()
        raise
    return made
