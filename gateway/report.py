"""How the gateway is: put together from what its engines have told, its applications, and what it is itself.

Promise: asking disturbs nobody who serves; what was counted stays counted over reloads, route by route.
Must never know: who asks. Next: `observe/status.py`, the words; `publish.py`, where an engine tells.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from gateway import __version__, counts
from gateway import config as settings
from gateway.apps import AppReport
from gateway.config import Config
from gateway.observe.status import NOT_SERVED, App, Busy, Engine, Gateway, Member, Note, Route, Status, Upstream, Worker
from gateway.processes.counters import Counters
from gateway.processes.scoreboard import BUSY, ENDING, FREE, IDLE, STARTING, Scoreboard

STATES = {STARTING: "starting", IDLE: "idle", BUSY: "busy", ENDING: "ending"}
NO_ROUTE = "-"
Key: TypeAlias = tuple[str, str, int]
"""Name, interface, and the how manieth with both: a route that stays the same in a new config."""


def counters_for(config: Config, slots: int) -> Counters:
    """A row for each route, and one for requests of none; a slot for each engine, and one for who turns clients away."""
    return Counters(slots + 1, len(config.routes) + 1, counts.WIDTH, counts.GAUGES)


class Reporter:
    """One gateway. A config that has been replaced is told of until its last engine has ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.wall = wall
        self.started = wall()
        self.reloads = -1
        self.shapes: list[tuple[Config, Scoreboard]] = []
        self.read: list[float] = []
        """When the config of each shape was."""
        self.gone: dict[Key, list[int]] = {}

    def begin(self, config: Config, board: Scoreboard) -> None:
        """Engines with this config begin to count on this board."""
        self.shapes.append((config, board))
        self.read.append(self.wall())
        self.reloads += 1

    def keep(self, boards: Sequence[Scoreboard]) -> None:
        """Only the engines of these are left."""
        for number in reversed(range(len(self.shapes))):
            config, board = self.shapes[number]
            if board in boards:
                continue
            if number == len(self.shapes) - 1:
                self.reloads -= 1  # it did not come to that
            for row, key in enumerate(_keys(config)):
                self.gone[key] = _sum(self.gone.get(key), board.counters.total(row), counts.GAUGES)
            del self.shapes[number], self.read[number]

    # ------------------------------------------------------------------ what is told

    def status(self, apps: Sequence[AppReport], listen: Sequence[str], *, ending: bool = False) -> Status:
        now, wall = self.clock(), self.wall()
        config = self.shapes[-1][0]
        boards = [board for _, board in self.shapes]
        gateway = Gateway(
            version=__version__, pid=os.getpid(), started=self.started, uptime_s=wall - self.started,
            config=os.path.realpath(config.origin), read=self.read[-1], reloads=self.reloads,
            concurrency=str(config.server.hosting), listen=list(listen), state="ending" if ending else "serving",
            connections=sum(board.connections() for board in boards),
        )  # fmt: skip
        notes = [note for config, board in self.shapes for note in _notes(config, board)]
        requests = [busy for note in notes for busy in note.busy(now)]
        requests.sort(key=lambda busy: -busy.age_s)
        status = Status(
            gateway=gateway, engines=list(self._engines()), routes=list(self._routes(config)),
            apps=[_app(app, now, requests) for app in apps],
            upstreams=_upstreams(config, notes), requests=requests, problems=[],
        )  # fmt: skip
        status.problems = list(_problems(status))
        return status

    def _engines(self) -> Iterator[Engine]:
        for _, board in self.shapes:
            for number in range(board.slots):
                slot = board.slot(number)
                if slot.state != FREE:
                    yield Engine(number, slot.pid or os.getpid(), STATES[slot.state], slot.held, slot.requests)

    def _routes(self, config: Config) -> Iterator[Route]:
        totals = dict(self.gone)
        for old, board in self.shapes:
            for row, key in enumerate(_keys(old)):
                totals[key] = _sum(totals.get(key), board.counters.total(row))
        for key, route in zip(_keys(config), (*config.routes, None), strict=True):
            yield _route(key[0], route, totals[key])


class _Note:
    """What an engine has told, and of which config it speaks."""

    def __init__(self, config: Config, note: Note, pid: int) -> None:
        self.names = [name_of(route) for route in config.routes]
        self.note = note
        self.pid = pid

    def busy(self, now: float) -> Iterator[Busy]:
        for number, method, path, route, upstream, since in self.note.requests:
            name = self.names[route] if route >= 0 else NO_ROUTE
            yield Busy(number, method, path, name, upstream, max(0.0, now - since), self.pid)


