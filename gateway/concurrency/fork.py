"""`fork`: a process for each connection.

Promise: what one connection does touches no other; the number of processes is bounded, and so is the line of
those that wait. Must never know: what is served. Next: `per_connection.py`, which keeps the line.
"""

from __future__ import annotations

import os
import signal
import socket

from gateway.concurrency import House
from gateway.concurrency.per_connection import PerConnection
from gateway.concurrency.pool import DEFECT, deafen, fork, obey


class Fork(PerConnection):
    """The engine is built before the fork, once: a child has nothing to do but to serve."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.template = house.engine()
        self.pids: dict[int, int] = {}
        """Of each place that is taken."""

    def serve(self, place: int, sock: socket.socket) -> None:
        pid = fork()
        if not pid:
            self.house.leave(self._child(place, sock))
        sock.close()
        self.pids[place] = pid

        def ended(code: int) -> None:
            del self.pids[place]
            if code:
                self.report_crash(pid, code)
            self.left(place)

        self.house.driver.watch_child(pid, ended)

    def _child(self, place: int, sock: socket.socket) -> int:
        try:
            lifeline = self.house.forked()
            self.abandon()
            for listener in self.house.sockets:
                listener.close()
            engine = self.template
            slot = self.house.board.slot(place)
            slot.take()
            engine.sit(slot, float("inf"))
            obey(self.house, engine.driver, lifeline, [engine])
            if self.retiring:
                engine.retire(replaced=True)
            engine.open()
            self.serve_one(engine, sock, slot)
            deafen()
            engine.close()
            engine.driver.close()
            return 0
        except BaseException as error:  # nothing of the parent's may run in a child
            self.house.defect(error)
            return DEFECT

    def retire_all(self) -> None:
        for pid in self.pids.values():
            os.kill(pid, signal.SIGUSR2)

    def stop_all(self, *, at_once: bool) -> None:
        for pid in self.pids.values():
            os.kill(pid, signal.SIGKILL if at_once else signal.SIGTERM)

    def reopen_logs(self) -> None:
        for pid in self.pids.values():
            os.kill(pid, signal.SIGUSR1)
