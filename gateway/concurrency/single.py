"""`single`: one process, one thread, one connection at a time.

Promise: the simplest server there is; everybody waits for the one who is served.
Must never know: what is served. Next: `seat.py`, how the engine takes the next connection.
"""

from __future__ import annotations

from gateway.concurrency import House
from gateway.concurrency.seat import OneByOne, Seat


class Single:
    """One engine, on the driver of the process itself."""

    seat: type[Seat] = OneByOne

    def __init__(self, house: House) -> None:
        self.house = house
        self.engine = house.own_engine()
        self.seated: Seat | None = None

    def start(self, now: float) -> None:
        slot = self.house.board.slot(0)
        self.engine.sit(slot, float("inf"))
        self.engine.open()  # first: nobody is accepted for an application that can't start
        self.seated = self.seat(self.engine, slot, self.house.board, self.house.sockets)

    @property
    def ready(self) -> bool:
        return self.seated is not None

    @property
    def parted(self) -> bool:
        return self.engine.stopping

    @property
    def stopped(self) -> bool:
        return self.engine.finished

    def look(self) -> None:
        self.engine.look()

    def tick(self, now: float) -> None:
        if self.seated is not None:
            self.seated.tick(now)

    def retire(self, now: float) -> None:
        if self.seated is not None:
            self.seated.leave()
        self.engine.retire(replaced=True)

    def stop(self, now: float) -> None:
        if self.seated is not None:
            self.seated.leave()
        self.engine.stop()

    def hurry(self, now: float) -> None:
        self.engine.hurry()

    def reopen_logs(self) -> None:
        """There is no other process."""

    def abandon(self) -> None:
        """A shape that forks is never beside this one."""

    def close(self) -> None:
        self.engine.close()