def name_of(route: settings.Route) -> str:
    """A route in one word."""
    return (route.hosts[0].decode("latin-1") if route.hosts else "") + route.path


def target_of(route: settings.Route) -> str:
    """Who answers, or what is sent."""
    if route.app is not None:
        return f"app {route.app}"
    return " ".join(map(str, route.addresses)) or os.fsdecode(route.script or route.root or b"")


def _keys(config: Config) -> list[Key]:
    keys: list[Key] = []
    for name, interface in [*((name_of(route), route.interface) for route in config.routes), (NO_ROUTE, NO_ROUTE)]:
        keys.append((name, interface, sum(key[:2] == (name, interface) for key in keys)))
    return keys


def _sum(first: Sequence[int] | None, second: Sequence[int], without: Sequence[int] = ()) -> list[int]:
    found = [0 if number in without else value for number, value in enumerate(second)]
    return found if first is None else [a + b for a, b in zip(first, found, strict=True)]


def _notes(config: Config, board: Scoreboard) -> Iterator[_Note]:
    for number in range(board.slots):
        text = board.counters.told(number)
        if text:
            yield _Note(config, msgspec.json.decode(text, type=Note), board.slot(number).pid or os.getpid())


def _route(name: str, route: settings.Route | None, values: Sequence[int]) -> Route:
    classes = values[counts.CLASSES : counts.CLASSES + 6]
    buckets = values[counts.BUCKETS : counts.FAILURES]
    below = 0
    cumulated = []
    for bound, count in zip(counts.BOUNDS_S, buckets, strict=False):
        below += count
        cumulated.append((bound, below))
    path, interface, target, hosts = "", NO_ROUTE, "", []
    if route is not None:
        path, interface, target = route.path, route.interface, target_of(route)
        hosts = [host.decode("latin-1") for host in route.hosts]
    return Route(
        name=name, path=path, interface=interface, hosts=hosts, target=target, requests=sum(classes),
        responses={f"{number}xx" if number else "none": count for number, count in enumerate(classes) if count},
        errors=counts.failures(values), retries=values[counts.RETRIES], in_flight=values[counts.IN_FLIGHT],
        queued=values[counts.QUEUED], octets=values[counts.OCTETS], seconds=values[counts.MICROSECONDS] / 1e6,
        buckets=cumulated, longer=buckets[counts.LAST_BUCKET], p50_s=counts.quantile(buckets, 0.5),
        p99_s=counts.quantile(buckets, 0.99),
    )  # fmt: skip


def _app(app: AppReport, now: float, requests: Sequence[Busy]) -> App:
    workers = [
        Worker(
            number=one.number, pid=one.pid, state=one.state, age_s=now - one.since if one.since else 0.0,
            requests=one.requests, memory=one.memory, outstanding=one.outstanding, address=one.address,
            busy_s=now - one.busy_since if one.busy_since else 0.0,
            request=next((busy for busy in requests if one.address and busy.upstream == one.address), None),
        )
        for one in app.places
    ]  # fmt: skip
    return App(app.name, app.kind, app.interface, app.state, app.why, app.restarts, workers)


def _upstreams(config: Config, notes: Sequence[_Note]) -> list[Upstream]:
    """Each address once, as most engines see it."""
    found: dict[int, dict[str, list[Member]]] = {}
    for note in notes:
        if note.names != [name_of(route) for route in config.routes]:
            continue  # of a config that has been replaced
        for number, members in note.note.members:
            for member in members:
                found.setdefault(number, {}).setdefault(member.address, []).append(member)
    return [
        Upstream(name_of(config.routes[number]), [_together(seen) for seen in members.values()])
        for number, members in sorted(found.items())
    ]


def _together(seen: Sequence[Member]) -> Member:
    states = [one.state for one in seen]
    others = [state for state in states if state != "up"]
    return Member(
        address=seen[0].address, state=max(others, key=others.count) if 2 * len(others) >= len(states) and others else "up",
        outstanding=sum(one.outstanding for one in seen), idle=sum(one.idle for one in seen),
        failures=sum(one.failures for one in seen), weight=seen[0].weight, backup=seen[0].backup,
    )  # fmt: skip


def _problems(status: Status) -> Iterator[str]:
    for app in status.apps:
        if app.state == "down":
            yield f"app {app.name} is down: {app.why}"
    for upstream in status.upstreams:
        for member in upstream.members:
            if member.state in NOT_SERVED:
                yield f"{member.address} of route {upstream.route} does not answer"
    if status.gateway.state == "ending":
        yield "the gateway is about to end"
