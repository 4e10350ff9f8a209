"""Builds the gateway from its config: which services, which workers, and what an engine of it consists of.

Promise: nothing half-starts: every mistake is found before the first request is taken.
Knows everybody; is known by the command line only. Next: `house.py`, how it runs; `site.py`, what it builds.
"""

from __future__ import annotations

import importlib
import os
import pwd
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.admin import Admin
from gateway.admin_client import paths_of
from gateway.apps import Apps, as_user, environment_of, hosting_command, name_of
from gateway.concurrency import places, slots
from gateway.config import App, Config, Route
from gateway.drivers.blocking import BlockingDriver
from gateway.drivers.driver import SWEEP_S, Driver
from gateway.ends import Launch
from gateway.engine import Engine
from gateway.errors import GatewayError, ServeError
from gateway.forwarding import Forwarding
from gateway.fronts.http1 import Http1Front
from gateway.house import House
from gateway.interfaces.admin import Reply
from gateway.interfaces.cgi import CgiInterface
from gateway.interfaces.fastcgi import FastcgiInterface
from gateway.interfaces.http import HttpInterface
from gateway.interfaces.scgi import ScgiInterface
from gateway.interfaces.static import StaticInterface
from gateway.observe.access_log import AccessLog
from gateway.observe.error_log import ErrorLog
from gateway.observe.status import Status
from gateway.processes.explain import explain
from gateway.processes.reap import Reaper
from gateway.processes.rosters import Rosters, SharedRoster
from gateway.processes.scoreboard import Scoreboard
from gateway.publish import Publisher
from gateway.report import Reporter, counters_for
from gateway.routing import Programs, Router
from gateway.site import Interface, Service, Site
from protocols.http1 import tokeniser

if TYPE_CHECKING:
    from gateway.lookout import Lookout

START_S: Final = 2.0
"""How long the first look-ups may take before there are requests."""


