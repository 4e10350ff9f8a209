"""A config that is read again while the gateway serves, and the way from the old one to the new one.

Promise: one at a time; whatever goes wrong before the new engines serve, the old ones go on, and who asked is told
what to mend; the new ones, and the applications that have changed, serve before the old ones are told to go.
Must never know: how an engine is run. Next: `config_changes.py`, what is told; `house.py`, which replaces the engines.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from gateway.config import Config
from gateway.config_changes import compare
from gateway.config_errors import ConfigError
from gateway.errors import ServeError, cannot_open
from gateway.observe.error_log import ErrorLog

if TYPE_CHECKING:
    from gateway.apps import Running
    from gateway.interfaces.admin import Reply
    from gateway.served import Served
    from gateway.server import Server

_ENDS = "the gateway is about to end"
TRIAL_S = 30.0
"""So long an application that is new may take until it is known to serve; then it is believed to."""
LOOK_S = 2.0
"""Likewise the first look-ups of names of workers."""


@dataclass(frozen=True)
class Outcome:
    """What came of it, for whoever asked."""

    ok: bool
    lines: tuple[str, ...]


T = TypeVar("T")
Told: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True)
class Step:
    """A reload under way."""

    served: Served
    keys: list[str]
    lines: tuple[str, ...]
    begun: float


class Reloads:
    """Those of one server, and the restarts of its applications, which are the same way with the same config."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.asked: dict[str, list[Told]] = {}
        """Who waits for a reload (""), or a restart of an application, that has not begun: one of each at most."""
        self.telling: list[Told] = []
        """Who waits for the one under way."""
        self.under_way = False
        self.step: Step | None = None
        """While it waits for applications, or for names of workers."""
        self.made: Served | None = None
        """What the one under way has made of its config."""
        self.applications: dict[str, Running] = {}
        """Those that ran before it."""

    def ask(self, app: str, told: Told) -> None:
        """Reload, or restart an application; `told` is called once, now or later."""
        self.asked.setdefault(app, []).append(told)
        self._next()

    def tick(self, now: float) -> None:
        """Called at every sweep: go on where applications were waited for."""
        step = self.step
        if step is None:
            return
        why = self.server.apps.trial(now)
        if self.server.stop_by or self.server.leaving:
            why = _ENDS
        waits = (why is None and now < step.begun + TRIAL_S) or not (step.served.settled or now >= step.begun + LOOK_S)
        if waits and not why:
            return
        self.step = None
        if why:
            self._failed(f"the old ones go on: {why}", "see the log")
        else:
            self._guarded(self._replace, step)

    # ------------------------------------------------------------------ one after another

    def _next(self) -> None:
        while self.asked and not self.under_way:
            app = next(iter(self.asked))
            self.telling = self.asked.pop(app)
            self.under_way = True
            self.server.notify.reloading()
            self._guarded(self._begin, app)

    def _guarded(self, do: Callable[[T], None], argument: T) -> None:
        try:
            do(argument)
        except ConfigError as error:
            what, _, remedy = str(error).partition("\n  ")
            self._failed(what, remedy)
        except ServeError as error:
            self._failed(error.what, error.remedy)
        except OSError as error:
            self._failed(str(error), "see the limits of the system")
        except Exception as error:
            self.server.defect(error)
            self._failed("a defect of the gateway", "see the log")

    def _begin(self, app: str) -> None:
        server = self.server
        old = server.config
        if server.stop_by or server.leaving or server.successor is not None:
            raise ServeError(_ENDS, "")
        if app:
            self._restart(app)
            return
        if server.reread is None:
            raise ServeError("there is no config to be read again", "start it with `gateway serve CONFIG`")
        new = server.reread()
        changes = compare(old, new)
        if changes.refused:
            raise ServeError("; ".join(changes.refused), "nothing has changed")
        if not changes:
            self._done(Outcome(True, ("nothing changed",)))
            return
        now = server.driver.clock()
        access_log = server.access_log(new)
        keys = self._listen(new)
        self.applications = server.apps.running
        server.apps.update(server.used(new), now)
        self.made = server.serve(new, access_log)
        step = Step(self.made, keys, tuple(changes.told), now)
        known = all(one in self.applications.values() for one in server.apps.running.values())
        if known and step.served.settled:
            self._replace(step)
        else:
            self.step = step

    def _restart(self, app: str) -> None:
        """The engines stay; its workers are replaced one after another."""
        server = self.server

        def done(why: str) -> None:
            if why:
                what = f"app {app!r}: the old workers go on where no new one serves: {why}"
                server.error_log.log("error", f"not restarted: {what}", remedy="see the log")
                self._done(Outcome(False, (what, "see the log")), log=False)
            else:
                self._done(Outcome(True, (f"apps.{app} restarted",)))

        try:
            server.apps.restart(app, server.driver.clock(), done)
        except KeyError:
            known = sorted({one.app.name for one in server.apps.running.values()})
            problem = "has no workers that stay" if app in server.config.apps else "is not in the config"
            remedy = f"one of {', '.join(known)}" if known else "see [apps]"
            raise ServeError(f"app {app!r} {problem}", remedy) from None

    def _listen(self, config: Config) -> list[str]:
        server = self.server
        try:
            return server.listeners.add(config.server.listen)
        except ServeError as error:
            if server.config.server.user is not None and os.geteuid() != 0:
                remedy = f"the gateway runs as {server.config.server.user} by now: restart it, or {error.remedy}"
                raise ServeError(error.what, remedy) from None
            raise

    def _replace(self, step: Step) -> None:
        server = self.server
        _move(server.error_log, step.served.config)  # before anybody is forked
        generation = server.generation_of(step.served, server.listeners.sockets(step.keys))

        def came(well: bool) -> None:
            if not well:
                self._failed("the new engines do not serve, and the old ones go on", "see the log")
                return
            server.config, server.present = step.served.config, step.served
            self._done(Outcome(True, step.lines))

        server.replace(step.keys, generation, came)

    # ------------------------------------------------------------------ how it ends

    def _failed(self, what: str, remedy: str) -> None:
        """Everything is as it was."""
        server = self.server
        server.error_log.log("error", f"not reloaded: {what}", remedy=remedy)
        if self.applications:
            server.apps.have(self.applications, server.driver.clock())
        with contextlib.suppress(ServeError):
            _move(server.error_log, server.config)
        if not server.stop_by:
            server.undo(self.made)
        self._done(Outcome(False, (what, remedy) if remedy else (what,)), log=False)

    def _done(self, outcome: Outcome, *, log: bool = True) -> None:
        if log:
            for line in outcome.lines:
                self.server.error_log.log("info", f"reloaded: {line}")
        telling, self.telling = self.telling, []
        self.server.notify.tell(READY=1, STATUS=self.server.state() if outcome.ok else f"not reloaded: {outcome.lines[0]}")
        self.under_way = False
        self.made = None
        self.applications = {}
        for told in telling:
            told(outcome)
        self._next()


def told_to(reply: Reply) -> Told:
    """Answers who asked at the admin socket."""

    def told(outcome: Outcome) -> None:
        reply(200 if outcome.ok else 409, "text/plain; charset=utf-8", ("\n".join(outcome.lines) + "\n").encode())

    return told


def _move(log: ErrorLog, config: Config) -> None:
    try:
        log.move(config.log.error)
    except OSError as error:
        raise cannot_open(error) from None
