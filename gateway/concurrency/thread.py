"""`thread`: a thread for each connection.

Promise: lighter than a process for each, and with a shared fate; the number of threads is bounded, and so is
the line of those that wait. Must never know: what is served. Next: `per_connection.py`, which keeps the line.
"""

from __future__ import annotations

import collections
import socket
import threading

from gateway.concurrency import Engine, House
from gateway.concurrency.per_connection import PerConnection


class Thread(PerConnection):
    """An engine outlives its thread, and serves with the next one; what it kept open it has closed by then."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.free: list[Engine] = []
        self.running: dict[int, tuple[Engine, threading.Thread]] = {}
        """By place."""
        self.ended: collections.deque[int] = collections.deque()
        """Places whose threads have nothing left to do: written by them, read by the house's own."""

    def serve(self, place: int, sock: socket.socket) -> None:
        engine = self.free.pop() if self.free else self.house.engine()
        slot = self.house.board.slot(place)
        slot.take()
        engine.sit(slot, float("inf"))

        def work() -> None:
            try:
                engine.open()
                self.serve_one(engine, sock, slot)
                engine.let_go()
            except BaseException as error:
                self.house.defect(error)
            finally:
                self.ended.append(place)
                self.house.driver.wake()

        thread = threading.Thread(target=work, name=f"connection-{place}")
        self.running[place] = engine, thread
        thread.start()

    def look(self) -> None:
        while self.ended:
            place = self.ended.popleft()
            engine, thread = self.running.pop(place)
            thread.join()
            self.free.append(engine)
            self.left(place)

    def stop_all(self, *, at_once: bool) -> None:
        for engine, _ in self.running.values():
            if at_once:
                engine.hurry()
            else:
                engine.stop()

    def reopen_logs(self) -> None:
        super().reopen_logs()
        for engine in [*self.free, *(engine for engine, _ in self.running.values())]:
            engine.reopen_logs()

    def close(self) -> None:
        super().close()
        for engine in self.free:
            engine.close()
            engine.driver.close()
