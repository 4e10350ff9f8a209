"""Builds a server from its config and runs it: sockets, services, workers, signals, the end.

Promise: nothing half-starts: every mistake is found before the first request is taken; SIGTERM
finishes what is in flight.
Knows everybody; is known by the command line only. Next: `site.py`, what it builds.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pwd
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.config import App, Config, Route
from gateway.drivers.event import EventDriver
from gateway.ends import Address, End, Launch, Turn
from gateway.errors import GatewayError, ServeError
from gateway.forwarding import Forwarding
from gateway.fronts.http1 import Http1Front
from gateway.interfaces.cgi import CgiInterface
from gateway.interfaces.fastcgi import FastcgiInterface
from gateway.interfaces.http import HttpInterface
from gateway.interfaces.scgi import ScgiInterface
from gateway.interfaces.static import StaticInterface
from gateway.observe.access_log import AccessLog
from gateway.observe.error_log import ErrorLog
from gateway.observe.stderr_end import StderrEnd
from gateway.processes.explain import explain
from gateway.processes.launch import Start
from gateway.processes.listen_socket import close_listener, explain_bind, make_listener
from gateway.processes.reap import Reaper
from gateway.processes.supervise import Supervisor, Worker
from gateway.routing import Programs, Router
from gateway.site import Interface, Service, Site
from protocols.http1 import tokeniser

PATH = b"/usr/local/bin:/usr/bin:/bin"


def serve(config: Config, *, ready: Callable[[list[str]], None] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code. `ready` gets the URLs once requests are taken.

    Raises ServeError with a remedy when it cannot start.
    """
    _fill_standard_descriptors()
    try:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    except ImportError:  # no wheel for this platform: the standard loop serves, slower
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server = Server(config, loop)
    try:
        loop.run_until_complete(server.run(ready))
        return 0
    finally:
        server.close()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Server:
    """One server process."""

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.turn = Turn()
        try:
            self.error_log = ErrorLog(config.log.error)
            self.access_log = (
                AccessLog(config.log.access, config.log.format, self.error_log.log) if config.log.access else None
            )
        except OSError as error:
            raise ServeError(
                f"the log {error.filename} cannot be opened: {error.strerror}",
                "see [log] in the config, and who may write there",
            ) from None
        self.reaper = Reaper()
        self.driver = EventDriver(loop, self.turn, Start, self.reaper, self._crashed)
        self.sockets: list[tuple[socket.socket, str]] = []
        self.app_sockets: list[socket.socket] = []
        self.listeners: list[asyncio.Server] = []
        self.supervisors: dict[str, Supervisor] = {}
        self.directory = ""
        self.stopped = loop.create_future()
        self.stop_by = 0.0
        self.site = Site(
            self.turn, config.server.limits, config.server.timeouts, tokeniser(config.server.http),
            Forwarding(config.server.trusted_proxies), self.access_log, self.error_log,
        )  # fmt: skip
        self.driver.ticks.append(self._tick)

    # ------------------------------------------------------------------ start

    async def run(self, ready: Callable[[list[str]], None] | None) -> None:
        """Start everything, wait for the signal, let go of everything."""
        config, site = self.config, self.site
        try:
            for listen in config.server.listen:
                try:
                    self.sockets.append(make_listener(listen))
                except OSError as error:
                    raise ServeError(*explain_bind(error, listen)) from None
            self._drop_privileges(config.server.user)
            apps = {app.name: self._app(app) for app in self._used_apps()}
            programs = Programs(config.routes)
            site.services = [Service(route, self._interface(route, apps, programs)) for route in config.routes]
            site.router = Router([service.route for service in site.services])
            for sock, _ in self.sockets:
                create: Any = self.loop.create_unix_server if sock.family == socket.AF_UNIX else self.loop.create_server
                # a duplicate, as the loop closes what it is given, and the file of a unix socket is ours to remove
                self.listeners.append(await create(self._connection, sock=sock.dup(), backlog=2048))
            for number in (signal.SIGTERM, signal.SIGINT):
                self.loop.add_signal_handler(number, self.stop)
            for number in (signal.SIGHUP, signal.SIGUSR1):
                self.loop.add_signal_handler(number, self._reopen_logs)
            for supervisor in self.supervisors.values():
                supervisor.start(self.loop.time())
            self.driver.settle()
            # What stands now stays for ever, and a request leaves no cycles behind: look for garbage seldom.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)
            if ready is not None:
                ready([_url(name) for _, name in self.sockets])
            await self.stopped
        finally:
            self._close_listeners()

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()
        for sock, _ in self.sockets:
            close_listener(sock)
        self.listeners.clear()
        self.sockets.clear()

    def _connection(self) -> Any:
        return self.driver.serve(Http1Front(self.site))

    def _interface(self, route: Route, apps: dict[str, Address], programs: Programs) -> Interface:
        if route.app is not None and route.app in apps:
            route = msgspec.structs.replace(route, addresses=(apps[route.app],))
        match route.interface:
            case "static":
                return StaticInterface(route, programs)
            case "cgi":
                return CgiInterface(self.site, route, explain)
            case "fastcgi":
                workers = self.config.apps[route.app].workers if route.app is not None else 0
                return FastcgiInterface(self.site, route, workers, self._down(route.app))
            case "scgi":
                return ScgiInterface(self.site, route, self._down(route.app))
            case _:
                return HttpInterface(self.site, route)

    def _down(self, app: str | None) -> Callable[[float], GatewayError | None] | None:
        """What tells that no worker of an app will answer; None for workers of somebody else."""
        if app is None:
            return None
        supervisor = self.supervisors[app]

        def down(now: float) -> GatewayError | None:
            why = supervisor.down(now)
            if not why:
                return None
            return GatewayError(
                503, "app-down", f"no worker of app {app!r} runs: {why}", "see what its workers told before they ended",
                retry_after_s=supervisor.retry_after_s(now),
            )  # fmt: skip

        return down

    def _used_apps(self) -> list[App]:
        used = {route.app for route in self.config.routes}
        return [app for name, app in self.config.apps.items() if name in used]

    def _app(self, app: App) -> Address:
        """Make the listening socket of an app and a supervisor for its workers."""
        if not self.directory:
            self.directory = tempfile.mkdtemp(prefix="gateway-")
        path = os.path.join(self.directory, f"{app.name}.sock")
        try:
            sock, _ = make_listener(Address(path=path))
        except OSError as error:
            raise ServeError(*explain_bind(error, Address(path=path))) from None
        self.app_sockets.append(sock)
        program, command = app.command[0], list(app.command)
        if app.user and os.geteuid() != 0 and pwd.getpwnam(app.user).pw_uid != os.geteuid():
            raise ServeError(
                f"app {app.name!r} is to run as {app.user!r}, and the gateway may not do that: it runs "
                f"with user id {os.geteuid()}",
                "start it as root and without server.user, or remove the user of the app",
            )
        if app.user and os.geteuid() == 0:
            setpriv = shutil.which("setpriv")
            if setpriv is None:
                raise ServeError(
                    f"app {app.name!r} wants user {app.user!r}, and there is no program `setpriv`",
                    "install util-linux, or remove `user`",
                )
            user = app.user.encode()
            program = os.fsencode(setpriv)
            command = [b"setpriv", b"--reuid", user, b"--regid", user, b"--init-groups", b"--", *command]
        environment = {b"PATH": PATH, **dict(app.environment)}
        spec = Launch(program, command, environment, app.directory, stdin=sock.fileno())

        def stderr(worker: Worker) -> End:
            return StderrEnd(self.turn, self.error_log, app.name, worker)

        self.supervisors[app.name] = Supervisor(self.turn, spec, app.workers, app.name, self.error_log.log, stderr)
        return Address(path=path)

    def _drop_privileges(self, user: str | None) -> None:
        if user is None:
            return
        entry = pwd.getpwnam(user)
        if os.geteuid() != 0:
            if entry.pw_uid != os.geteuid():
                self.error_log.log("warn", f"server.user = {user!r} is ignored: only root can become somebody else")
            return
        # what is opened again, or used by others, after the change
        for log in (self.access_log, self.error_log):
            if log is not None:
                log.give_to(entry.pw_uid, entry.pw_gid)
        for sock, _ in self.sockets:
            if sock.family == socket.AF_UNIX:
                os.chown(sock.getsockname(), entry.pw_uid, entry.pw_gid)
        os.setgroups(os.getgrouplist(user, entry.pw_gid))
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)

    # ------------------------------------------------------------------ while it runs

    def _reopen_logs(self) -> None:
        self.error_log.reopen()
        if self.access_log is not None:
            self.access_log.reopen()

    def _tick(self, now: float, wall: float) -> None:
        self.site.tick(now, wall)
        for service in self.site.services:
            service.interface.tick(now)
        for supervisor in self.supervisors.values():
            if supervisor.deadline <= now:
                supervisor.expired(now)
        if self.stop_by and (now >= self.stop_by or not (self.site.exchanges or self.site.fronts or self._scripts())):
            self._finish(now)

    def _crashed(self, end: End | None, error: Exception) -> None:
        """A defect of ours: the log gets all of it, the client nothing but the end of its connection."""
        self.error_log.defect(error)

    # ------------------------------------------------------------------ the end

    def stop(self) -> None:
        """SIGTERM: take no more, finish what is in flight within `grace_s`; a second one ends it now."""
        now = self.turn.now = self.loop.time()
        if self.stop_by:
            self.stop_by = now
            for supervisor in self.supervisors.values():
                supervisor.stop(now, at_once=True)
            self.driver.settle()
            return
        self.stop_by = now + self.config.server.grace_s
        self._close_listeners()
        self.site.drain()
        self.driver.settle()
        self._tick(now, self.site.wall)

    def _scripts(self) -> int:
        """How many scripts run, whether somebody waits for their response or not."""
        return sum(interface.running for interface in self._cgi())

    def _cgi(self) -> list[CgiInterface]:
        return [s.interface for s in self.site.services if isinstance(s.interface, CgiInterface)]

    def _finish(self, now: float) -> None:
        for supervisor in self.supervisors.values():
            supervisor.stop(now)
        for interface in self._cgi():
            interface.close()
        workers_left = not all(supervisor.stopped for supervisor in self.supervisors.values())
        if not workers_left and not self._scripts() and not self.stopped.done():
            self.stopped.set_result(None)

    def close(self) -> None:
        """Let go of what is left, children included."""
        for service in self.site.services:
            service.interface.close()
        self.driver.settle()
        self.driver.close()
        self.reaper.kill_all()  # what scripts have put into the background
        for sock in self.app_sockets:
            close_listener(sock)
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        if self.access_log is not None:
            self.access_log.close()
        self.error_log.close()
        if sys.stdout is not None:
            sys.stdout.flush()


def _fill_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, a socket would get its number, and with it what is meant for the terminal."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _url(name: str) -> str:
    return name if name.startswith(("unix:", "fd:")) else f"http://{name}/"
