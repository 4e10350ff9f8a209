"""The applications that the server runs: a socket for each place, a supervisor for each, and what engines share with it.

Promise: sockets are made before anything is started, and held for as long as the application is there: whatever becomes
of its processes, a request is not refused. All calls come from the process that was started.
Must never know: HTTP, routes. Next: `processes/supervise.py`; `app_launch.py`, how a process is started; `worker.py` for
what is hosted.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec

from gateway.app_launch import check_cgroup, hosting_command, launch_of, put_into_cgroup
from gateway.config import App
from gateway.drivers.driver import Driver
from gateway.drivers.poller import READABLE
from gateway.ends import Address, End, Turn
from gateway.errors import ServeError
from gateway.observe.error_log import ErrorLog
from gateway.observe.stderr_end import StderrEnd
from gateway.processes.app_state import AppState
from gateway.processes.listen_socket import close_listener, explain_bind, make_listener
from gateway.processes.memory import resident
from gateway.processes.places import Places, make_bell
from gateway.processes.staff import RUNS, Worker
from gateway.processes.supervise import Supervisor

REFUSED = 2
"""Exit code of `gateway worker` where the application can't be hosted."""
USERS = 256
"""Pools of engines that may send requests to one application at the same time, at least."""
RETIRE_S = 5.0
"""So long at least an application that the config no longer names is kept for engines of the old one."""
_CREDENTIALS = struct.Struct("iII")


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


@dataclass(eq=False)
class Running:
    """One application."""

    name: str
    app: App
    interface: str
    sockets: list[socket.socket]
    addresses: tuple[Address, ...]
    places: Places
    supervisor: Supervisor
    told: AppState
    """Whether it is down, for the engines."""
    retired_at: float = 0.0

    def close(self) -> None:
        for sock in self.sockets:
            close_listener(sock)
        self.places.close()


