"""The applications that the server runs: a listening socket and a supervisor for each, and what the engines hear of it.

Promise: a socket is made before anything is started; what an application hosted by us is started with is one
command line that anybody could type. All calls come from the process that was started.
Must never know: HTTP, routes. Next: `processes/supervise.py`, and `worker.py` for what is hosted.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

import gateway
from gateway.config import App
from gateway.ends import Address, End, Launch, Turn
from gateway.errors import ServeError
from gateway.observe.error_log import ErrorLog
from gateway.observe.stderr_end import StderrEnd
from gateway.processes.listen_socket import close_listener, explain_bind, make_listener
from gateway.processes.memory import resident
from gateway.processes.supervise import Phase, Supervisor, Worker

REFUSED = 2
"""Exit code of `gateway worker` where the application can't be hosted."""
PATH = b"/usr/local/bin:/usr/bin:/bin"


def name_of(app: App, interface: str) -> str:
    """What the workers of an application are called in the logs; one that is hosted may have some for each interface."""
    return app.name if app.kind == "command" else f"{app.name}/{interface}"


@dataclass(eq=False)
class Running:
    """An application behind one interface."""

    app: App
    interface: str
    sock: socket.socket
    address: Address
    supervisor: Supervisor


class PlaceReport(msgspec.Struct, frozen=True):
    """What is known of one place; times on the driver's clock, 0.0 for none."""

    number: int
    pid: int
    state: str
    since: float
    requests: int
    memory: int
    outstanding: int
    busy_since: float
    address: str = ""
    """Where it alone is reached, as the logs name it."""


class AppReport(msgspec.Struct, frozen=True):
    """What is known of one application."""

    name: str
    kind: str
    interface: str
    state: str
    why: str
    restarts: int
    places: tuple[PlaceReport, ...]


class Apps:
    """All that run; `used` tells of each application over which interface it is reached."""

    def __init__(self, turn: Turn, error_log: ErrorLog, used: Collection[tuple[App, str]]) -> None:
        self.turn = turn
        self.error_log = error_log
        self.directory = ""
        self.running: dict[str, Running] = {}
        """By the name of their workers."""
        self.leaving: list[Running] = []
        """Those that an older config has; they go on until `release`."""
        self._number = 0
        for app, interface in used:
            self._add(app, interface)

    @property
    def addresses(self) -> dict[str, Address]:
        """Where each is reached, by the name of its workers."""
        return {name: one.address for name, one in self.running.items()}

    @property
    def supervisors(self) -> dict[str, Supervisor]:
        return {name: one.supervisor for name, one in self.running.items()}

    def _add(self, app: App, interface: str) -> None:
        name = name_of(app, interface)
        if name not in self.running:
            self.running[name] = self._prepared(app, interface, name)

    def _prepared(self, app: App, interface: str, name: str) -> Running:
        if not self.directory:
            self.directory = tempfile.mkdtemp(prefix="gateway-")
        self._number += 1
        file = f"{name.replace('/', '.')}.{self._number}.sock"
        address = Address(path=os.path.join(self.directory, file))
        try:
            sock, _ = make_listener(address)
        except OSError as error:
            raise ServeError(*explain_bind(error, address)) from None
        command = list(app.command) if app.kind == "command" else hosting_command(app, interface)
        launch = Launch(*as_user(app, command), environment_of(app), app.directory, stdin=sock.fileno())
        count = app.workers if app.kind == "command" else 1

        def stderr(worker: Worker) -> End:
            return StderrEnd(self.turn, self.error_log, name, worker)

        supervisor = Supervisor(
            self.turn, launch, count, name, self.error_log.log, stderr, refused=-1 if app.kind == "command" else REFUSED
        )
        return Running(app, interface, sock, address, supervisor)

    def _all(self) -> list[Running]:
        return [*self.running.values(), *self.leaving]

    # ------------------------------------------------------------------ another config

    def update(self, used: Collection[tuple[App, str]], now: float, renewed: str = "") -> None:
        """Have these run: who is not changed goes on, who is new starts; `renewed`: this one is new whatever its table
        says. All others go on, too, until `release`. Raises ServeError, and nothing has changed then."""
        known = [one for one in self._all() if not one.supervisor.stopping and one.app.name != renewed]
        running: dict[str, Running] = {}
        made: list[Running] = []
        try:
            for app, interface in used:
                name = name_of(app, interface)
                if name in running:
                    continue
                found = next((one for one in known if one.app == app and one.interface == interface), None)
                if found is None:
                    found = self._prepared(app, interface, name)
                    made.append(found)
                running[name] = found
        except ServeError:
            for one in made:
                close_listener(one.sock)
            raise
        everybody = [*self._all(), *made]
        self.running = running
        self.leaving = [one for one in everybody if one not in running.values()]
        for one in made:
            one.supervisor.start(now)

    def trial(self, now: float) -> str | None:
        """Why one that runs for this config does not serve; "" if all seem to, None while it is not known."""
        for one in self.running.values():
            why = one.supervisor.down(now)
            if why:
                return f"app {one.app.name!r}: {why}"
        steady = all(one.supervisor.steady(now) for one in self.running.values())
        return "" if steady else None

    def go_back(self, running: dict[str, Running]) -> None:
        """What was said at the last `update` is not to be: those run that did."""
        self.leaving = [one for one in self._all() if one not in running.values()]
        self.running = running

    def release(self, now: float) -> None:
        """Nobody asks for those of an older config any more."""
        for one in self.leaving:
            one.supervisor.stop(now)

    # ------------------------------------------------------------------ while they run

    def start(self, now: float) -> None:
        for one in self.running.values():
            one.supervisor.start(now)

    def tick(self, now: float) -> None:
        """Called at every sweep: do what is due."""
        for one in self._all():
            if one.supervisor.deadline <= now:
                one.supervisor.expired(now)
        for one in [one for one in self.leaving if one.supervisor.stopped]:
            self.leaving.remove(one)
            close_listener(one.sock)

    def report(self, now: float) -> list[AppReport]:
        """What is known of all."""
        return [_report(one, now) for one in self.running.values()]

    def stop(self, now: float, *, at_once: bool = False) -> None:
        for one in self._all():
            one.supervisor.stop(now, at_once=at_once)

    @property
    def stopped(self) -> bool:
        return all(one.supervisor.stopped for one in self._all())

    def close(self) -> None:
        for one in self._all():
            close_listener(one.sock)
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)


