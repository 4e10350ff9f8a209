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
        self.ended: collections.deque[tuple[int, bool]] = collections.deque()
        """Places whose threads have nothing left to do, and whether all went well: written by them, read by the
        house's own."""

    def serve(self, place: int, sock: socket.socket) -> None:
        engine = self.free.pop() if self.free else self.house.engine()
        slot = self.house.board.slot(place)
        slot.take()
        engine.sit(slot, float("inf"))
        if self.retiring:
            engine.retire(replaced=True)

        def work() -> None:
            well = False
            try:
                engine.open()
                self.serve_one(engine, sock, slot)
                engine.let_go()
                well = True
            except BaseException as error:
                self.house.defect(error)
            finally:
                self.ended.append((place, well))
                self.house.driver.wake()

        thread = threading.Thread(target=work, name=f"connection-{place}")
        try:
            thread.start()
        except RuntimeError:
            self.free.append(engine)
            raise
        self.running[place] = engine, thread  # nobody looks there before this thread does

    def look(self) -> None:
        super().look()
        while self.ended:
            place, well = self.ended.popleft()
            engine, thread = self.running.pop(place)
            thread.join()
            if well and not self.stopping:
                self.free.append(engine)
            else:  # it was told to stop, or nobody knows in what state it is
                self.drop(engine)
            self.left(place)

    def drop(self, engine: Engine) -> None:
        try:
            engine.close()
            engine.driver.close()
        except Exception as error:
            self.house.defect(error)

    def retire_all(self) -> None:
        for engine, _ in self.running.values():
            engine.retire(replaced=True)

    def stop_all(self, *, at_once: bool) -> None:
        for engine, _ in self.running.values():
            if at_once:
                engine.hurry()
            else:
                engine.stop()

    def close(self) -> None:
        super().close()
        for engine in self.free:
            self.drop(engine)
