"""What one config comes to: the board, the services, whatever config comes next.

Promise: engines that are built of it go on as they are while another config is served beside them.
Must never know: how engines are run, who asks for another config. Next: `server.py`, which has one for each config;
`site.py`, what an engine gets of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from gateway.app_launch import hosting_command, launch_of
from gateway.apps import Running, name_of
from gateway.concurrency import places, slots
from gateway.config import App, Config, Route
from gateway.drivers.driver import Driver
from gateway.ends import Launch, Turn
from gateway.engine import Engine
from gateway.errors import GatewayError
from gateway.forwarding import Forwarding
from gateway.fronts.http1 import Http1Front
from gateway.interfaces.cgi import CgiInterface
from gateway.interfaces.fastcgi import FastcgiInterface
from gateway.interfaces.http import HttpInterface
from gateway.interfaces.scgi import ScgiInterface
from gateway.interfaces.static import StaticInterface
from gateway.observe.access_log import AccessLog
from gateway.observe.error_log import ErrorLog
from gateway.processes.explain import explain
from gateway.processes.places import Clerk
from gateway.processes.reap import Reaper
from gateway.processes.rosters import Rosters, SharedRoster
from gateway.processes.scoreboard import Scoreboard
from gateway.publish import Publisher
from gateway.report import counters_for
from gateway.routing import Programs, Router
from gateway.site import Interface, Service, Site
from protocols.http1 import tokeniser

if TYPE_CHECKING:
    from gateway.apps import Apps
    from gateway.lookout import Lookout


class Served:
    """One config, and what is made of it before anybody is forked."""

    def __init__(self, config: Config, apps: Apps, access_log: AccessLog | None) -> None:
        """`apps`: run what the config wants by now."""
        self.config = config
        self.access_log = access_log
        self.programs = Programs(config.routes)
        self.running = apps.running
        self.bell_name = apps.bell_name
        self.watched = [route.number for route in config.routes if route.watched]
        """The routes whose workers are looked out for, and what the engines are told of them, in this order."""
        self.rosters = Rosters(len(self.watched))
        self.lookout: Lookout | None = None
        addresses = {str(address) for route in config.routes for address in self._served_at(route).addresses}
        slots = places(config.server.hosting)
        self.board = Scoreboard(slots, sorted(addresses), len(config.routes), counters=counters_for(config, slots))

    # ------------------------------------------------------------------ who looks out for workers

    def look_out(self, turn: Turn, report: Callable[[str, str], None], now: float) -> None:
        """Begin, where there are names of workers, or workers that are asked for their health."""
        if self.watched:
            from gateway.lookout import Lookout  # with dnspython, which takes its time

            own = self.config.server.resolver
            self.lookout = Lookout(turn, report, self.config.routes, self._roster, own)
            self.lookout.start(now)

    @property
    def settled(self) -> bool:
        """Whether it is known who the workers are, as far as anybody tells."""
        return self.lookout is None or self.lookout.settled

    def tick(self, now: float, wall: float) -> None:
        if self.lookout is not None:
            self.lookout.tick(now, wall)

    def stop(self) -> None:
        """Nobody asks for workers any more."""
        if self.lookout is not None:
            self.lookout.stop()

    def _roster(self, route: Route) -> SharedRoster | None:
        """Each pool has its own, for it remembers what it has read."""
        return self.rosters.roster(self.watched.index(route.number)) if route.number in self.watched else None

    # ------------------------------------------------------------------ engines

    def build(self, driver: Driver, reaper: Reaper, error_log: ErrorLog) -> Engine:
        """An engine on a driver."""
        server = self.config.server
        site = Site(
            driver.turn, server.limits, server.timeouts, tokeniser(server.http), Forwarding(server.trusted_proxies),
            self.access_log.copy() if self.access_log is not None else None, error_log,
        )  # fmt: skip
        clerk = Clerk(self.bell_name)
        routes = map(self._served_at, self.config.routes)
        site.services = [Service(route, self._interface(site, route, clerk)) for route in routes]
        site.router = Router([service.route for service in site.services])
        publisher = Publisher(site, self.board.counters.text_octets)
        engine = Engine(driver, reaper, site, Http1Front, clerk if clerk.desks else None, publisher)
        engine.grace_s = server.grace_s
        return engine

    def _served_at(self, route: Route) -> Route:
        """The route with the addresses of its application, where the gateway runs that."""
        running = self._running(route)
        return route if running is None else msgspec.structs.replace(route, addresses=running.addresses)

    def _running(self, route: Route) -> Running | None:
        """The application of a route that workers answer."""
        if route.app is None or route.interface == "cgi":
            return None
        return self.running[name_of(self.config.apps[route.app], route.interface)]

    def _interface(self, site: Site, route: Route, clerk: Clerk) -> Interface:
        app = self.config.apps[route.app] if route.app is not None else None
        running = self._running(route)
        down = desk = None
        limit = float("inf")
        if running is not None:
            down, desk, limit = _down(running), clerk.desk(running.places), _limit(running.app, route.interface)
        match route.interface:
            case "static":
                return StaticInterface(route, self.programs)
            case "cgi":
                return CgiInterface(site, route, explain, None if app is None else _program(app))
            case "fastcgi":
                spread = 0 if app is None else 1 if app.kind == "command" else app.hosting.processes
                workers = 0 if app is None else 1
                return FastcgiInterface(site, route, workers, down, spread, desk, limit, self._roster(route))
            case "scgi":
                return ScgiInterface(site, route, down, desk, limit, self._roster(route))
            case _:
                return HttpInterface(site, route, down, desk, limit, self._roster(route))


def _down(running: Running) -> Callable[[float], GatewayError | None]:
    """What tells that no worker of an app will answer."""

    def down(now: float) -> GatewayError | None:
        why = running.told.why(now)
        if not why:
            return None
        return GatewayError(
            503, "app-down", f"no worker of app {running.name!r} runs: {why}",
            "see what its workers told before they ended", retry_after_s=running.told.retry_after_s(now),
        )  # fmt: skip

    return down


def _limit(app: App, interface: str) -> float:
    """Requests that one process of an app takes at the same time, as far as that is known before it is asked."""
    if app.kind == "command":
        if app.at_once is None and interface == "scgi" and app.staff.max == 1:  # nobody can ask it, and no other is free
            return float("inf")
        return float(app.at_once or 1)
    if interface == "http" and app.hosting.concurrency != "event":
        return float(slots(app.hosting))
    return float("inf")


def _program(app: App) -> Launch:
    """A process for each request of a hosted application."""
    return launch_of(app, hosting_command(app, "cgi"))
