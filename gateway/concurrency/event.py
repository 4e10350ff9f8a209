"""`event`: one event loop a process, one process a core; each loop serves thousands of connections.

Promise: no thundering herd (the kernel wakes one process for a connection) and an even spread.
Must never know: what is served. Next: `seat.py` for the spread, `pool.py` for the processes.
"""

from __future__ import annotations

from gateway.concurrency import House, Shape, stays
from gateway.concurrency.pool import Pool, run_engine
from gateway.concurrency.seat import FairShare, Seat
from gateway.concurrency.single import Single


class OneLoop(Single):
    """A loop in the process that was started."""

    seat = Seat


class Loops(Pool):
    """A loop in each of several processes."""

    def run(self, slots: range, requests: float) -> int:
        return run_engine(self, slots[0], requests, FairShare)


def Event(house: House) -> Shape:
    """The shape for one process, or for several."""
    return OneLoop(house) if stays(house.hosting) else Loops(house)
