"""`prefork`: a pool of processes, each of which accepts and serves one connection at a time.

Promise: isolation without the cost of a start; what breaks one process breaks nobody else's request.
Must never know: what is served. Next: `pool.py`, which keeps as many as are needed.
"""

from __future__ import annotations

from gateway.concurrency.pool import Pool, run_engine
from gateway.concurrency.seat import OneByOne


class Prefork(Pool):
    """One engine a process."""

    def run(self, slots: range, requests: float) -> int:
        return run_engine(self, slots[0], requests, OneByOne)
