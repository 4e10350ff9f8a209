"""Who runs: six shapes of a server, a file each, over the drivers; the same for the gateway and for its workers.

Promise: a shape decides which process and which thread serves a connection, and when one begins and
ends; it holds no rule of HTTP, CGI or FastCGI. A new shape is one new file.
Must never know: what is served. Next: `single.py`, the simplest, then `pool.py`, on which three of them stand.
"""

from __future__ import annotations

import importlib
import socket
from typing import Any, NoReturn, Protocol

from gateway.drivers.driver import Driver
from gateway.models import Hosting
from gateway.processes.scoreboard import Scoreboard, Slot


class Engine(Protocol):
    """Serves connections in the thread that calls it; `gateway/engine.py`."""

    driver: Driver
    finished: bool

    @property
    def idle(self) -> bool: ...
    @property
    def served(self) -> int: ...
    @property
    def worn(self) -> bool: ...
    @property
    def stopping(self) -> bool: ...
    def sit(self, slot: Slot, requests: float) -> None: ...
    def open(self) -> None: ...
    def take(self, sock: socket.socket) -> None: ...
    def look(self) -> None: ...
    def let_go(self) -> None: ...
    def close(self) -> None: ...
    def retire(self, *, replaced: bool = False) -> None: ...
    def stop(self) -> None: ...
    def hurry(self) -> None: ...


class House(Protocol):
    """What a shape is given: all that the server consists of; `gateway/generation.py`."""

    driver: Driver
    """Of the process that was started: the parent, where there are children."""
    hosting: Hosting
    board: Scoreboard
    grace_s: float
    """For what is in flight when a child is to end, seconds."""
    sockets: list[socket.socket]
    """Those that listen."""

    def engine(self) -> Engine:
        """One with a driver of its own, not opened yet."""

    def own_engine(self) -> Engine:
        """One on the house's own driver."""

    def refuser(self) -> Engine:
        """One on the house's own driver that turns every connection away."""

    def forked(self) -> int:
        """We are a child now: let go of what is the parent's. A descriptor that is readable once the parent is gone."""

    def leave(self, code: int) -> NoReturn:
        """End this child."""

    def control(self) -> Driver:
        """A driver for a thread that serves nobody."""

    def reopen_logs(self) -> None:
        """Open the logs of this process anew, after they were renamed; for all its engines."""

    def report(self, level: str, text: str) -> None: ...
    def defect(self, error: BaseException) -> None: ...


class Shape(Protocol):
    """One way to run engines. All calls come from the house's own thread."""

    @property
    def ready(self) -> bool:
        """After `start`: clients are served."""

    @property
    def parted(self) -> bool:
        """After `retire`: no new connection is taken."""

    @property
    def stopped(self) -> bool:
        """After `retire` or `stop`: nobody is served any more."""

    def start(self, now: float) -> None: ...
    def look(self) -> None:
        """The driver has woken up."""

    def tick(self, now: float) -> None: ...
    def retire(self, now: float) -> None:
        """Another shape serves at the same sockets: take no more, finish what is in flight, however long that takes."""

    def stop(self, now: float) -> None:
        """Take no more, finish what is in flight within the grace."""

    def hurry(self, now: float) -> None:
        """End now."""

    def reopen_logs(self) -> None:
        """Have the other processes open their logs anew; this one has."""

    def abandon(self) -> None:
        """In a child of another shape: let go of the clients that are here."""

    def close(self) -> None:
        """Let go of what is left."""


def shape(house: House) -> Shape:
    """The shape that the house is to have."""
    name = house.hosting.concurrency
    module: Any = importlib.import_module(f"gateway.concurrency.{name}")
    made: Shape = getattr(module, name.capitalize())(house)
    return made


def stays(hosting: Hosting) -> bool:
    """Whether the one engine there is runs in the process that was started."""
    event = hosting.concurrency == "event" and hosting.processes == 1 and not hosting.children.requests
    return event or hosting.concurrency == "single"


def slots(hosting: Hosting) -> int:
    """How many engines serve at most."""
    match hosting.concurrency:
        case "single":
            return 1
        case "event":
            return hosting.processes
        case "threadpool":
            return hosting.children.max * hosting.threads
        case _:
            return hosting.children.max


def spare_places(hosting: Hosting) -> int:
    """How many processes there may be beside those, which serve no more, but still finish what they have."""
    return max(1, hosting.children.max // 4) if hosting.children.requests else 0


def places(hosting: Hosting) -> int:
    """How many engines there are at most, those that serve no more included: the slots of a scoreboard."""
    threads = hosting.threads if hosting.concurrency == "threadpool" else 1
    return slots(hosting) + spare_places(hosting) * threads