def serve(config: Config, *, ready: Callable[[list[str]], None] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code. `ready` gets the URLs once requests are taken.

    Raises ServeError with a remedy when it cannot start.
    """
    _fill_standard_descriptors()
    Server(config).run(None if ready is None else lambda names: ready([_url(name) for name in names]))
    return 0


class Server(House):
    """The gateway: clients speak HTTP to it."""

    def __init__(self, config: Config) -> None:
        server = config.server
        super().__init__(server.hosting, server.listen, config.log.error, server.grace_s)
        self.config = config
        self.programs = Programs(config.routes)
        self.admin = Admin(self.turn, self.error_log, next(iter(paths_of(config)), ""))
        self.reporter = Reporter()
        self.metrics: Any
        self.apps: Apps
        self.names_of_apps: list[str] = []
        self.watched = [route.number for route in config.routes if route.watched]
        """The routes whose workers are looked out for, and what the engines are told of them, in this order."""
        self.rosters = Rosters(len(self.watched))
        self.lookout: Lookout | None = None
        self.access_log: AccessLog | None = None
        """Nobody writes to it: it was opened before privileges were dropped, and each engine has a copy."""

    # ------------------------------------------------------------------ the parts of a house

    def prepare(self) -> None:
        config = self.config
        self.access_log = self._access_log()
        if self.admin.path:  # who becomes somebody else may not be able to read the library any more
            self.metrics = importlib.import_module("gateway.observe.metrics")
        self.admin.bind()
        self._drop_privileges(config.server.user, self.access_log)
        used = [(config.apps[r.app], r.interface) for r in config.routes if r.app is not None and r.interface != "cgi"]
        self.apps = Apps(self.turn, self.error_log, used)
        self.names_of_apps = list(self.apps.supervisors)
        self._look_out()
        addresses = {str(address) for route in config.routes for address in self._served_at(route).addresses}
        slots = places(self.hosting)
        self.board = Scoreboard(
            slots, sorted(addresses), self.names_of_apps, len(config.routes), counters=counters_for(config, slots)
        )
        self.reporter.begin(config, self.board)

    def begin(self, now: float) -> None:
        if self.lookout is not None:
            self._first_look(self.lookout, now)
        self.apps.start(now)
        self.driver.ticks.append(lambda now, wall: self.apps.tick(now, self.board))
        self.admin.add("GET", "/status", self._tell_status)
        self.admin.add("GET", "/metrics", self._tell_metrics)
        self.admin.open(self.driver)

    def _look_out(self) -> None:
        """Where there are names of workers, or workers that are asked for their health."""
        if self.watched:
            from gateway.lookout import Lookout  # with dnspython, which takes its time

            own = self.config.server.resolver
            self.lookout = Lookout(self.turn, self.report, self.config.routes, self._roster, own)

    def _roster(self, route: Route) -> SharedRoster | None:
        """Each pool has its own, for it remembers what it has read."""
        return self.rosters.roster(self.watched.index(route.number)) if route.number in self.watched else None

    def _first_look(self, lookout: Lookout, now: float) -> None:
        """Who the workers are is known before the first request, if somebody tells it soon."""
        if isinstance(self.driver, BlockingDriver):
            self.driver.quiet_s = SWEEP_S  # names and workers are due while nobody has a connection, too
        self.driver.ticks.append(lookout.tick)
        lookout.start(now)
        self.driver.settle()
        until = now + START_S
        self.driver.run(lambda: lookout.settled or self.driver.clock() >= until)

    def end(self, now: float, *, at_once: bool) -> bool:
        if self.lookout is not None:
            self.lookout.stop()
        self.apps.stop(now, at_once=at_once)
        return self.apps.stopped

    def forked(self) -> int:
        self.admin.forked()
        return super().forked()

    def reopen_logs(self) -> None:
        if self.access_log is not None:
            self.access_log.reopen()
        super().reopen_logs()

    def close(self) -> None:
        super().close()
        self.admin.close()
        if self.access_log is not None:
            self.access_log.close()
        if hasattr(self, "apps"):
            self.apps.close()

    def build(self, driver: Driver, reaper: Reaper, error_log: ErrorLog) -> Engine:
        server = self.config.server
        site = Site(
            driver.turn, server.limits, server.timeouts, tokeniser(server.http), Forwarding(server.trusted_proxies),
            self.access_log.copy() if self.access_log is not None else None, error_log,
        )  # fmt: skip
        site.services = [Service(route, self._interface(site, route)) for route in map(self._served_at, self.config.routes)]
        site.router = Router([service.route for service in site.services])
        engine = Engine(driver, reaper, site, Http1Front, publisher=Publisher(site))
        engine.grace_s = self.grace_s
        return engine

    # ------------------------------------------------------------------ what is told at the admin socket

    def status(self) -> Status:
        return self.reporter.status(self.apps.report(self.driver.clock()), self.names, ending=bool(self.stop_by))

    def _tell_status(self, rest: str, query: str, reply: Reply) -> None:
        reply(200, "application/json", msgspec.json.encode(self.status()))

    def _tell_metrics(self, rest: str, query: str, reply: Reply) -> None:
        reply(200, self.metrics.CONTENT_TYPE, self.metrics.metrics(self.status()))

    def _access_log(self) -> AccessLog | None:
        log = self.config.log
        try:
            return AccessLog(log.access, log.format, self.error_log.log) if log.access else None
        except OSError as error:
            raise ServeError(
                f"the log {error.filename} cannot be opened: {error.strerror}",
                "see [log] in the config, and who may write there",
            ) from None

    # ------------------------------------------------------------------ services

    def _served_at(self, route: Route) -> Route:
        """The route with the address of its application, where the gateway runs that."""
        if route.app is None or route.interface == "cgi":
            return route
        name = name_of(self.config.apps[route.app], route.interface)
        return msgspec.structs.replace(route, addresses=(self.apps.addresses[name],))

    def _interface(self, site: Site, route: Route) -> Interface:
        app = self.config.apps[route.app] if route.app is not None else None
        down = None if app is None else self._down(name_of(app, route.interface))
        match route.interface:
            case "static":
                return StaticInterface(route, self.programs)
            case "cgi":
                return CgiInterface(site, route, explain, None if app is None else _program(app))
            case "fastcgi":
                workers = 0 if app is None else app.workers if app.kind == "command" else 1
                spread = 0 if app is None else app.hosting.processes if app.kind != "command" else workers
                return FastcgiInterface(site, route, workers, down, spread, self._roster(route))
            case "scgi":
                return ScgiInterface(site, route, down, self._roster(route))
            case _:
                limit = float("inf")
                if app is not None and app.hosting.concurrency != "event":
                    limit = float(slots(app.hosting))
                return HttpInterface(site, route, down, limit, self._roster(route))

    def _down(self, name: str) -> Callable[[float], GatewayError | None] | None:
        """What tells that no worker of an app will answer; None where the gateway runs none."""
        if name not in self.names_of_apps:
            return None
        told = self.board.app(self.names_of_apps.index(name))

        def down(now: float) -> GatewayError | None:
            why = told.why(now)
            if not why:
                return None
            return GatewayError(
                503, "app-down", f"no worker of app {name!r} runs: {why}", "see what its workers told before they ended",
                retry_after_s=told.retry_after_s(now),
            )  # fmt: skip

        return down

    def _drop_privileges(self, user: str | None, access_log: AccessLog | None) -> None:
        if user is None:
            return
        entry = pwd.getpwnam(user)
        if os.geteuid() != 0:
            if entry.pw_uid != os.geteuid():
                self.error_log.log("warn", f"server.user = {user!r} is ignored: only root can become somebody else")
            return
        # what is opened again, or used by others, after the change
        for log in (access_log, self.error_log):
            if log is not None:
                log.give_to(entry.pw_uid, entry.pw_gid)
        for sock in self.sockets:
            if sock.family == socket.AF_UNIX:
                os.chown(sock.getsockname(), entry.pw_uid, entry.pw_gid)
        self.admin.give_to(entry.pw_uid, entry.pw_gid)
        os.setgroups(os.getgrouplist(user, entry.pw_gid))
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def _program(app: App) -> Launch:
    """A process for each request of a hosted application."""
    return Launch(*as_user(app, hosting_command(app, "cgi")), environment_of(app), app.directory)


def _fill_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, a socket would get its number, and with it what is meant for the terminal."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _url(name: str) -> str:
    return name if name.startswith(("unix:", "fd:")) else f"http://{name}/"
