"""A server as a whole: its listening sockets, its shape, its signals, its end. The gateway is one, a worker is one.

Promise: nothing half-starts; SIGTERM finishes what is in flight within the grace, a second one ends it now;
SIGHUP and SIGUSR1 open the logs anew.
Must never know: what is served. Next: `concurrency/`, the shapes; `server.py` and `worker.py`, the two houses.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from gateway.concurrency import Shape, places, shape, stays
from gateway.drivers.blocking import BlockingDriver
from gateway.drivers.driver import Driver
from gateway.ends import End, Turn
from gateway.engine import Engine
from gateway.errors import ServeError
from gateway.models import Hosting
from gateway.observe.error_log import ErrorLog
from gateway.processes.launch import Start
from gateway.processes.listen_socket import Place, explain_bind, make_listener, remove_stale
from gateway.processes.memory import keep_heap
from gateway.processes.reap import Reaper
from gateway.processes.scoreboard import Scoreboard
from gateway.publish import Apart


class House:
    """What every server has; a subclass knows what is served."""

    loops = False
    """Whether engines need an event loop, whatever the shape: for ASGI."""

    def __init__(self, hosting: Hosting, listen: Sequence[Place], error: str, grace_s: float) -> None:
        self.hosting = hosting
        self.grace_s = grace_s
        try:
            self.error_log = ErrorLog(error)
        except OSError as problem:
            raise ServeError(
                f"the log {problem.filename} cannot be opened: {problem.strerror}",
                "see [log] in the config, and who may write there",
            ) from None
        self.turn = Turn()
        self.reaper = Reaper()
        if self.has_loop:
            importlib.import_module("gateway.drivers.event")  # once, before anybody forks
        self.driver = self._driver(self.turn, self.reaper, self.has_loop and stays(hosting))
        self.sockets: list[socket.socket] = []
        self.names: list[str] = []
        self._paths: list[str] = []
        """Of the unix sockets that we have made."""
        self.listen = listen
        self.board: Scoreboard
        self.shape: Shape
        self.stop_by = 0.0
        self._lifeline = os.pipe()

    @property
    def has_loop(self) -> bool:
        """Whether its engines have an event loop."""
        return self.loops or self.hosting.concurrency == "event"

    def _driver(self, turn: Turn, reaper: Reaper, loop: bool) -> Driver:
        if loop:
            from gateway.drivers.event import EventDriver  # with asyncio, for which a CGI program has no time

            return EventDriver(None, turn, Start, reaper, self._crashed, threads=self.hosting.threads)
        return BlockingDriver(turn, Start, reaper, self._crashed)

    # ------------------------------------------------------------------ for the shapes

    def build(self, driver: Driver, reaper: Reaper, error_log: ErrorLog) -> Engine:
        """An engine on a driver."""
        raise NotImplementedError

    def engine(self) -> Engine:
        reaper = Reaper()
        driver = self._driver(Turn(), reaper, self.has_loop)
        return self.build(driver, reaper, self.error_log)

    def own_engine(self) -> Engine:
        return self.build(self.driver, self.reaper, self.error_log)

    def refuser(self) -> Engine:
        engine = self.own_engine()
        engine.turn_away()
        engine.sit(Apart(self.board.counters), math.inf)
        return engine

    def control(self) -> Driver:
        """A driver for a thread that serves nobody."""
        return self._driver(Turn(), Reaper(), loop=False)

    def forked(self) -> int:
        """Let go of what is the parent's."""
        self.driver.abandon()
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

    def report(self, level: str, text: str) -> None:
        self.error_log.log(level, text)

    def defect(self, error: BaseException) -> None:
        if isinstance(error, ServeError):
            self.error_log.log("error", error.what, remedy=error.remedy)
        else:
            self.error_log.defect(error)

    def _crashed(self, end: End | None, error: Exception) -> None:
        """A defect of ours: the log gets all of it, the client nothing but the end of its connection."""
        self.error_log.defect(error)

    # ------------------------------------------------------------------ from start to end

    def run(self, ready: Callable[[list[str]], None] | None) -> None:
        """Serve until told to end. Raises ServeError with a remedy when it cannot start."""
        keep_heap()
        try:
            for place in self.listen:
                try:
                    sock, name = make_listener(place)
                except OSError as error:
                    raise ServeError(*explain_bind(error, place)) from None
                self.sockets.append(sock)
                if not isinstance(place, int) and place.path:
                    self._paths.append(place.path)
                self.names.append(name)
            self.prepare()
            self.driver.open()
            self.driver.ticks.append(self._tick)
            self.shape = shape(self)
            gc.collect()
            gc.freeze()  # what stands now stays for ever, and children share it
            gc.set_threshold(50_000, 20, 20)
            now = self.driver.turn.now = self.driver.clock()
            self.begin(now)
            self.obey_signals()
            self.shape.start(now)
            self.driver.settle()
            if ready is not None:
                ready(self.names)
            self.driver.run(self._over)
        finally:
            self.close()

    def prepare(self) -> None:
        """The sockets stand: drop privileges, make the scoreboard and whatever else children shall share."""
        self.board = Scoreboard(places(self.hosting), (), (), 0)

    def begin(self, now: float) -> None:
        """The driver stands: start what runs beside the engines."""

    def obey_signals(self) -> None:
        self.driver.call_signals(
            {
                signal.SIGTERM: self.stop,
                signal.SIGINT: self.stop,
                signal.SIGHUP: self._logs_renamed,
                signal.SIGUSR1: self._logs_renamed,
            }
        )

    def end(self, now: float, *, at_once: bool) -> bool:
        """Nobody is served any more: end what runs beside; whether it has."""
        return True

    def _over(self) -> bool:
        self.shape.look()
        if not self.stop_by or not self.shape.stopped:
            return False
        now = self.driver.clock()
        over = self.end(now, at_once=now >= self.stop_by)
        self.driver.settle()
        return over

    def _tick(self, now: float, wall: float) -> None:
        self.error_log.flush()
        self.shape.tick(now)
        if self.stop_by and now >= self.stop_by:
            self.shape.hurry(now)

    def stop(self) -> None:
        now = self.driver.turn.now = self.driver.clock()
        if self.stop_by:
            self.stop_by = now
            self.shape.hurry(now)
            return
        self.stop_by = now + self.grace_s
        self.shape.stop(now)
        self._close_listeners()  # nobody looks at them any more

    def reopen_logs(self) -> None:
        self.error_log.reopen()

    def _logs_renamed(self) -> None:
        self.reopen_logs()
        self.shape.reopen_logs()

    def _close_listeners(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()

    def close(self) -> None:
        """Let go of what is left."""
        self._close_listeners()
        if hasattr(self, "shape"):
            self.shape.close()
        self.driver.settle()
        self.driver.close()
        self.reaper.kill_all()
        for path in self._paths:  # only now no child of ours listens there
            remove_stale(path)
        self.error_log.close()
        for descriptor in self._lifeline:
            os.close(descriptor)
        if sys.stdout is not None:
            sys.stdout.flush()
