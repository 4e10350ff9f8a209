"""What an engine tells the others, and whoever asks how the gateway is: at each sweep, and at its end.

Promise: it costs nothing per request; what has not changed is not told again.
Must never know: who is told, and how. Next: `counts.py`, the numbers; `report.py`, which puts together what all tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.observe.status import Member, Note
from gateway.processes.counters import TEXT_OCTETS, Counters
from gateway.site import Alone, Service, Site
from gateway.upstreams.pool import Standing

LONG_S: Final = 0.25
"""A request that is older is told of."""
TOLD: Final = 16
"""Of so many requests at most."""
PATH_OCTETS: Final = 200


class Publisher:
    """Of one engine."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._last = b""

    def tick(self, now: float) -> None:
        site = self.site
        neighbours = site.neighbours
        for number, service in enumerate(site.services):
            service.counts.queued(waiting_of(service))
            if service.counts.changed:
                service.counts.changed = False
                neighbours.publish(number, service.counts.values)
        if site.counts.changed:
            site.counts.changed = False
            neighbours.publish(len(site.services), site.counts.values)
        text = self._text(now)
        if text != self._last:
            self._last = text
            neighbours.tell(text)

    def leave(self, now: float) -> None:
        """The place among the neighbours is given up: whatever comes is counted at another one."""
        self.tick(now)
        self._last = b""
        for counts in (self.site.counts, *(service.counts for service in self.site.services)):
            counts.anew()

    def _text(self, now: float) -> bytes:
        requests = self._requests(now) if self.site.exchanges else []
        members = [
            (number, [_member(one) for one in service.interface.pool.standings()])
            for number, service in enumerate(self.site.services) if hasattr(service.interface, "pool")
        ]  # fmt: skip
        note = Note(requests[:TOLD], members, len(requests[TOLD:]))
        while len(text := msgspec.json.encode(note)) > TEXT_OCTETS:
            if note.requests:
                note.requests.pop()
                note.left_out += 1
            elif note.members:
                note.members.pop()
            else:
                return b""
        return text

    def _requests(self, now: float) -> list[tuple[str, str, str, int, str, float]]:
        """Those that take long, the oldest first."""
        found = []
        for front in self.site.fronts:
            exchange = getattr(front, "exchange", None)
            if exchange is None or now - exchange.started < LONG_S:
                continue
            request = exchange.request
            path: bytes = request.target.partition(b"?")[0][:PATH_OCTETS]
            route: int = exchange.found.route.number if exchange.found is not None else -1
            found.append(
                (exchange.id.decode("latin-1"), request.method.decode("latin-1"), path.decode("latin-1"), route,
                 exchange.call.upstream if exchange.call is not None else exchange.upstream, exchange.started)
            )  # fmt: skip
        found.sort(key=lambda one: one[-1])
        return found


def _member(one: Standing) -> Member:
    return Member(one.address, one.state, one.outstanding, one.idle, one.failures, one.weight, one.backup)


class Apart(Alone):
    """The place of an engine that is none of them: it turns clients away."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    def publish(self, route: int, values: Sequence[int]) -> None:
        self.counters.publish(self.counters.slots - 1, route, values)


def waiting_of(service: Service) -> int:
    """How many requests of a route wait for a worker, or for a place of a script."""
    holder = getattr(service.interface, "pool", service.interface)
    waiting: int = len(getattr(holder, "waiting", ()))
    return waiting

