"""An engine: one thread's worth of rules. A driver, a site, its services, and how they begin and end.

Promise: engines share nothing but a scoreboard and the logs; `retire`, `stop` and `hurry` may be called from
any thread, everything else by the one that runs it.
Must never know: routes, wire formats, how many engines there are. Next: `site.py`, and `concurrency/`.
"""

from __future__ import annotations

import math
import socket
import sys
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.drivers.driver import Driver
from gateway.ends import End
from gateway.processes.reap import Reaper
from gateway.publish import Publisher
from gateway.site import Neighbours, Site


class Hosted(Protocol):
    """An application with a life of its own (ASGI's lifespan)."""

    def open(self, driver: Driver) -> None: ...
    def shut(self, driver: Driver) -> None: ...


class Engine:
    """Serves connections in the thread that calls it."""

    def __init__(
        self,
        driver: Driver,
        reaper: Reaper,
        site: Site,
        front: Callable[[Site], End],
        hosted: Hosted | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        self.driver = driver
        self.reaper = reaper
        self.site = site
        self.front = front
        self.hosted = hosted
        self.shares = False
        """Whether the driver and the reaper are also others': what they know of is not ours to end."""
        self.publisher = publisher
        self.finished = False
        """After `retire` or `stop`: nothing is left to be done."""
        self.grace_s = 30.0
        # What others want, who may be other threads: each is set by them only, and never taken back.
        self._retire = False
        self._replaced = False
        self._stop = False
        self._hurry = False
        self._stop_by = math.inf
        self._ticked = 0.0
        self._opened = False
        driver.ticks.append(self.tick)

    # ------------------------------------------------------------------ its life

    def sit(self, neighbours: Neighbours, requests: float) -> None:
        """Take a place among others, for so many requests."""
        self.site.neighbours = neighbours
        self.site.requests = sys.maxsize if math.isinf(requests) else int(requests)

    def open(self) -> None:
        """Begin, in the process and the thread that will run it."""
        if not self._opened:
            self._opened = True
            self.driver.open()
        self.site.begin(time.time())
        if self.hosted is not None:
            self.hosted.open(self.driver)

    def take(self, sock: socket.socket) -> None:
        """Serve a client's connection."""
        now = self.driver.clock()
        self.finished = False  # one of those that waited when it took its leave
        if now - self._ticked > 1.0:  # it has slept
            self.driver.turn.now = now
            self.site.tick(now, time.time())
        self.driver.take(sock, self.front(self.site))

    @property
    def idle(self) -> bool:
        """Whether nobody is served, and nothing goes on for those who have left."""
        return not (self.site.fronts or self.site.exchanges or self._running())

    @property
    def served(self) -> int:
        """Requests that were answered."""
        return self.site.served

    @property
    def worn(self) -> bool:
        """Whether it has served as many as it shall."""
        return self.site.served >= self.site.requests

    def turn_away(self) -> None:
        """Answer every connection that there is no room."""
        self.site.limits = msgspec.structs.replace(self.site.limits, connections=0)

    def let_go(self) -> None:
        """Close what is kept for the next request: there may be none for long."""
        for service in self.site.services:
            service.interface.let_go()
        self.driver.settle()
        if self.publisher is not None:
            self.publisher.leave(self.driver.clock())
        if self.site.access_log is not None:
            self.site.access_log.flush()

    def close(self) -> None:
        """Let go of everything, children included."""
        if self.hosted is not None and self._opened:
            self.hosted.shut(self.driver)
        for service in self.site.services:
            service.interface.close()
        self.driver.settle()
        if self.publisher is not None:
            self.publisher.tick(self.driver.clock())
        self.driver.ticks.remove(self.tick)
        if not self.shares:
            self.reaper.kill_all()  # what scripts have put into the background
        if self.site.access_log is not None:
            self.site.access_log.close()

    # ------------------------------------------------------------------ from any thread

    def retire(self, *, replaced: bool = False) -> None:
        """Take no more, finish what is in flight, however long that takes. `replaced`: others serve already in its
        place, so that an idle connection may stay until it has been quiet for a while."""
        self._replaced |= replaced
        self._retire = True
        self.driver.wake()

    def stop(self) -> None:
        """Take no more, finish what is in flight within `grace_s`."""
        self._stop = True
        self.driver.wake()

    def hurry(self) -> None:
        """End now."""
        self._hurry = True
        self.driver.wake()

    # ------------------------------------------------------------------ while it runs

    def look(self) -> None:
        """See what others want; to be called whenever the driver has woken up."""
        if self.finished or not self.stopping:
            return
        now = self.driver.turn.now = self.driver.clock()
        retiring = self._replaced and not (self._stop or self._hurry)
        if not self.site.draining or self.site.retiring is not retiring:
            self.site.drain(retiring=retiring)
            self.driver.settle()
        if self._hurry:
            self._stop_by = min(self._stop_by, now)
        elif self._stop:
            self._stop_by = min(self._stop_by, now + self.grace_s)
        self._end(now)

    @property
    def stopping(self) -> bool:
        """Whether it takes no more connections."""
        return self._retire or self._stop or self._hurry

    def tick(self, now: float, wall: float) -> None:
        """Called at every sweep with the driver's clock and the wall clock."""
        self._ticked = now
        site = self.site
        site.tick(now, wall)
        for service in site.services:
            service.interface.tick(now)
        if self.publisher is not None:
            self.publisher.tick(now)
        if site.fronts and (site.draining or site.neighbours.waiting()):
            for front in list(site.fronts):
                front.make_room(now)
        self.look()

    def _end(self, now: float) -> None:
        if now < self._stop_by and not self.idle:
            return
        if self.site.exchanges or self._running():
            for service in self.site.services:
                service.interface.close()
            self.driver.settle()
        if not self._running():
            self.finished = True

    def _running(self) -> int:
        """How many scripts run, whether somebody waits for their response or not."""
        return sum(service.interface.running for service in self.site.services)

