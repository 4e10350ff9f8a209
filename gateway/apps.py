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
from gateway.processes.scoreboard import Scoreboard
from gateway.processes.supervise import Phase, Supervisor, Worker

REFUSED = 2
"""Exit code of `gateway worker` where the application can't be hosted."""
PATH = b"/usr/local/bin:/usr/bin:/bin"


def name_of(app: App, interface: str) -> str:
    """What the workers of an application are called in the logs; one that is hosted may have some for each interface."""
    return app.name if app.kind == "command" else f"{app.name}/{interface}"


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
        self.sockets: list[socket.socket] = []
        self.addresses: dict[str, Address] = {}
        """Where each is reached, by the name of its workers."""
        self.supervisors: dict[str, Supervisor] = {}
        self.used = {name_of(app, interface): (app, interface) for app, interface in used}
        for app, interface in used:
            self._prepare(app, interface)

    def _prepare(self, app: App, interface: str) -> None:
        name = name_of(app, interface)
        if name in self.addresses:
            return
        if not self.directory:
            self.directory = tempfile.mkdtemp(prefix="gateway-")
        address = Address(path=os.path.join(self.directory, name.replace("/", ".") + ".sock"))
        try:
            sock, _ = make_listener(address)
        except OSError as error:
            raise ServeError(*explain_bind(error, address)) from None
        self.sockets.append(sock)
        self.addresses[name] = address
        command = list(app.command) if app.kind == "command" else hosting_command(app, interface)
        launch = Launch(*as_user(app, command), environment_of(app), app.directory, stdin=sock.fileno())
        count = app.workers if app.kind == "command" else 1

        def stderr(worker: Worker) -> End:
            return StderrEnd(self.turn, self.error_log, name, worker)

        self.supervisors[name] = Supervisor(
            self.turn, launch, count, name, self.error_log.log, stderr, refused=-1 if app.kind == "command" else REFUSED
        )

    # ------------------------------------------------------------------ while they run

    def start(self, now: float) -> None:
        for supervisor in self.supervisors.values():
            supervisor.start(now)

    def tick(self, now: float, board: Scoreboard) -> None:
        """Called at every sweep: do what is due, and tell the engines who is down."""
        for number, supervisor in enumerate(self.supervisors.values()):
            if supervisor.deadline <= now:
                supervisor.expired(now)
            why = supervisor.down(now)
            if why:
                board.app(number).down(why, supervisor.retry_after_s(now), now)
            else:
                board.app(number).up()

    def report(self, now: float) -> list[AppReport]:
        """What is known of all."""
        return [
            AppReport(
                name_of(app, interface), app.kind, interface, "down" if one.down(now) else "running", one.down(now),
                one.restarts, tuple(_place(number, worker) for number, worker in enumerate(one.workers)),
            )
            for one, (app, interface) in zip(self.supervisors.values(), self.used.values(), strict=True)
        ]  # fmt: skip

    def stop(self, now: float, *, at_once: bool = False) -> None:
        for supervisor in self.supervisors.values():
            supervisor.stop(now, at_once=at_once)

    @property
    def stopped(self) -> bool:
        return all(supervisor.stopped for supervisor in self.supervisors.values())

    def close(self) -> None:
        for sock in self.sockets:
            close_listener(sock)
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)


def _place(number: int, worker: Worker) -> PlaceReport:
    runs = worker.phase is Phase.RUNNING
    return PlaceReport(
        number, worker.pid if runs else 0, worker.phase.value, worker.since if runs else 0.0, 0,
        resident(worker.pid) if runs else 0, 0, 0.0,
    )  # fmt: skip


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
