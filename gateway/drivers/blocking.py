"""The blocking driver: one thread that waits for its streams, and in which whatever may wait runs, too.

Promise: no other thread and no loop; while a work waits, the streams go on, and other works queue behind it.
Must never know: HTTP, routes, workers. Next: `driver.py`, what it shares with the event driver.
"""

from __future__ import annotations

import collections
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from gateway.drivers.children import Reaper, Start, StartFunction
from gateway.drivers.driver import SWEEP_S, Closed, Driver
from gateway.drivers.forks import end_stray
from gateway.drivers.poller import Poller
from gateway.ends import AsyncWork, End, Open, Spawn, Turn, Work

CALM: Final = 5
"""Sweeps in a row without anything to be swept, after which they become rare."""
QUIET_S: Final = 5.0


class BlockingDriver(Driver):
    """All ends of one thread, which serves few of them at a time."""

    def __init__(
        self, turn: Turn, start: StartFunction, reaper: Reaper, crashed: Callable[[End | None, Exception], None]
    ) -> None:
        super().__init__(turn, start, reaper, crashed)
        self.launching = 1  # other threads of the process, or our own work, may start processes at any time
        self.quiet_s = QUIET_S
        """How long it sleeps at most where nothing but listening sockets and signals can wake it."""
        self._works: collections.deque[Work] = collections.deque()
        self._working = False
        self._calm = 0
        self._due = 0.0
        """When the next sweep is."""

    # ------------------------------------------------------------------ its life

    def open(self) -> None:
        if not self.opened:
            self._open_with(Poller(self._began, self._round_over))
            self._due = monotonic() + SWEEP_S

    def run(self, done: Callable[[], bool]) -> None:
        self.open()
        while not done():
            if self._works and not self._working:
                self._work()
                self._round(0.0)
            else:
                self._round(self._timeout())

    def _round(self, timeout: float) -> None:
        """Wait for the streams, and deal with what came."""
        self.poller.wait(0.0 if self._gathering else timeout)
        now = monotonic()
        if now >= self._due:
            self._sweep()
            self._calm = 0 if self._busy() else self._calm + 1
            self._due = now + (SWEEP_S if self._calm < CALM else self.quiet_s)

    def _timeout(self) -> float:
        now = monotonic()
        if self._calm and self._busy():
            self._calm = 0
            self._due = min(self._due, now + SWEEP_S)
        return max(0.0, self._due - now)

    def _busy(self) -> bool:
        """Whether there is anything that a sweep may find."""
        if self.wires or self.children.running:
            return True
        return any(acceptor.stalled_until for acceptor in self.acceptors)

    def take(self, sock: socket.socket, end: End) -> None:
        super().take(sock, end)
        if self._calm:  # who came, and what is left of it if it has left again, is to be looked at soon
            self._calm = 0
            self._due = min(self._due, monotonic() + SWEEP_S)

    def _shut(self) -> None:
        self._works.clear()

    # ------------------------------------------------------------------ work that may wait

    def wait(self, ready: Callable[[], bool]) -> None:
        if self.strange:
            end_stray()
        while not ready():
            if self.closed:
                raise Closed
            self._round(self._timeout())

    def _work(self) -> None:
        work = self._works.popleft()
        self._working = True
        try:
            work.run(self)
        except Exception as error:
            self.guard(None, error)
        finally:
            if self.strange:
                end_stray()
            self._working = False
        self.turn.now = monotonic()
        self.settle()

    def _run_work(self, work: Work) -> None:
        self._works.append(work)

    def _run_async(self, work: AsyncWork) -> None:
        self.guard(None, RuntimeError(f"{work!r} needs an event loop, and this engine blocks: a defect of whoever chose"))

    # ------------------------------------------------------------------ streams and processes

    def _look_up(self, order: Open) -> None:
        try:
            found: Any = socket.getaddrinfo(order.address.host, order.address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            found = error
        self._looked_up(order, found)

    def launch(self, order: Spawn, start: Start) -> None:
        self.children.launched(order, start, start.run())
