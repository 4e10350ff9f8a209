"""What an engine counts of one route: plain numbers in one list, in the order in which others lay them out.

Promise: to count costs a few additions, no lock and no look-up; nothing is forgotten before somebody has read it.
Must never know: who reads. Next: `site.py`, which counts; `publish.py`, which hands the list on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

CAUSES: Final = (
    "app-down", "app-error", "bad-request", "bad-response", "bad-target", "cannot-multiplex", "connect", "connect-refused",
    "connect-timeout", "connection-limit", "content-limit", "content-timeout", "crlf-shebang", "descriptor-limit",
    "directory", "directory-permission", "encoded-slash", "file", "file-busy", "file-changed", "header-timeout", "internal",
    "method", "no-address", "no-directory", "no-file", "no-host", "no-interpreter", "no-memory", "no-permission", "no-route",
    "no-tunnel", "not-a-file", "not-a-program", "not-executable", "not-started", "options", "overloaded", "permission",
    "precondition", "process-limit", "queue-full", "queue-timeout", "range", "read-timeout", "redirect-loop",
    "response-timeout", "spool", "stopping", "symlink", "too-large", "total-timeout", "trace", "tunnel-stalled",
    "unknown-role", "web-server", "websocket-key", "websocket-version", "worker-died", "worker-hung", "write-timeout",
)  # fmt: skip
"""Of GatewayError; one that is not among them counts as OTHER."""
OTHER: Final = "other"

# where in the list
CLASSES: Final = 0
"""How many responses of each hundred of status codes; of 0 those that never had one."""
OCTETS: Final = 6
"""Of response content."""
MICROSECONDS: Final = 7
"""All response times together."""
IN_FLIGHT: Final = 8
QUEUED: Final = 9
RETRIES: Final = 10
BUCKETS: Final = 11
"""How many responses took less than each of BOUNDS_S and not less than the one before; the last: longer."""
FAILURES: Final = 31
"""How many exchanges failed, by cause."""
WIDTH: Final = 31 + 61 + 1

GAUGES: Final = (IN_FLIGHT, QUEUED)
"""What is now, and goes with the engine; all else only grows."""
BOUNDS_S: Final = tuple(0.00025 * (1 << number) for number in range(19))
"""0.25 ms to 65 s, each twice the one before."""
LAST_BUCKET: Final = 19
QUARTERS: Final = 4000.0
"""Of a millisecond, in a second."""

_PLACES: Final = {cause: FAILURES + number for number, cause in enumerate((*CAUSES, OTHER))}


class Counts:
    """Of one route, in one engine."""

    __slots__ = ("changed", "values")

    def __init__(self) -> None:
        self.values: list[int] = [0] * WIDTH
        self.changed = False
        """Since somebody has read it, who sets it back."""

    def anew(self) -> None:
        """Count from nothing; what is now stays."""
        values = self.values
        in_flight, queued = values[IN_FLIGHT], values[QUEUED]
        self.values = values = [0] * WIDTH
        values[IN_FLIGHT] = in_flight
        values[QUEUED] = queued

    def begun(self) -> None:
        """A request is on its way to whoever answers."""
        self.values[IN_FLIGHT] += 1
        self.changed = True

    def left(self) -> None:
        """It is not any more."""
        self.values[IN_FLIGHT] -= 1
        self.changed = True

    def over(self, status: int, octets: int, seconds: float) -> None:
        """A response is complete, or will never be."""
        values = self.values
        kind = status // 100
        values[kind if kind < 6 else 5] += 1
        values[OCTETS] += octets
        if status != 101:  # a tunnel lasts as long as the two sides want
            values[MICROSECONDS] += int(seconds * 1e6)
            bucket = int(seconds * QUARTERS).bit_length()
            values[BUCKETS + (bucket if bucket < LAST_BUCKET else LAST_BUCKET)] += 1
        self.changed = True

    def failed(self, cause: str) -> None:
        self.values[_PLACES.get(cause, FAILURES + len(CAUSES))] += 1
        self.changed = True

    def retried(self) -> None:
        self.values[RETRIES] += 1
        self.changed = True

    def queued(self, waiting: int) -> None:
        """So many wait for a worker now."""
        if self.values[QUEUED] != waiting:
            self.values[QUEUED] = waiting
            self.changed = True


def failures(values: Sequence[int]) -> dict[str, int]:
    """What has failed, by cause."""
    return {cause: values[place] for cause, place in _PLACES.items() if values[place]}


def quantile(buckets: Sequence[int], part: float) -> float | None:
    """The time in seconds within which such a part of the responses came, from what stands from BUCKETS on; None for none.

    Within a bucket they are taken to be spread evenly.
    """
    wanted = sum(buckets) * part
    if not wanted:
        return None
    for number, count in enumerate(buckets):
        if count and wanted <= count:
            lower = BOUNDS_S[number - 1] if number else 0.0
            upper = BOUNDS_S[number] if number < len(BOUNDS_S) else lower
            return lower + (upper - lower) * wanted / count
        wanted -= count
    return BOUNDS_S[len(BOUNDS_S) - 1]
