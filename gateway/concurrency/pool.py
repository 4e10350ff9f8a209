"""A pool of child processes that accept by themselves: what `prefork`, `threadpool` and `event` share.

Promise: the parent serves nobody; it keeps the right number of children, by what the scoreboard tells,
and replaces those that end. A child ends when it has served enough, when it is told to, or with the parent.
Must never know: what is served. Next: `gateway/processes/children.py`, which decides how many.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from gateway.concurrency import Engine, House, spare_places
from gateway.concurrency.seat import Seat
from gateway.drivers.driver import Driver
from gateway.drivers.poller import READABLE
from gateway.processes.children import Fork, Keeper, spread
from gateway.processes.scoreboard import ENDING, FREE

TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What a parent tells its children, and a terminal tells all of them."""
DEFECT = 70
"""Exit code of a child that met a defect of ours (EX_SOFTWARE of sysexits.h)."""


class Pool:
    """The children of one house; `run` is what each of them does."""

    def __init__(self, house: House, threads: int = 1) -> None:
        hosting = house.hosting
        children = hosting.children
        self.house = house
        self.threads = threads
        fixed = hosting.concurrency == "event"
        self.keeper = Keeper(
            at_least=hosting.processes,
            most=hosting.processes if fixed else children.max,
            min_spare=0 if fixed else children.min_spare,
            max_spare=None if fixed else children.max_spare,
            threads=threads,
            spare_places=spare_places(hosting),
            grace_s=house.grace_s,
            busy_in=lambda place: house.board.busy(self._slots(place)),
            report=house.report,
        )
        self.lifeline = -1
        self.listening = threads
        """Engines of this child that still listen, or will."""
        self.lock = threading.Lock()

    def run(self, slots: range, requests: float) -> int:
        """Serve, in a child; its exit code."""
        raise NotImplementedError

    # ------------------------------------------------------------------ the parent

    @property
    def ready(self) -> bool:
        """All that shall be there from the start are at their sockets."""
        board = self.house.board
        return board.idle() + board.busy() >= self.keeper.at_least * self.threads

    @property
    def parted(self) -> bool:
        return set(bytes(self.house.board.states)) <= {FREE, ENDING}

    @property
    def stopped(self) -> bool:
        return self.keeper.stopped

    def start(self, now: float) -> None:
        self.keeper.start(now)
        self._act(now)

    def look(self) -> None:
        """Children tell by ending, and by the scoreboard."""

    def tick(self, now: float) -> None:
        board = self.house.board
        for place in range(len(self.keeper.places)):
            if board.ends(self._slots(place)):
                self.keeper.leaving(place, now)
        self.keeper.tick(now, board.idle(), board.busy())
        self._act(now)

    def retire(self, now: float) -> None:
        self.keeper.retire()
        self._act(now)

    def stop(self, now: float) -> None:
        self.keeper.stop(now)
        self._act(now)

    def hurry(self, now: float) -> None:
        self.keeper.stop(now, at_once=True)
        self._act(now)

    def reopen_logs(self) -> None:
        for pid in self.keeper.pids():
            os.kill(pid, signal.SIGUSR1)

    def abandon(self) -> None:
        """Clients are the children's."""

    def close(self) -> None:
        """Nobody is left."""

    def _act(self, now: float) -> None:
        for action in self.keeper.actions():
            if isinstance(action, Fork):
                self._start(action.slot, now)
            else:
                os.kill(action.pid, action.number)  # it is not reaped yet: nobody else has its number

    def _slots(self, place: int) -> range:
        return range(place * self.threads, (place + 1) * self.threads)

    def _start(self, place: int, now: float) -> None:
        slots = self._slots(place)
        try:
            pid = fork()
        except OSError as error:
            self.keeper.failed(place, error, now)
            return
        if not pid:
            self.house.leave(self._child(slots))
        self.keeper.started(pid, place, now)

        def ended(code: int) -> None:
            for slot in slots:
                self.house.board.clear(slot)
            at = self.house.driver.clock()
            self.keeper.exited(pid, code, at)
            self._act(at)

        self.house.driver.watch_child(pid, ended)

    # ------------------------------------------------------------------ a child

    def _child(self, slots: range) -> int:
        try:
            self.lifeline = self.house.forked()
            for slot in slots:
                self.house.board.slot(slot).take()
            return self.run(slots, spread(self.house.hosting.children.requests, random.random()) or float("inf"))
        except BaseException as error:  # nothing of the parent's may run in a child
            self.house.defect(error)
            return DEFECT

    def left(self) -> None:
        """An engine takes no more; where none does, clients are to go elsewhere. From any thread."""
        with self.lock:
            self.listening -= 1
            nobody = not self.listening
        if nobody:
            for sock in self.house.sockets:
                sock.close()


def fork() -> int:
    """As os.fork; no signal is lost on the child: it waits there until `obey` listens. Raises OSError."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
        sys.stdout.flush()  # else each child would print it, too
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
    pid = -1
    try:
        pid = os.fork()
        return pid
    finally:
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey(house: House, driver: Driver, lifeline: int, engines: Sequence[Engine]) -> None:
    """Have the parent's signals, and its end, reach the engines; in the main thread."""
    told: list[str] = []

    def stop() -> None:
        for engine in engines:
            if told:
                engine.hurry()
            else:
                engine.stop()
        told.append("stop")

    def retire() -> None:
        for engine in engines:
            engine.retire(replaced=True)

    def parent_gone(_: int) -> None:
        driver.poller.forget(lifeline)
        stop()

    driver.open()
    driver.call_signals({signal.SIGTERM: stop, signal.SIGUSR1: house.reopen_logs, signal.SIGUSR2: retire})
    for number in (signal.SIGINT, signal.SIGHUP):  # the terminal's, for all of us: the parent tells what to do
        signal.signal(number, signal.SIG_IGN)
    driver.poller.watch(lifeline, READABLE, parent_gone)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)


def deafen() -> None:
    """All is done: what comes now must not do to a process without handlers what it does to such a process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)


def run_engine(pool: Pool, number: int, requests: float, make_seat: Callable[..., Seat]) -> int:
    """Serve with one engine, in the main thread of a child."""
    engine = pool.house.engine()
    obey(pool.house, engine.driver, pool.lifeline, [engine])
    run_seated(pool, engine, number, requests, make_seat)
    return 0


def run_seated(pool: Pool, engine: Engine, number: int, requests: float, make_seat: Callable[..., Seat]) -> None:
    """Serve with an engine until it is told to stop or has served enough."""
    house = pool.house
    slot = house.board.slot(number)
    engine.sit(slot, requests)
    engine.open()
    seat = make_seat(engine, slot, house.board, house.sockets)

    def over() -> bool:
        leave()
        engine.look()
        return engine.finished

    def leave() -> None:
        if engine.stopping and seat.acceptors:
            seat.leave()
            pool.left()

    def tick(now: float, wall: float) -> None:
        seat.tick(now)
        leave()  # an application may keep us from looking for as long as it runs

    engine.driver.ticks.append(tick)
    engine.driver.run(over)
    deafen()
    engine.close()
    engine.driver.close()
