"""Builds the gateway from its config: which services, which workers, and what an engine of it consists of.

Promise: nothing half-starts: every mistake is found before the first request is taken.
Knows everybody; is known by the command line only. Next: `house.py`, how it runs; `site.py`, what it builds.
"""

from __future__ import annotations

import importlib
import os
import pwd
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.admin import Admin
from gateway.admin_client import paths_of
from gateway.apps import Apps
from gateway.concurrency import places
from gateway.config import App, Config
from gateway.drivers.blocking import BlockingDriver
from gateway.drivers.driver import SWEEP_S
from gateway.errors import cannot_open
from gateway.generation import Generation
from gateway.house import House
from gateway.interfaces.admin import Reply
from gateway.observe.access_log import AccessLog
from gateway.observe.status import Status
from gateway.reloading import Outcome, Reloads, Told, told_to
from gateway.report import Reporter
from gateway.served import Served
from gateway.upgrade import Successor

START_S: Final = 2.0
"""How long the first look-ups may take before there are requests."""
ADMIN: Final = "admin"
"""The admin socket among those that are handed over."""


def serve(
    config: Config, *, ready: Callable[[list[str]], None] | None = None, reread: Callable[[], Config] | None = None
) -> int:
    """Run until SIGTERM or SIGINT; the exit code. `ready` gets the URLs once requests are taken. `reread` reads the
    config again (ConfigError); without it, SIGHUP only opens the logs anew.

    Raises ServeError with a remedy when it cannot start.
    """
    _fill_standard_descriptors()
    server = Server(config, reread)
    server.take_over(os.environ)
    server.run(None if ready is None else lambda names: ready([_url(name) for name in names]))
    return 0


