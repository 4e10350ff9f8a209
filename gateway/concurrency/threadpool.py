"""`threadpool`: processes with a fixed number of threads, each of which accepts and serves one connection at a time.

Promise: as `prefork`, with fewer processes for the same number of connections; a process fails as a whole.
Must never know: what is served. Next: `pool.py`, which keeps as many processes as are needed.
"""

from __future__ import annotations

import functools
import threading

from gateway.concurrency import Engine, House
from gateway.concurrency.pool import Pool, deafen, obey, run_seated
from gateway.concurrency.seat import OneByOne


class Threadpool(Pool):
    """Several engines a process."""

    def __init__(self, house: House) -> None:
        super().__init__(house, house.hosting.threads)

    def run(self, slots: range, requests: float) -> int:
        """A thread for each engine; this one listens to the parent."""
        house = self.house
        control = house.control()
        engines = [house.engine() for _ in slots]
        failures: list[BaseException] = []

        def worn() -> bool:
            """Whether all of them have served enough, together."""
            if sum(engine.served for engine in engines) < requests:
                return False
            control.wake()
            return True

        def work(engine: Engine, number: int) -> None:
            try:
                run_seated(self, engine, number, float("inf"), functools.partial(OneByOne, worn=worn))
            except BaseException as error:
                failures.append(error)
            finally:
                control.wake()

        threads = [
            threading.Thread(target=work, args=pair, name=f"engine-{pair[1]}") for pair in zip(engines, slots, strict=True)
        ]
        obey(house, control, self.lifeline, engines)
        for thread in threads:
            thread.start()

        def over() -> bool:
            if failures or sum(engine.served for engine in engines) >= requests:
                for engine in engines:
                    engine.retire()
            return not any(thread.is_alive() for thread in threads)

        control.run(over)
        deafen()
        for thread in threads:
            thread.join()
        control.close()
        if failures:
            raise failures[0]
        return 0
