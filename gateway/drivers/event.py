"""The event driver: an event loop's callbacks in, one settled turn out.

Promise: thousands of streams in one thread, all under one epoll of ours, which the loop watches; what may wait has
threads of its own, or is a coroutine.
Must never know: HTTP, routes, workers. Next: `driver.py`, what it shares with the blocking driver; `wires.py`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import queue
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from gateway.drivers.children import Reaper, Start, StartFunction
from gateway.drivers.driver import SWEEP_S, Closed, Driver
from gateway.drivers.forks import end_stray
from gateway.drivers.poller import Poller
from gateway.ends import AsyncWork, End, Open, Spawn, Turn, Work

LAUNCHERS: Final = 4
"""Threads that start processes, so that the loop does not wait for an exec."""
THREADS: Final = 8
"""Threads that run what may wait, if nobody says how many."""
LEAVE_S: Final = 1.0
"""So long threads and coroutines have for leaving."""


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: the standard loop serves, slower
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class EventDriver(Driver):
    """All ends of one event loop: of the one given, or of its own, which it makes when it is opened."""

    loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None,
        turn: Turn,
        start: StartFunction,
        reaper: Reaper,
        crashed: Callable[[End | None, Exception], None],
        *,
        threads: int = THREADS,
    ) -> None:
        super().__init__(turn, start, reaper, crashed)
        self.threads = threads
        self._own = loop is None
        self._home = 0
        """The one that the loop runs in."""
        self._done: Callable[[], bool] | None = None
        self._over = False
        self._looking = False
        self._failed: BaseException | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._to_launch: queue.SimpleQueue[tuple[Spawn, Start] | None] = queue.SimpleQueue()
        self._launchers: list[threading.Thread] = []
        self._to_run: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._pool: list[threading.Thread] = []
        self._running = 0
        """Works in the pool, and those that wait for a thread of it."""
        self._entered: collections.deque[tuple[Callable[..., None], tuple[Any, ...]]] = collections.deque()
        """What the threads of the pool have called, and the loop has not."""
        self._entering = False
        """Whether the loop is about to look there."""
        self._dealing = False
        """Whether it is calling what it has found."""
        self._going_on = False
        """Whether the loop is about to go round once more."""
        self._settled = threading.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts = False
        if loop is not None:
            self.loop = loop
            self.open()

    # ------------------------------------------------------------------ its life

    def open(self) -> None:
        if self.opened:
            return
        if self._own:
            self.loop = new_loop()
        self._home = threading.get_ident()
        self._open_with(Poller(self._began, self._round_over, self.loop))
        self._sweeping = self.loop.call_later(SWEEP_S, self._sweep_again)

    def run(self, done: Callable[[], bool]) -> None:
        self.open()
        self._home = threading.get_ident()
        if done():
            return
        self._done, self._over = done, False
        try:
            while not self._over:  # an application may stop the loop, too
                self.loop.run_forever()
        finally:
            self._done = None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def ended(self) -> None:
        if self._done is not None and not self._looking:
            self._looking = True
            self.loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        done = self._done
        if done is None:
            return
        try:
            over = done()
        except BaseException as error:
            self._failed = error
            over = True
        if over:
            self._over, self._done = True, None
            self.loop.stop()

    def _sweep_again(self) -> None:
        self._sweeping = self.loop.call_later(SWEEP_S, self._sweep_again)
        self._sweep()
        self._look()

    def forked(self) -> None:
        super().forked()
        if threading.get_ident() == self._home and self.loop.is_running():
            self.loop.call_soon(end_stray)  # a coroutine may let the loop go on, which would look for the parent's events

    def close(self) -> None:
        was_open = self.opened and not self.closed
        super().close()
        if was_open and self._own:
            self._spin(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _shut(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for task in [*self._opening.values(), *self._tasks]:
            task.cancel()

    def _shut_loop(self) -> None:
        for _ in self._launchers:
            self._to_launch.put(None)
        for _ in self._pool:
            self._to_run.put(None)
        self._notify()
        until = monotonic() + LEAVE_S
        if self._tasks:
            self._spin(asyncio.wait(set(self._tasks), timeout=LEAVE_S))
        for thread in [*self._launchers, *self._pool]:
            thread.join(max(0.0, until - monotonic()))
        for _ in range(3):  # the loop closes transports, which are an application's, in its own time
            self._spin(asyncio.sleep(0))

    def _spin(self, what: Any) -> None:
        """Have the loop go on for a while; not where we are called from within it."""
        if self.loop.is_running() or self.loop.is_closed():
            what.close()
        else:
            self.loop.run_until_complete(what)

    # ------------------------------------------------------------------ work that may wait

    def enter(self, method: Callable[..., None], *arguments: Any) -> None:
        if threading.get_ident() == self._home:
            self._enter(method, arguments)
            self.settle()
        else:
            self._deliver(method, arguments)

    def _deliver(self, method: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """From another thread: have it called in the loop's, where one wake-up does for many."""
        if self.strange:
            end_stray()
        if self.closed:
            raise Closed
        self._entered.append((method, arguments))
        if not self._entering:
            self._entering = True
            try:
                self.loop.call_soon_threadsafe(self._enter_all)
            except RuntimeError:  # the loop has closed in between
                raise Closed from None

    def _go_on(self) -> None:
        if not self._going_on:
            self._going_on = True
            self.loop.call_soon(self._another_round)

    def _another_round(self) -> None:
        self._going_on = False
        if not self.closed:
            self.poller.wait(0.0)

    def _enter_all(self) -> None:
        self._dealing = True
        self._entering = False  # from here on somebody else sees to what is delivered
        for _ in range(len(self._entered)):
            if not self._entered:
                break
            method, arguments = self._entered.popleft()
            self._enter(method, arguments)
        self.settle()
        self._dealing = False

    def wait(self, ready: Callable[[], bool]) -> None:
        """As said in `gateway/ends.py`; what the thread has entered before is dealt with before `ready` is asked."""
        if self.strange:
            end_stray()
        if threading.get_ident() == self._home:
            raise RuntimeError("the thread of the loop would wait for itself: a coroutine may not call wait")
        dealt: list[bool] = []
        if self._entered or self._dealing:
            self._deliver(dealt.append, (True,))
        else:
            dealt.append(True)
        with self._settled:
            self._waiting += 1  # before the first look, so that no turn is settled unnoticed after it
            try:
                while not dealt or not ready():
                    if self.closed:
                        raise Closed
                    self._settled.wait()
            finally:
                self._waiting -= 1

    def _notify(self) -> None:
        with self._settled:
            self._settled.notify_all()

    def _run_work(self, work: Work) -> None:
        self._is_host()
        self._running += 1
        if self._running > len(self._pool) and len(self._pool) < self.threads:
            thread = threading.Thread(target=self._run_all, name=f"work-{len(self._pool)}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system allows no more
                if not self._pool:
                    self._running -= 1
                    self.guard(None, error)
                    return
            else:
                self._pool.append(thread)
        self._to_run.put(work)

    def _run_all(self) -> None:
        """What a thread of the pool does until it is told to end."""
        while True:
            work = self._to_run.get()
            if work is None:
                return
            try:
                try:
                    work.run(self)
                    if self.strange:
                        end_stray()
                except Closed:
                    return
                except Exception as error:
                    self._deliver(self.guard, (None, error))
                except BaseException as error:  # SystemExit, say: it would end the thread without a word
                    self._deliver(self.guard, (None, RuntimeError(f"{type(error).__name__} escaped: {error}")))
                self._deliver(self._work_ended, ())
            except Closed:
                return

    def _work_ended(self) -> None:
        self._running -= 1
        self.ended()

    def _run_async(self, work: AsyncWork) -> None:
        self._is_host()
        task = self.loop.create_task(work.run(self))
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self.guard(None, error if isinstance(error, Exception) else RuntimeError(repr(error)))
        self.settle()
        self._look()

    def _is_host(self) -> None:
        """What we run may start processes of its own at any time."""
        if not self._hosts:
            self._hosts = True
            self.launching += 1

    # ------------------------------------------------------------------ streams

    def _look_up(self, order: Open) -> None:
        look_up: Any = self.loop.getaddrinfo
        task = self.loop.create_task(look_up(order.address.host, order.address.port, type=socket.SOCK_STREAM))
        task.add_done_callback(functools.partial(self._found, order))
        self._opening[order.end] = task

    def _found(self, order: Open, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or self._opening.pop(order.end, None) is None:
            return
        self.turn.now = monotonic()
        error = task.exception()
        self._looked_up(order, task.result() if error is None else error)
        self.settle()

    # ------------------------------------------------------------------ processes

    def launch(self, order: Spawn, start: Start) -> None:
        if len(self._launchers) < LAUNCHERS:
            thread = threading.Thread(target=self._launch_all, name="launch", daemon=True)
            self._launchers.append(thread)
            thread.start()
        self.launching += 1
        self._to_launch.put((order, start))

    def _launch_all(self) -> None:
        """What a launching thread does until it is told to end."""
        while True:
            told = self._to_launch.get()
            if told is None:
                return
            order, start = told
            outcome = start.run()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
                self.loop.call_soon_threadsafe(self._come_to_life, order, start, outcome)

    def _come_to_life(self, order: Spawn, start: Start, outcome: int | OSError) -> None:
        self.launching -= 1
        self.children.launched(order, start, outcome)