class Server(House):
    """The gateway: clients speak HTTP to it."""

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        server = config.server
        super().__init__(server.hosting, server.listen, config.log.error, server.grace_s)
        self.config = config
        self.reread = reread
        self.admin = Admin(self.turn, self.error_log, next(iter(paths_of(config)), ""))
        self.reporter = Reporter()
        self.metrics: Any
        self.apps: Apps
        self.access_logs: list[AccessLog] = []
        """Of the configs whose engines run. Nobody writes to them: the first was opened before privileges were dropped,
        and each engine has a copy."""
        self.served: list[Served] = []
        """What the engines that run were made of."""
        self.present: Served
        """Of these, what those that take new connections were made of."""
        self.reloads = Reloads(self)
        self.admin.add("GET", "/status", self._tell_status)
        self.admin.add("GET", "/metrics", self._tell_metrics)
        self.admin.add("POST", "/reload", lambda rest, query, reply: self.reloads.ask("", told_to(reply)))
        self.admin.add("POST", "/restart/", lambda rest, query, reply: self.reloads.ask(rest, told_to(reply)))
        self.admin.add("POST", "/upgrade", lambda rest, query, reply: self.upgrade(told_to(reply)))
        self.successor: Successor | None = None
        """Another gateway that is to take our place, until it does."""

    # ------------------------------------------------------------------ the parts of a house

    def prepare(self) -> None:
        config = self.config
        access_log = self.access_log(config)
        if self.admin.path:  # who becomes somebody else may not be able to read the library any more
            self.metrics = importlib.import_module("gateway.observe.metrics")
        self.admin.bind(self.listeners.inherited.pop(ADMIN, -1))
        self._drop_privileges(config.server.user, access_log)
        used = self.used(config)
        self.apps = Apps(self.turn, self.error_log, used, places(self.hosting) * len(used))

    def first(self, sockets: Sequence[socket.socket]) -> Generation:
        self.present = self.serve(self.config, self.access_log(self.config))
        return self.generation_of(self.present, sockets)

    def serve(self, config: Config, access_log: AccessLog | None) -> Served:
        """What a config comes to whose applications the gateway runs by now."""
        served = Served(config, self.apps, access_log)
        self.served.append(served)
        served.look_out(self.turn, self.error_log.log, self.driver.clock())
        if served.lookout is not None and isinstance(self.driver, BlockingDriver):
            self.driver.quiet_s = SWEEP_S  # names and workers are due while nobody has a connection, too
        return served

    def generation_of(self, served: Served, sockets: Sequence[socket.socket]) -> Generation:
        """Engines of it."""
        server = served.config.server
        generation = Generation(self, server.hosting, server.grace_s, served.board, served.build, sockets)
        self.reporter.begin(served.config, served.board)
        return generation

    def used(self, config: Config) -> list[tuple[App, str]]:
        """The applications that the gateway has to run, and behind which interface."""
        routes = [route for route in config.routes if route.app is not None and route.interface != "cgi"]
        return [(config.apps[route.app], route.interface) for route in routes if route.app is not None]

    def begin(self, now: float) -> None:
        self._first_look(now)
        self.apps.start(self.driver, now)
        self.driver.ticks.append(self._tick_beside)
        self.admin.open(self.driver)

    def _first_look(self, now: float) -> None:
        """Who the workers are is known before the first request, if somebody tells it soon."""
        self.driver.settle()
        until = now + START_S
        self.driver.ticks.append(self.present.tick)
        self.driver.run(lambda: self.present.settled or self.driver.clock() >= until)
        self.driver.ticks.remove(self.present.tick)

    def _tick_beside(self, now: float, wall: float) -> None:
        self.apps.tick(now)
        for served in self.served:
            served.tick(now, wall)
        self.reloads.tick(now)
        if self.successor is not None:
            self.successor.tick(now)

    def gone(self) -> None:
        """Only the present config's engines are left, and those that come, if any do."""
        staying = [served for served in self.served if served is self.present or served is self.reloads.made]
        for served in self.served:
            if served not in staying:
                served.stop()
        self.served = staying
        self.reporter.keep([served.board for served in staying])
        logs = [served.access_log for served in staying]
        for log in [log for log in self.access_logs if log not in logs]:
            self.access_logs.remove(log)
            log.close()

    def undo(self, made: Served | None) -> None:
        """A reload has failed: what was made for it is let go of."""
        self.listeners.keep(self.keys)
        if made is not None:
            made.stop()
            self.served.remove(made)
            self.reporter.keep([served.board for served in self.served])
        if not self.old:
            self.gone()

    def hung_up(self) -> None:
        super().hung_up()
        if self.reread is not None:
            self.reloads.ask("", lambda outcome: None)

    def obey_signals(self) -> None:
        super().obey_signals()
        self.driver.call_signals({signal.SIGUSR2: lambda: self.upgrade(lambda outcome: None)})

    def upgrade(self, told: Told) -> None:
        """Have another gateway take our place; `told` is called once, now or later."""

        def serves(pid: int, keys: list[str]) -> None:
            self.successor = None
            self.error_log.log("info", f"process {pid} has taken our place; what is in flight is finished here")
            self.make_way(pid, keys)
            told(Outcome(True, (f"process {pid} has taken the place of process {os.getpid()}",)))
            self.admin.forget()

        def failed(what: str, remedy: str) -> None:
            self.successor = None
            self.error_log.log("error", f"no other gateway takes our place: {what}", remedy=remedy)
            told(Outcome(False, (f"process {os.getpid()} goes on: of the other one, {what}", remedy)))

        if self.stop_by or self.leaving or self.successor is not None or self.reloads.under_way:
            told(Outcome(False, ("the gateway is about to end, or to be reloaded", "ask again")))
            return
        sockets = self.listeners.handed_over()
        if self.admin.sock is not None:
            sockets[ADMIN] = self.admin.sock.fileno()
        try:
            self.successor = Successor(self.driver, sockets, self.notify.environment(), serves, failed)
        except OSError as error:
            failed(f"it cannot be started: {error}", "see the limits of the system")

    def end(self, now: float, *, at_once: bool) -> bool:
        for served in self.served:
            served.stop()
        self.apps.stop(now, at_once=at_once)
        return self.apps.stopped

    def forked(self, mine: Generation) -> int:
        self.admin.forked()
        return super().forked(mine)

    def reopen_logs(self) -> None:
        for log in self.access_logs:
            log.reopen()
        super().reopen_logs()

    def close(self) -> None:
        super().close()
        self.admin.close()
        for log in self.access_logs:
            log.close()
        if hasattr(self, "apps"):
            self.apps.close()

    # ------------------------------------------------------------------ what is told at the admin socket

    def status(self) -> Status:
        listen = self.listeners.names(self.keys)
        return self.reporter.status(self.apps.report(self.driver.clock()), listen, ending=bool(self.stop_by))

    def _tell_status(self, rest: str, query: str, reply: Reply) -> None:
        reply(200, "application/json", msgspec.json.encode(self.status()))

    def _tell_metrics(self, rest: str, query: str, reply: Reply) -> None:
        reply(200, self.metrics.CONTENT_TYPE, self.metrics.metrics(self.status()))

    # ------------------------------------------------------------------ logs, and who writes them

    def access_log(self, config: Config) -> AccessLog | None:
        """The one that a config asks for; where another config has it already, the same. Raises ServeError."""
        wanted = config.log
        if not wanted.access:
            return None
        for log in self.access_logs:
            if log.is_like(wanted.access, wanted.format):
                return log
        try:
            log = AccessLog(wanted.access, wanted.format, self.error_log.log)
        except OSError as error:
            raise cannot_open(error) from None
        self.access_logs.append(log)
        return log

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
        for sock in self.listeners.sockets(self.keys):
            if sock.family == socket.AF_UNIX:
                os.chown(sock.getsockname(), entry.pw_uid, entry.pw_gid)
        self.admin.give_to(entry.pw_uid, entry.pw_gid)
        os.setgroups(os.getgrouplist(user, entry.pw_gid))
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def _fill_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, a socket would get its number, and with it what is meant for the terminal."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _url(name: str) -> str:
    return name if name.startswith(("unix:", "fd:")) else f"http://{name}/"
