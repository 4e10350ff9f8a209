"""How an engine takes its place at the listening sockets: one connection at a time, or its fair share of many.

Promise: where an engine can't take a connection, the connection stays for another one; among those that
share a socket somebody always listens, and of those that have little to do few more are woken than are needed.
Must never know: what is served. Next: `single.py` and `pool.py`, which give engines their seats.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from gateway.concurrency import Engine
from gateway.drivers.poller import READABLE
from gateway.processes.scoreboard import BUSY, ENDING, IDLE, Scoreboard, Slot

SLACK: Final = 1
"""Who has more than so many connections more than an engine that does not listen wakes that."""
BURST: Final = 3
"""Who has more than so many more than another one leaves the next ones to that."""
HURRY_S: Final = 1.0
"""So long nobody is waited for, after somebody did not come."""


class Seat:
    """An engine at its sockets: it takes whatever comes."""

    at_once = 16

    def __init__(
        self,
        engine: Engine,
        slot: Slot,
        board: Scoreboard,
        sockets: Sequence[socket.socket],
        worn: Callable[[], bool] | None = None,
    ) -> None:
        """`worn`: whether the engine has served enough; else it is asked itself."""
        self.engine = engine
        self.slot = slot
        self.board = board
        self.worn = worn if worn is not None else lambda: engine.worn
        self.listening = True
        slot.changed = self.changed
        slot.pending = self.pending
        slot.state = IDLE
        self.acceptors = [
            engine.driver.listen(one, self.take, exclusive=True, at_once=self.at_once) for one in sockets
        ]

    def take(self, sock: socket.socket) -> None:
        self.engine.take(sock)

    def changed(self, connections: int) -> None:
        """So many connections are the engine's now."""

    def pending(self) -> bool:
        """Whether a client waits to be accepted."""
        return any(acceptor.pending() for acceptor in self.acceptors)

    def listen(self, wanted: bool) -> None:
        if wanted is self.listening or not self.acceptors:
            return
        self.listening = wanted
        self.slot.state = IDLE if wanted else BUSY
        for acceptor in self.acceptors:
            if wanted:
                acceptor.go_on()
            else:
                acceptor.pause()

    def tick(self, now: float) -> None:
        """Called at every sweep."""
        self.slot.beat = self.board.clock()
        self.slot.requests = self.engine.served
        if self.worn():
            self.engine.retire()
        if self.listening and self.pending():
            # Whoever was woken for that connection died before it took it, or does not come to it.
            self.listen(False)
            self.listen(True)

    def leave(self) -> None:
        """The engine takes no more."""
        for number, acceptor in enumerate(self.acceptors):
            acceptor.leave(last=self.board.is_over(number))
        self.acceptors.clear()
        self.slot.state = ENDING


class OneByOne(Seat):
    """One connection at a time: the next one waits, or goes to another engine."""

    at_once = 1

    def take(self, sock: socket.socket) -> None:
        self.listen(False)
        try:
            self.engine.take(sock)
        except BaseException:
            self.changed(self.slot.held)
            raise

    def changed(self, connections: int) -> None:
        if not connections:
            if self.worn():
                self.engine.retire()
            elif not self.engine.stopping:
                self.listen(True)


class FairShare(Seat):
    """Many connections, but not many more than others have.

    The kernel wakes all loops that watch a socket (one epoll within another one does not pass EPOLLEXCLUSIVE on). So
    one loop listens, the one that has the fewest connections; once it has more than another one, it wakes that by its
    bell, to take over.
    """

    at_once = 2

    def __init__(
        self, engine: Engine, slot: Slot, board: Scoreboard, sockets: Sequence[socket.socket], bells: Sequence[int]
    ) -> None:
        """`bells`: an eventfd for each slot, by which others wake its engine."""
        self.bells = bells
        self.hurried_until = 0.0
        super().__init__(engine, slot, board, sockets)
        slot.pending = lambda: False  # who waits is taken by a loop that has many already: nobody need make room
        engine.driver.poller.watch(bells[slot.number], READABLE, self.rung)

    def rung(self, events: int) -> None:
        try:
            os.eventfd_read(self.bells[self.slot.number])
        except BlockingIOError:
            return
        self.weigh()

    def changed(self, connections: int) -> None:
        if self.worn():
            self.engine.retire()
        self.weigh()

    def weigh(self) -> None:
        """Listen, or leave it to others, by what they have."""
        mine, me = self.slot.held, self.slot.number
        listener, who = self.board.least(self.slot, (IDLE,))
        least, number = self.board.least(self.slot, (IDLE, BUSY))
        many = 0 <= (listener if self.hurried_until else least) < mine - BURST
        if self.listening:
            self.listen(not many and not 0 <= listener < mine + (who < me))
            if not many and not self.board.anybody_idle():  # others have left it to us, at the same moment
                self.listen(True)
        else:
            self.listen(not many and not 0 <= listener <= mine + SLACK)
        if 0 <= least < mine - SLACK and self.board.states[number] == BUSY:
            os.eventfd_write(self.bells[number], 1)

    def tick(self, now: float) -> None:
        super().tick(now)
        if self.hurried_until and now >= self.hurried_until:
            self.hurried_until = 0.0
        self.weigh()
        if not self.listening and self.pending():  # whoever is to take it does not come to it
            self.hurried_until = now + HURRY_S
            self.listen(True)

    def leave(self) -> None:
        self.engine.driver.poller.forget(self.bells[self.slot.number])
        super().leave()
        _, number = self.board.least(self.slot, (BUSY,))
        if number >= 0:  # we may have been the one that listened
            os.eventfd_write(self.bells[number], 1)
