"""How an engine takes its place at the listening sockets: one connection at a time, or its fair share of many.

Promise: where an engine can't take a connection, the connection stays for another one; among those that
share a socket somebody always listens.
Must never know: what is served. Next: `single.py` and `pool.py`, which give engines their seats.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from gateway.concurrency import Engine
from gateway.processes.scoreboard import BUSY, ENDING, IDLE, Scoreboard, Slot

SLACK = 1
"""An engine may have so many connections more than another one that listens, too."""


class Seat:
    """An engine at its sockets: it takes whatever comes."""

    at_once = 16

    def __init__(self, engine: Engine, slot: Slot, board: Scoreboard, sockets: Sequence[socket.socket]) -> None:
        self.engine = engine
        self.slot = slot
        self.board = board
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

    def leave(self) -> None:
        """The engine takes no more."""
        for acceptor in self.acceptors:
            acceptor.close()
        self.acceptors.clear()
        self.slot.state = ENDING


class OneByOne(Seat):
    """One connection at a time: the next one waits, or goes to another engine."""

    at_once = 1

    def take(self, sock: socket.socket) -> None:
        self.listen(False)
        self.engine.take(sock)

    def changed(self, connections: int) -> None:
        if not connections:
            if self.engine.worn:
                self.engine.stop()
            else:
                self.listen(True)


class FairShare(Seat):
    """Many connections, but not more than others that listen at the same sockets."""

    def changed(self, connections: int) -> None:
        self.listen(not self.board.listens_with_less(self.slot, connections - SLACK))

    def tick(self, now: float) -> None:
        super().tick(now)
        self.changed(self.slot.held)