def environment_of(app: App) -> dict[bytes, bytes]:
    """The environment of its processes: made from nothing."""
    environment = {b"PATH": PATH}
    if app.kind != "command" and app.python == sys.executable:
        root = Path(gateway.__file__).resolve().parent.parent
        if root.name not in ("site-packages", "dist-packages"):  # we are not installed: a source tree, or a zip
            environment[b"PYTHONPATH"] = os.fsencode(root)
    return environment | dict(app.environment)


def hosting_command(app: App, interface: str) -> list[bytes]:
    """The command line that hosts a WSGI or ASGI application; its socket is on descriptor 0."""
    words = [app.python, "-P", "-m", "gateway", "worker", "--interface", interface, f"--{app.kind}"]
    if interface != "cgi":
        words += ["--bind", "fd:0", *app.hosting.options()]
    return [os.fsencode(word) for word in [*words, app.specifier]]


def as_user(app: App, command: list[bytes]) -> tuple[bytes, list[bytes]]:
    """The program and its arguments that run `command` as the user of the application. Raises ServeError."""
    if app.user and os.geteuid() != 0 and pwd.getpwnam(app.user).pw_uid != os.geteuid():
        raise ServeError(
            f"app {app.name!r} is to run as {app.user!r}, and the gateway may not do that: it runs "
            f"with user id {os.geteuid()}",
            "start it as root and without server.user, or remove the user of the app",
        )
    if not app.user or os.geteuid() != 0:
        return command[0], command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServeError(
            f"app {app.name!r} wants user {app.user!r}, and there is no program `setpriv`",
            "install util-linux, or remove `user`",
        )
    user = app.user.encode()
    words = [b"setpriv", b"--reuid", user, b"--regid", user, b"--init-groups", b"--", *command]
    return os.fsencode(setpriv), words


def _report(one: Running, now: float) -> AppReport:
    why = one.supervisor.down(now)
    places = tuple(_place(number, worker) for number, worker in enumerate(one.supervisor.workers))
    name = name_of(one.app, one.interface)
    state = "down" if why else "running"
    return AppReport(name, one.app.kind, one.interface, state, why, one.supervisor.restarts, places)


def _place(number: int, worker: Worker) -> PlaceReport:
    runs = worker.phase is Phase.RUNNING
    return PlaceReport(
        number, worker.pid if runs else 0, worker.phase.value, worker.since if runs else 0.0, 0,
        resident(worker.pid) if runs else 0, 0, 0.0,
    )  # fmt: skip
