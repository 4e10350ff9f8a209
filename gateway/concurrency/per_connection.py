"""A runner for each connection, started when it comes: what `fork` and `thread` share.

Promise: never more than `max` runners; of the connections beyond, `queue` wait in order, and the others are
told at once that there is no room. Must never know: what is served. Next: `fork.py` and `thread.py`.
"""

from __future__ import annotations

import collections
import socket

from gateway.concurrency import Engine, House
from gateway.drivers.driver import Acceptor
from gateway.processes.reap import exit_in_words
from gateway.processes.scoreboard import BUSY, Slot

AT_ONCE = 16
RETRY_S = 1.0
"""After a runner could not be started (no processes left), the next try is made so much later."""


class PerConnection:
    """The line before the runners, in the house's own thread."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.waiting: collections.deque[socket.socket] = collections.deque()
        self.places = list(range(house.hosting.children.max - 1, -1, -1))
        """Those that are free."""
        self.refuser = house.refuser()
        self.acceptors: list[Acceptor] = []
        self.stopping = False
        self.retiring = False
        """Likewise, but nobody is in a hurry."""
        self.due = 0.0
        """When the next runner may be started."""

    # ------------------------------------------------------------------ a shape

    def start(self, now: float) -> None:
        self.refuser.open()
        self.acceptors = [
            self.house.driver.listen(sock, self.take, at_once=AT_ONCE) for sock in self.house.sockets
        ]

    @property
    def ready(self) -> bool:
        return bool(self.acceptors)

    @property
    def parted(self) -> bool:
        return self.stopping

    @property
    def stopped(self) -> bool:
        everybody = len(self.places) == self.house.hosting.children.max
        return self.stopping and everybody and not self.waiting and self.refuser.finished

    def look(self) -> None:
        """Nothing is told but by the ends of runners."""
        self.refuser.look()

    def tick(self, now: float) -> None:
        self.next(now)

    def retire(self, now: float) -> None:
        self.retiring = True
        self._leave()
        self.refuser.retire(replaced=True)
        self.retire_all()

    def stop(self, now: float) -> None:
        self.retiring = False
        self._leave()
        self.refuser.stop()
        self.stop_all(at_once=False)

    def _leave(self) -> None:
        self.stopping = True
        for number, acceptor in enumerate(self.acceptors):
            acceptor.leave(last=self.house.board.is_over(number))
        self.acceptors.clear()
        self._tell_line()

    def hurry(self, now: float) -> None:
        self.refuser.hurry()
        while self.waiting:
            self.waiting.popleft().close()
        self.stop_all(at_once=True)

    def reopen_logs(self) -> None:
        """Runners are threads, unless told otherwise."""

    def abandon(self) -> None:
        for sock in self.waiting:
            sock.close()

    def close(self) -> None:
        self.refuser.close()

    # ------------------------------------------------------------------ the line

    def take(self, sock: socket.socket) -> None:
        """A connection has come."""
        self.waiting.append(sock)
        self.next(self.house.driver.clock())
        if len(self.waiting) > self.house.hosting.children.queue:
            self.refuser.take(self.waiting.pop())
            self._tell_line()

    def _tell_line(self) -> None:
        """Let the runners know whether they keep others waiting; at the end, all do."""
        self.house.board.line = len(self.waiting) or int(self.stopping)

    def next(self, now: float) -> None:
        """Start runners for those that wait, as far as there are places."""
        while self.waiting and self.places and now >= self.due:
            place, sock = self.places.pop(), self.waiting.popleft()
            try:
                self.serve(place, sock)
            except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
                self.house.board.clear(place)
                self.places.append(place)
                self.waiting.appendleft(sock)
                self.due = now + RETRY_S
                self.house.report(
                    "error",
                    f"no further {type(self).__name__.lower()} for a connection can be started: {error}; "
                    "raise the limit of the system (ulimit -u, TasksMax= of systemd), or lower max",
                )
        self._tell_line()

    def left(self, place: int) -> None:
        """A runner has ended."""
        self.house.board.clear(place)
        self.places.append(place)
        self.next(self.house.driver.clock())

    def serve_one(self, engine: Engine, sock: socket.socket, slot: Slot) -> None:
        """Serve one connection to its end, in its runner."""
        begun: list[int] = []
        slot.changed = begun.append  # its client may have left before we look for the first time
        slot.pending = self.house.board.has_line
        slot.state = BUSY
        engine.take(sock)

        def over() -> bool:
            engine.look()
            return engine.finished or (bool(begun) and engine.idle)

        engine.driver.run(over)

    def report_crash(self, pid: int, code: int) -> None:
        self.house.report(
            "error",
            f"the process {pid} of one connection {exit_in_words(code)}: its request is lost, no other one is touched",
        )

    # ------------------------------------------------------------------ what a runner is

    def serve(self, place: int, sock: socket.socket) -> None:
        """Start a runner for the connection, at a place of the scoreboard. Raises OSError or RuntimeError."""
        raise NotImplementedError

    def retire_all(self) -> None:
        raise NotImplementedError

    def stop_all(self, *, at_once: bool) -> None:
        raise NotImplementedError
