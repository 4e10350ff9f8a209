"""How a gateway is, in words that stay: what `gateway status` shows, and what `GET /status` answers (docs/status.md).

Promise: plain data; a name that is here keeps its meaning, others may be added.
Must never know: how it was found out. Next: `report.py`, which does; `metrics.py`, the same for Prometheus.
"""

from __future__ import annotations

from typing import Final

import msgspec

NOT_SERVED: Final = ("down", "out")
"""States of a member to which no request is sent."""


class Member(msgspec.Struct):
    """One address of an upstream."""

    address: str
    state: str = "up"
    """"up"; "out" (passed over for now), "down", or what else the balance knows."""
    outstanding: int = 0
    """Requests, or connections where each serves one, that are there now."""
    idle: int = 0
    """Connections that are kept."""
    failures: int = 0
    weight: float = 1.0
    backup: bool = False


class Busy(msgspec.Struct):
    """A request that takes a while."""

    id: str
    method: str
    path: str
    """Without the query, in which secrets may be."""
    route: str
    upstream: str
    age_s: float
    pid: int = 0
    """Of the engine that has it."""


class Note(msgspec.Struct, array_like=True):
    """What an engine tells beside its numbers."""

    requests: list[tuple[str, str, str, int, str, float]]
    """Id, method, path, route, upstream, and when each came, on the clock that all processes share."""
    members: list[tuple[int, list[Member]]]
    """By route."""
    left_out: int = 0
    """Requests for which there was no room."""


class Engine(msgspec.Struct):
    """What serves clients: a process, or a thread of one."""

    number: int
    pid: int
    state: str
    """"starting", "idle" (takes connections), "busy" (takes none) or "ending"."""
    connections: int
    requests: int


class Route(msgspec.Struct):
    """What came to a route since the gateway was started."""

    name: str
    """Path, with its first host before it; "-" for requests that no route took."""
    path: str
    hosts: list[str]
    interface: str
    target: str
    requests: int
    responses: dict[str, int]
    """By class: "2xx"."""
    errors: dict[str, int]
    """What the gateway itself had to answer, or to break off, by cause."""
    retries: int
    in_flight: int
    queued: int
    octets: int
    seconds: float
    """All response times together."""
    buckets: list[tuple[float, int]]
    """How many took so many seconds at most; beyond the last: `longer`."""
    longer: int
    p50_s: float | None
    p99_s: float | None


class Worker(msgspec.Struct):
    """A place of an application, and the process that has it now."""

    number: int
    pid: int
    state: str
    age_s: float
    """Since the process was started."""
    requests: int = 0
    memory: int = 0
    """Resident, octets."""
    outstanding: int = 0
    busy_s: float = 0.0
    """How long it has been at its request."""
    address: str = ""
    """Where it alone is reached; "" where workers share a socket."""
    request: Busy | None = None


class App(msgspec.Struct):
    """An application that the gateway runs."""

    name: str
    kind: str
    interface: str
    state: str
    """"running" or "down"."""
    why: str
    restarts: int
    workers: list[Worker]


class Upstream(msgspec.Struct):
    """The addresses of a route, all engines together."""

    route: str
    members: list[Member]


class Gateway(msgspec.Struct):
    """The process itself."""

    version: str
    pid: int
    started: float
    """Seconds since 1970, as `read`."""
    uptime_s: float
    config: str
    read: float
    """When the config was read that holds now."""
    reloads: int
    concurrency: str
    listen: list[str]
    state: str
    """"serving" or "ending"."""
    connections: int


class Status(msgspec.Struct):
    """All of it."""

    gateway: Gateway
    engines: list[Engine]
    routes: list[Route]
    apps: list[App]
    upstreams: list[Upstream]
    requests: list[Busy]
    """Those that take longer than a quarter of a second, the oldest first."""
    problems: list[str]
    """What is down; nothing else is to be looked at where this is empty."""
