"""A server as a whole: its listening sockets, its generations of engines, its signals, its end. The gateway is one, a
worker is one.

Promise: nothing half-starts; SIGTERM finishes what is in flight within the grace, a second one ends it now; SIGUSR1
opens the logs anew. A generation that takes the place of another one serves before that is told to go.
Must never know: what is served. Next: `generation.py`; `server.py` and `worker.py`, the two houses.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, MutableMapping, Sequence
from typing import Final, NoReturn

from gateway import upgrade
from gateway.concurrency import places, stays
from gateway.drivers.blocking import BlockingDriver
from gateway.drivers.driver import Driver
from gateway.ends import End, Turn
from gateway.engine import Engine
from gateway.errors import ServeError, cannot_open
from gateway.generation import Generation
from gateway.models import Hosting
from gateway.observe.error_log import ErrorLog
from gateway.processes.launch import Start
from gateway.processes.listen_socket import Place
from gateway.processes.listeners import Listeners
from gateway.processes.memory import keep_heap
from gateway.processes.notify import Notify, handed_over
from gateway.processes.reap import Reaper
from gateway.processes.scoreboard import Scoreboard

ARRIVES_S: Final = 10.0
"""A generation that does not serve after so long is given up."""


class House:
    """What every server has; a subclass knows what is served."""

    loops = False
    """Whether engines need an event loop, whatever the shape: for ASGI."""

    def __init__(self, hosting: Hosting, listen: Sequence[Place], error: str, grace_s: float) -> None:
        self.hosting = hosting
        self.grace_s = grace_s
        self.listen = listen
        try:
            self.error_log = ErrorLog(error)
        except OSError as problem:
            raise cannot_open(problem) from None
        self.ready_for(hosting)
        self.turn = Turn()
        self.reaper = Reaper()
        self.driver = self.new_driver(self.turn, self.reaper, hosting, self.has_loop(hosting) and stays(hosting))
        self.listeners = Listeners()
        self.notify = Notify()
        self.keys: list[str] = []
        """Of the listeners that are in use."""
        self.generation: Generation
        """The one that takes new connections."""
        self.old: list[Generation] = []
        """Those that finish what they have."""
        self.coming: Generation | None = None
        """The one that is to take its place, until it serves."""
        self._parting: Generation | None = None
        """The one that gave way to it, until it takes no new connection."""
        self._patient_until = 0.0
        self._came: Callable[[bool], None]
        self.stop_by = 0.0
        self.leaving = False
        """Another server has taken our place: we end when all is finished."""
        self._lifeline = os.pipe()

    def has_loop(self, hosting: Hosting) -> bool:
        """Whether its engines have an event loop."""
        return self.loops or hosting.concurrency == "event"

    def take_over(self, environment: MutableMapping[str, str]) -> None:
        """What systemd, or a gateway whose place we take, has left for us in the environment is ours, nobody else's."""
        self.notify = Notify.of(environment)
        self.listeners = Listeners(upgrade.handed_over(environment), handed_over(environment))
        if self.notify.watchdog_s and isinstance(self.driver, BlockingDriver):
            self.driver.quiet_s = min(self.driver.quiet_s, self.notify.watchdog_s / 4)

    def ready_for(self, hosting: Hosting) -> None:
        """Import what its engines need: once, before anybody forks or becomes another user."""
        if self.has_loop(hosting):
            importlib.import_module("gateway.drivers.event")

    def new_driver(self, turn: Turn, reaper: Reaper, hosting: Hosting, loop: bool) -> Driver:
        if loop:
            from gateway.drivers.event import EventDriver  # with asyncio, for which a CGI program has no time

            return EventDriver(None, turn, Start, reaper, self._crashed, threads=hosting.threads)
        return BlockingDriver(turn, Start, reaper, self._crashed)

    # ------------------------------------------------------------------ for the generations

    def forked(self, mine: Generation) -> int:
        """We are a child now: let go of what is the parent's. A descriptor that is readable once the parent is gone."""
        self.driver.abandon()
        self.listeners.close_sockets()
        for generation in self.generations():
            if generation is not mine:
                generation.abandon()
        self.error_log.forked()
        reader, writer = self._lifeline
        os.close(writer)
        gc.enable()
        return reader

    def leave(self, code: int) -> NoReturn:
        """End a child: what was noted is written, and nothing of the parent's is run."""
        try:
            self.error_log.close()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
                    stream.flush()
        finally:
            os._exit(code)

    def defect(self, error: BaseException) -> None:
        if isinstance(error, ServeError):
            self.error_log.log("error", error.what, remedy=error.remedy)
        else:
            self.error_log.defect(error)

    def _crashed(self, end: End | None, error: Exception) -> None:
        """A defect of ours: the log gets all of it, the client nothing but the end of its connection."""
        self.error_log.defect(error)

    # ------------------------------------------------------------------ what a subclass says

    def build(self, driver: Driver, reaper: Reaper, error_log: ErrorLog) -> Engine:
        """An engine on a driver."""
        raise NotImplementedError

    def prepare(self) -> None:
        """The sockets stand: drop privileges, make whatever children shall share."""

    def first(self, sockets: Sequence[socket.socket]) -> Generation:
        """The generation that begins."""
        board = Scoreboard(places(self.hosting), (), 0)
        return Generation(self, self.hosting, self.grace_s, board, self.build, sockets)

    def begin(self, now: float) -> None:
        """The driver stands: start what runs beside the engines."""

    def state(self) -> str:
        """In a few words, for a service manager."""
        return "serving " + ", ".join(self.listeners.names(self.keys))

    def gone(self) -> None:
        """The last of the old generations has ended."""

    def hung_up(self) -> None:
        """SIGHUP."""
        self.logs_renamed()

    def end(self, now: float, *, at_once: bool) -> bool:
        """Nobody is served any more: end what runs beside; whether it has."""
        return True

    def reopen_logs(self) -> None:
        """Those of this process."""
        self.error_log.reopen()

    # ------------------------------------------------------------------ from start to end

    def run(self, ready: Callable[[list[str]], None] | None) -> None:
        """Serve until told to end. Raises ServeError with a remedy when it cannot start."""
        keep_heap()
        try:
            self.keys = self.listeners.add(self.listen)
            self.prepare()
            self.driver.open()
            self.driver.ticks.append(self._tick)
            self.generation = self.first(self.listeners.sockets(self.keys))
            gc.collect()
            gc.freeze()  # what stands now stays for ever, and children share it
            gc.set_threshold(50_000, 20, 20)
            now = self.driver.turn.now = self.driver.clock()
            self.begin(now)
            self.obey_signals()
            self.generation.shape.start(now)
            self.driver.settle()
            if ready is not None:
                ready(self.listeners.names(self.keys))
            self.listeners.drop_inherited()
            if not upgrade.tell_ready(os.environ, self.keys):  # else it is told that we are the main process now
                self.notify.tell(READY=1, STATUS=self.state())
            self.driver.run(self._over)
        finally:
            self.close()

    def obey_signals(self) -> None:
        self.driver.call_signals(
            {
                signal.SIGTERM: self.stop,
                signal.SIGINT: self.stop,
                signal.SIGHUP: self.hung_up,
                signal.SIGUSR1: self.logs_renamed,
            }
        )

    def generations(self) -> list[Generation]:
        """All there are, the one that takes new connections first."""
        found = [self.generation, *self.old] if hasattr(self, "generation") else []
        return [*found, self.coming] if self.coming is not None else found

    def replace(self, keys: list[str], generation: Generation, came: Callable[[bool], None]) -> None:
        """Start another generation at these listeners; `came` is told whether it serves now, and nobody else, or was
        given up."""
        now = self.driver.clock()
        self.coming, self._came = generation, came
        self._patient_until = now + ARRIVES_S
        try:
            generation.shape.start(now)
        except BaseException:
            self._give_up(now)
            raise

        def tick(now: float, wall: float) -> None:
            if not self._take_turns(keys, now):
                self.driver.ticks.remove(tick)

        if self._take_turns(keys, now):
            self.driver.ticks.append(tick)

    def _take_turns(self, keys: list[str], now: float) -> bool:
        """Go on with the change from one generation to another; whether it is still under way."""
        coming = self.coming
        if coming is not None and coming.shape.ready:
            self.coming = None
            over = [number for number, key in enumerate(self.keys) if key not in keys]
            before, self.generation = self.generation, coming
            self.hosting, self.grace_s = coming.hosting, coming.grace_s
            self.keys = keys
            self.old.append(before)
            before.retire(now, over)
            self.listeners.keep(keys)
            self._parting = before
            self._patient_until = now + ARRIVES_S
        elif coming is not None and now >= self._patient_until:
            self._give_up(now)
            self._came(False)
        parting = self._parting
        if parting is not None and (parting.shape.parted or now >= self._patient_until):
            self._parting = None
            self._came(True)
        return self.coming is not None or self._parting is not None

    def _give_up(self, now: float) -> None:
        coming, self.coming = self.coming, None
        if coming is not None:
            self.old.append(coming)
            coming.stop(now)
            coming.shape.hurry(now)
            self.listeners.keep(self.keys)

    def _over(self) -> bool:
        now = self.driver.clock()
        for generation in self.generations():
            generation.shape.look()
        self._part(now)
        if not (self.stop_by or self.leaving) or self.old or self.coming or not self.generation.shape.stopped:
            return False
        over = self.end(now, at_once=bool(self.stop_by) and now >= self.stop_by)
        self.driver.settle()
        return over

    def _part(self, now: float) -> None:
        """Let go of the generations that have finished."""
        finished = [generation for generation in self.old if generation.shape.stopped]
        if finished:
            self.old = [generation for generation in self.old if generation not in finished]
            for generation in finished:
                generation.close()
            if not self.old:
                self.gone()
            self.driver.settle()

    def _tick(self, now: float, wall: float) -> None:
        self.error_log.flush()
        self.notify.beat(now)
        for generation in self.generations():
            generation.shape.tick(now)
        if self.stop_by and now >= self.stop_by:
            self._hurry(now)

    def _hurry(self, now: float) -> None:
        for generation in self.generations():
            generation.shape.hurry(now)

    def stop(self) -> None:
        now = self.driver.turn.now = self.driver.clock()
        if self.stop_by:
            self.stop_by = now
            self._hurry(now)
            return
        self.stop_by = now + self.grace_s
        if not self.leaving:
            self.notify.tell(STOPPING=1, STATUS="finishing what is in flight")
        for generation in self.generations():
            generation.stop(now)
        if self.coming is not None:  # it may serve already
            self.old.append(self.coming)
            self.coming = None
            self._came(False)
        elif self._parting is not None:
            self._parting = None
            self._came(True)
        self.listeners.close_sockets()

    def make_way(self, pid: int, keys: Collection[str]) -> None:
        """Another server listens at these sockets of ours, and serves: end when all that is here is finished."""
        now = self.driver.turn.now = self.driver.clock()
        self.notify.tell(MAINPID=pid, STATUS=self.state())
        self.notify = Notify()
        self.leaving = True
        self.listeners.forget_files(keys)
        self.generation.retire(now, [number for number, key in enumerate(self.keys) if key not in keys])
        self.listeners.close_sockets()

    def logs_renamed(self) -> None:
        self.reopen_logs()
        for generation in self.generations():
            generation.shape.reopen_logs()

    def close(self) -> None:
        """Let go of what is left."""
        self.listeners.close_sockets()
        for generation in self.generations():
            generation.close()
        self.driver.settle()
        self.driver.close()
        self.reaper.kill_all()
        self.listeners.close()  # only now no child of ours listens there
        self.error_log.close()
        for descriptor in self._lifeline:
            os.close(descriptor)
        if sys.stdout is not None:
            sys.stdout.flush()
