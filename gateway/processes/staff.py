"""The workers of one application: how many there are to be, and what is known of each.

Promise: data only. Must never know: what is decided about it. Next: `supervise.py`, which decides.

A worker is a place that one process after another takes:

    ABSENT --wanted--> WAITING --due--> STARTING --started--> RUNNING --worn, idle--> LEAVING --no request--> ENDING
       ^                  ^                | failed              | exited                  | exited              |
       |                  +----------------+---------------------+ (needed)                |                     |
       +------------------ (not needed) -------------------------+-------------------------+---------------------+
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.processes.supervise import Supervisor


class Phase(enum.Enum):
    ABSENT = "absent"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    LEAVING = "leaving"
    ENDING = "ending"
    ENDED = "ended"


PRESENT = (Phase.WAITING, Phase.STARTING, Phase.RUNNING)
"""It serves, or will."""
RUNS = (Phase.RUNNING, Phase.LEAVING, Phase.ENDING)
"""There is a process."""


@dataclass(frozen=True)
class Staff:
    """How many workers there are, and for how long. Times in seconds; 0: no bound."""

    min: int = 1
    max: int = 1
    idle_s: float = 60.0
    """Without a request for so long, one above `min` leaves."""
    requests: int = 0
    memory: int = 0
    """Octets that are resident."""
    lifetime_s: float = 0.0
    start_s: float = 0.0
    """To be ready, where it tells that; else to answer its first request."""
    busy_s: float = 0.0
    """Without an answer for so long, one that has requests is ended."""

    def __str__(self) -> str:
        """How many, for people."""
        return str(self.max) if self.min == self.max else f"{self.min} to {self.max}"


class Worker:
    """One of the places (an `ends.Child`). Its stderr end notes `lines` for the log."""

    __slots__ = (
        "bad_starts", "base", "broken", "due", "idle_since", "kill_at", "leaving_since", "lines", "memory", "number",
        "phase", "pid", "ready", "since", "spread", "supervisor", "was_served", "why", "worn",
    )  # fmt: skip

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self.supervisor = supervisor
        self.number = number
        self.phase = Phase.ABSENT
        self.pid = 0
        self.since = 0.0
        """When the process started."""
        self.due = 0.0
        """When the next process shall start, while WAITING."""
        self.bad_starts = 0
        self.lines: deque[str] = deque()
        """Last lines that the process wrote to its stderr, escaped for a log."""
        self.broken = ""
        """What was wrong with the last process, if it never got so far as to serve; "" where it did."""
        self.ready = False
        self.base = 0
        """Requests that the place had served before this process."""
        self.was_served = 0
        self.idle_since = 0.0
        self.memory = 0
        self.spread = 1.0
        """By how much its bounds differ from what was said, so that not all end at the same time."""
        self.worn = ""
        """Why another one is to take over; "" while it serves on."""
        self.why = ""
        """Why it was told to end."""
        self.leaving_since = 0.0
        self.kill_at = math.inf
        """When it is ended by force."""

    def started(self, pid: int, now: float) -> None:
        self.supervisor._started(self, pid, now)

    def failed(self, error: OSError, now: float) -> None:
        self.supervisor._failed(self, error, now)

    def exited(self, code: int, now: float) -> None:
        self.supervisor._exited(self, code, now)
