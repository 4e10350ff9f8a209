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
from gateway.drivers.driver import SWEEP_S, Closed, Driver, names_of
from gateway.drivers.forks import end_stray
from gateway.drivers.poller import Poller
from gateway.drivers.wires import DescriptorWire
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
            self._open_with(Poller())
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
        if self._gathering:
            self._gather_all()
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

    def take(self, sock: socket.socket, end: End) -> None:
        sock.setblocking(False)
        remote, local = names_of(sock)
        wire = DescriptorWire(
            self, end, sock.fileno(), reads=True, sock=sock, accepted=True, delays=sock.family != socket.AF_UNIX
        )
        now = self.turn.now = monotonic()
        self.tell(end, end.accepted, remote, local, now)
        wire.read_first()
        self.settle()

    def _open_long(self, order: Open, family: int | None) -> None:
        address = order.address
        if family is not None:
            self._connect(order, family, (address.host, address.port))
            return
        end = order.end
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = error if isinstance(error, OSError) else OSError(str(error))
            self.tell(end, end.lost, reason, self.turn.now)
            return
        addresses: list[tuple[int, Any]] = [(one[0], one[4]) for one in found]
        self._connect(order, addresses[0][0], addresses[0][1], addresses[1:])

    def launch(self, order: Spawn, start: Start) -> None:
        self.children.launched(order, start, start.run())
