"""One address of a target: what is open there, and what is known of it.

Promise: counts and notes only. Must never know: how one is chosen. Next: `pool.py`, which keeps them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gateway.ends import Address

if TYPE_CHECKING:
    from gateway.upstreams.connection import Connection
    from gateway.upstreams.places import Place


class Member:
    """One address of a target."""

    __slots__ = (
        "address", "authority", "credit", "down", "down_until", "failures", "idle", "leaving", "least_idle", "limit",
        "looked_at", "multiplexes", "name", "open", "outs", "place", "proven", "scarce", "served", "since", "source",
        "strikes", "tier", "trial", "unproven", "weight",
    )  # fmt: skip

    def __init__(self, address: Address, limit: float, weight: float = 1.0, tier: int = 0) -> None:
        self.address = address
        self.name = str(address)
        self.source = self.name
        """The address as the config has it: of a name that is looked up there are several members."""
        self.authority = self.name if not address.path else "localhost"
        """What an HTTP server there is called, if it is not to be called as its clients do."""
        self.limit = limit
        """How many connections the worker serves at the same time, as far as it is known."""
        self.weight = weight
        self.tier = tier
        """Those of a higher one are for when none of a lower one is able."""
        self.credit = 0.0
        """What its turns are counted with, where they go by weight."""
        self.since = -math.inf
        """When it came, or came back: its share grows from then on."""
        self.multiplexes = False
        """Whether requests share a connection: then `limit` and `open` count requests."""
        self.idle: list[Connection[Any]] = []
        self.open = 0
        self.least_idle = 0
        """Since the last sweep."""
        self.proven = 0
        """How many of those that are open have been served."""
        self.served = 0
        """The most that were at the same time, as far as we know: so many cannot keep each other waiting."""
        self.unproven: dict[Connection[Any], float] = {}
        """Since when each waits, oldest first."""
        self.failures = 0
        """Since it is known."""
        self.strikes = 0
        """Failures in a row."""
        self.outs = 0
        """How often in a row it was passed over for them."""
        self.down_until = 0.0
        """Until when it is passed over."""
        self.trial = False
        """Whether that is because one request finds out at the moment whether it is well again."""
        self.down = False
        """Whether whoever asks for its health has found it down."""
        self.leaving = False
        """Whether it takes no more requests."""
        self.looked_at = -1.0
        self.scarce = False
        """Whether a neighbour starved there of late, when we last looked."""
        self.place: Place | None = None
        """Where a worker of our own is, or may be; None for somebody else's."""

    @property
    def outstanding(self) -> int:
        """Requests that it has."""
        return self.open - len(self.idle)
