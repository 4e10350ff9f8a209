"""Signals as input of a driver: each is dealt with in a turn, like what comes over a stream.

Promise: none is lost between two waits of the driver, and one that comes to a child just forked is not taken for
ours; what was there before is restored.
Must never know: what a signal means. Next: `driver.py`.
"""

from __future__ import annotations

import collections
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.drivers.poller import READABLE

if TYPE_CHECKING:
    from gateway.drivers.driver import Driver


class Signals:
    """Those that one driver deals with; for the main thread."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._came: collections.deque[int] = collections.deque()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._before: dict[int, Any] = {}
        self._pipe = (-1, -1)
        """The interpreter writes to it when a signal comes: it may come just before we begin to wait."""
        self._pipe_before = -1

    def call(self, handlers: dict[int, Callable[[], None]]) -> None:
        """Have each called in a turn of the driver."""
        if self._pipe[0] < 0:
            reader, writer = self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._pipe_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            self.driver.poller.watch(reader, READABLE, self._written)
        for number, handler in handlers.items():
            self._handlers[number] = handler
            before = signal.signal(number, self._note)
            self._before.setdefault(number, before)

    def _note(self, number: int, frame: Any) -> None:
        """What the interpreter calls, at any point. (What comes through the pipe is no proof of a signal: a child that
        was just forked may have got one, and has the same pipe.)"""
        self._came.append(number)
        self.driver.wake()

    def _written(self, events: int) -> None:
        os.read(self._pipe[0], 4096)
        signal.pthread_sigmask(signal.SIG_BLOCK, ())  # compiled code never looks for signals by itself: this does

    def deal(self) -> None:
        """Call the handlers of what has come."""
        while self._came:
            handler = self._handlers.get(self._came.popleft())
            if handler is not None:
                self.driver.enter(handler)

    def close(self) -> None:
        if self._pipe[0] >= 0:
            self.driver.poller.forget(self._pipe[0])
            self._restore(self._pipe_before)

    def abandon(self) -> None:
        """In a child that was forked: what has come to it since, it gets again, without our handlers."""
        if self._pipe[0] >= 0:
            self._restore(-1)
        for number in self._came:
            os.kill(os.getpid(), number)
        self._came.clear()

    def _restore(self, pipe: int) -> None:
        signal.set_wakeup_fd(pipe)
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()
        self._handlers.clear()
        for descriptor in self._pipe:
            os.close(descriptor)
        self._pipe = (-1, -1)
