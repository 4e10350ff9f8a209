"""`event`: one event loop a process, one process a core; each loop serves thousands of connections.

Promise: no thundering herd (where there is little to do, one process listens) and an even spread.
Must never know: what is served. Next: `seat.py` for the spread, `pool.py` for the processes.
"""

from __future__ import annotations

import functools
import os

from gateway.concurrency import House, Shape, places, stays
from gateway.concurrency.pool import Pool, run_engine
from gateway.concurrency.seat import FairShare, Seat
from gateway.concurrency.single import Single


class OneLoop(Single):
    """A loop in the process that was started."""

    seat = Seat


class Loops(Pool):
    """A loop in each of several processes."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.bells = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(places(house.hosting))]

    def run(self, slots: range, requests: float) -> int:
        return run_engine(self, slots[0], requests, functools.partial(FairShare, bells=self.bells))

    def close(self) -> None:
        super().close()
        for bell in self.bells:
            os.close(bell)


def Event(house: House) -> Shape:
    """The shape for one process, or for several."""
    return OneLoop(house) if stays(house.hosting) else Loops(house)