class Apps:
    """All that run; `used` tells of each application over which interface it is reached."""

    def __init__(
        self, turn: Turn, error_log: ErrorLog, used: Collection[tuple[App, str]], users: int = USERS
    ) -> None:
        """`users`: pools of engines that there are at most, of one config."""
        self.turn = turn
        self.error_log = error_log
        self.users = max(USERS, 4 * users)
        self.directory = ""
        self.bell_name = b"\0gateway-" + os.urandom(8).hex().encode()
        self.bell: socket.socket | None = None
        self.running: dict[str, Running] = {}
        """By the name of their workers."""
        self.retired: list[Running] = []
        """Those that engines of an old config may still ask."""
        self.made = 0
        self.early: set[int] = set()
        """Processes that were ready before we knew of them."""
        try:
            self.running = self._prepare_all(used)
        except BaseException:
            self.close()
            raise

    def _prepare_all(self, used: Collection[tuple[App, str]]) -> dict[str, Running]:
        """All of these, those that are there already as they are. Raises ServeError, and then none was made."""
        wanted: dict[str, Running] = {}
        made: list[Running] = []
        try:
            for app, interface in used:
                name = name_of(app, interface)
                if name in wanted:
                    continue
                there = [one for one in self._all() if one.name == name and one.app == app]
                if there and not there[0].supervisor.stopping:
                    wanted[name] = there[0]
                else:
                    wanted[name] = self._prepare(app, interface, name)
                    made.append(wanted[name])
        except BaseException:
            for one in made:
                one.close()
            raise
        return wanted

    def _prepare(self, app: App, interface: str, name: str) -> Running:
        check_cgroup(app)
        hosted = app.kind != "command"
        command = hosting_command(app, interface) if hosted else list(app.command)
        more = {b"NOTIFY_SOCKET": b"@" + self.bell_name[1:]} if hosted else {}
        if not self.directory:
            self.directory = tempfile.mkdtemp(prefix="gateway-")
        self.made += 1
        again = f"-{self.made}" if os.path.exists(self._path(name, "", 0)) else ""
        count = app.staff.max + 1  # the successor of one that leaves has a place, too
        addresses = tuple(Address(path=self._path(name, again, number)) for number in range(count))
        sockets: list[socket.socket] = []
        try:
            for address in addresses:
                try:
                    sockets.append(make_listener(address)[0])
                except OSError as error:
                    raise ServeError(*explain_bind(error, address)) from None
            launches = [launch_of(app, command, sock.fileno(), more) for sock in sockets]
        except BaseException:
            for sock in sockets:
                close_listener(sock)
            raise
        places = Places(count, app.staff.max, self.users, self.bell_name)

        def stderr(worker: Worker) -> End:
            return StderrEnd(self.turn, self.error_log, name, worker)

        supervisor = Supervisor(
            self.turn, launches, app.staff, places, name, self.error_log.log, stderr, tells=hosted,
            refused=REFUSED if hosted else -1, resident=resident, started=functools.partial(self._started, app),
            changed=functools.partial(self._changed, places),
        )  # fmt: skip
        return Running(name, app, interface, sockets, addresses, places, supervisor, AppState())

    def _all(self) -> list[Running]:
        return [*self.running.values(), *self.retired]

    def _path(self, name: str, again: str, number: int) -> str:
        return os.path.join(self.directory, f"{name.replace('/', '.')}{again}.{number}.sock")

    # ------------------------------------------------------------------ while they run

    def start(self, driver: Driver, now: float) -> None:
        """Start what is to be there, and listen to the engines and to what is hosted."""
        bell = self.bell = make_bell(self.bell_name)
        bell.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        driver.poller.watch(bell.fileno(), READABLE, lambda events: self._rung(driver.clock()))
        for one in self.running.values():
            one.supervisor.start(now)

    def update(self, used: Collection[tuple[App, str]], now: float) -> None:
        """A new config has these: what it changes is made anew, what it leaves as it was goes on. Raises ServeError.

        Those that are not among them go when no engine has them any more."""
        wanted = self._prepare_all(used)
        fresh = [one for one in wanted.values() if one not in self._all()]
        self.have(wanted, now)
        for one in fresh:
            one.supervisor.start(now)

    def have(self, wanted: dict[str, Running], now: float) -> None:
        """These of all that were prepared are asked from now on."""
        for one in self.running.values():
            if one not in wanted.values():
                one.retired_at = now
                self.retired.append(one)
        self.retired = [one for one in self.retired if one not in wanted.values()]
        self.running = wanted

    def trial(self, now: float) -> str | None:
        """Why one that is to run does not serve; "" if all seem to, None while it is not known."""
        for one in self.running.values():
            why = one.supervisor.down(now)
            if why:
                return f"app {one.app.name!r}: {why}"
        return "" if all(one.supervisor.steady(now) for one in self.running.values()) else None

    def restart(self, name: str, now: float, done: Callable[[str], None]) -> None:
        """Let new processes take over from those of an application; `done` is told "" then, or why they could not.

        Raises KeyError for an application that does not run."""
        chosen = [one for one in self.running.values() if name in (one.app.name, one.name)]
        if not chosen:
            raise KeyError(name)
        told: list[str] = []

        def one_done(why: str) -> None:
            told.append(why)
            if len(told) == len(chosen):
                done("; ".join(filter(None, told)))

        for one in chosen:
            one.supervisor.restart(now, one_done)

    def tick(self, now: float) -> None:
        """Called at every sweep: do what is due, and tell the engines who is down."""
        for one in self._all():
            one.places.bury()
            one.supervisor.tick(now)
            why = one.supervisor.down(now)
            if why:
                one.told.down(why, one.supervisor.retry_after_s(now), now)
            else:
                one.told.up()
        for one in list(self.retired):
            if one.supervisor.stopped:
                self.retired.remove(one)
                one.close()
            elif not one.places.used and now - one.retired_at >= RETIRE_S:
                one.supervisor.stop(now)

    def stop(self, now: float, *, at_once: bool = False) -> None:
        for one in self._all():
            one.supervisor.stop(now, at_once=at_once)

    @property
    def stopped(self) -> bool:
        return all(one.supervisor.stopped for one in self._all())

    def close(self) -> None:
        for one in self._all():
            one.close()
        if self.bell is not None:
            self.bell.close()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    # ------------------------------------------------------------------ who is told what

    def _started(self, app: App, worker: Worker) -> None:
        try:
            put_into_cgroup(app, worker.pid)
        except OSError as error:
            self.error_log.log("error", f"app {app.name!r} worker {worker.pid} is not in {app.cgroup}: {error.strerror}")
        if worker.pid in self.early:
            self.early.discard(worker.pid)
            worker.ready = True

    def _changed(self, places: Places) -> None:
        """Requests that wait may find a place."""
        if self.bell is None:
            return
        for row in places.waiting():
            with contextlib.suppress(OSError):
                self.bell.sendto(b"", places.bell_of(row))

    def _rung(self, now: float) -> None:
        """Engines want somebody started or ended, or what is hosted tells that it serves (as of sd_notify(3))."""
        assert self.bell is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                octets, ancillary, _, _ = self.bell.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
                if b"READY=1" in octets.splitlines():
                    for _, _, credentials in ancillary:
                        self._ready(_CREDENTIALS.unpack(credentials)[0])
        for one in self._all():
            one.supervisor.look(now)

    def _ready(self, pid: int) -> None:
        for one in self._all():
            worker = one.supervisor.of_pid(pid)
            if worker is not None:
                one.supervisor.ready(worker)
                return
        self.early.add(pid)

    def report(self, now: float) -> list[AppReport]:
        """What is known of all."""
        return [self._report(one, now) for one in self.running.values()]

    def _report(self, one: Running, now: float) -> AppReport:
        supervisor, places = one.supervisor, one.places
        why = supervisor.down(now)
        found = []
        for worker in supervisor.workers:
            runs = worker.phase in RUNS
            found.append(
                PlaceReport(
                    worker.number, worker.pid if runs else 0, worker.phase.value, worker.since if runs else 0.0,
                    supervisor.served(worker) if runs else 0, resident(worker.pid) if runs else 0,
                    places.outstanding(worker.number), abs(places.busy_since(worker.number)),
                    str(one.addresses[worker.number]),
                )
            )  # fmt: skip
        return AppReport(
            one.name, one.app.kind, one.interface, "down" if why else "running", why, supervisor.restarts, tuple(found)
        )
