"""What a route says of its workers beside where they are, and what the lookout tells of them.

Promise: values only; they are read when a pool is made or changed, never on the way of a request.
Must never know: what is done with them. Next: `pool.py`, the reader; `balance.py` and `health.py`, what it means.
"""

from __future__ import annotations

import math

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """How workers are asked for their health, whether there are requests or not."""

    path: bytes = b""
    """What is requested; empty: to connect is enough."""
    every_s: float = 5.0
    timeout_s: float = 2.0
    rise: int = 2
    """So many answers in a row, and the worker is up again."""
    fall: int = 3
    """So many failures in a row, and it is down."""
    lowest: int = 200
    highest: int = 399
    """The statuses that are good."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Of one route."""

    balance: str = "least-outstanding"
    hash: str = ""
    """What is hashed where that is the balance: "client", "field:NAME", "cookie:NAME"."""
    weights: tuple[float, ...] = ()
    """Of each address; empty: they are equal."""
    backups: tuple[bool, ...] = ()
    """Whether an address is for when no other is able; empty: none is."""
    limit: float = math.inf
    """Requests at the same time at each address."""
    queue: int = 1024
    """Requests that may wait for a worker."""
    slow_start_s: float = 0.0
    """How long the share grows of one that has come back, or is new."""
    failures: int = 1
    """So many in a row, and a worker is passed over."""
    pause_s: float = 1.0
    """For so long at first."""
    check: Check | None = None

    def weight(self, number: int) -> float:
        return self.weights[number] if self.weights else 1.0

    def tier(self, number: int) -> int:
        """0, or 1 for a backup."""
        return int(self.backups[number]) if self.backups else 0


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One worker, as whoever looks out for it tells."""

    host: str
    port: int
    path: str
    source: str
    """The address as the config has it, of which this is one."""
    authority: str
    """What an HTTP server there is called."""
    weight: float = 1.0
    tier: int = 0
    """Those of a higher one are for when none of a lower one is able."""
    up: bool = True
    since: float | None = None
    """Since when, on the driver's clock; None: it always was."""


class Standing(msgspec.Struct, frozen=True):
    """How one worker is, to be shown."""

    address: str
    state: str
    """ "up"; "out" for a while, after failures; "trial": one request finds out whether it is well again; "down": it was
    asked, and did not answer well; "leaving"."""
    outstanding: int
    idle: int
    failures: int
    """Since the engine began."""
    weight: float = 1.0
    backup: bool = False
    out_s: float = 0.0
    """For how much longer it is out; 0 for one that is not."""
