"""A generation: the engines of one config, their shape, their board, their duplicates of the listening sockets.

Promise: what a shape is given stays what it was when the server has another config: an old generation finishes what it
has beside the new one, and neither touches what is the other's.
Must never know: what is served, why another one comes. Next: `house.py`, which has them; `concurrency/`, the shapes.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from gateway.concurrency import shape
from gateway.drivers.driver import Driver
from gateway.ends import Turn
from gateway.engine import Engine
from gateway.models import Hosting
from gateway.observe.error_log import ErrorLog
from gateway.processes.reap import Reaper
from gateway.processes.scoreboard import Scoreboard
from gateway.publish import Apart

if TYPE_CHECKING:
    from gateway.house import House

Build: TypeAlias = Callable[[Driver, Reaper, ErrorLog], Engine]
"""Makes an engine on a driver."""


class Generation:
    """What a shape is given (`concurrency.House`), and the shape."""

    def __init__(
        self, house: House, hosting: Hosting, grace_s: float, board: Scoreboard, build: Build,
        listeners: Sequence[socket.socket],
    ) -> None:  # fmt: skip
        self.house = house
        self.driver = house.driver
        self.hosting = hosting
        self.grace_s = grace_s
        self.board = board
        self.sockets = [sock.dup() for sock in listeners]  # one poller can't watch the same descriptor for two of us
        self._build = build
        house.ready_for(hosting)
        try:
            self.shape = shape(self)
        except BaseException:
            self.close_listeners()
            raise

    # ------------------------------------------------------------------ for the shape

    def engine(self) -> Engine:
        reaper = Reaper()
        driver = self.house.new_driver(Turn(), reaper, self.hosting, self.house.has_loop(self.hosting))
        return self._build(driver, reaper, self.house.error_log)

    def own_engine(self) -> Engine:
        engine = self._build(self.house.driver, self.house.reaper, self.house.error_log)
        engine.shares = True
        return engine

    def refuser(self) -> Engine:
        engine = self.own_engine()
        engine.turn_away()
        engine.sit(Apart(self.board.counters), math.inf)
        return engine

    def control(self) -> Driver:
        return self.house.new_driver(Turn(), Reaper(), self.hosting, loop=False)

    def forked(self) -> int:
        return self.house.forked(self)

    def leave(self, code: int) -> NoReturn:
        self.house.leave(code)

    def reopen_logs(self) -> None:
        self.house.reopen_logs()

    def report(self, level: str, text: str) -> None:
        self.house.error_log.log(level, text)

    def defect(self, error: BaseException) -> None:
        self.house.defect(error)

    # ------------------------------------------------------------------ for the house

    def retire(self, now: float, over: Collection[int]) -> None:
        """Another one serves. `over`: those of our sockets, by number, at which it does not listen."""
        self.board.end_listening(over)
        self.shape.retire(now)
        self.close_listeners()

    def stop(self, now: float) -> None:
        self.shape.stop(now)
        self.close_listeners()  # nobody looks at them any more

    def abandon(self) -> None:
        """In a child of another generation."""
        self.close_listeners()
        self.shape.abandon()

    def close_listeners(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()

    def close(self) -> None:
        """Let go of what is left."""
        self.close_listeners()
        self.shape.close()
        self.board.close()
