"""The processes of one driver: their pipes become streams, and their ends are told.

Promise: each is told of once, `started` or `failed`, and `exited` after the former; a process whose stdout has
ended mostly has ended, too, so that nothing need be watched for it.
Must never know: HTTP, how a process is started. Next: `driver.py`; `gateway/processes/` for what is behind `Start`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from gateway.drivers.poller import READABLE
from gateway.drivers.wires import DescriptorWire
from gateway.ends import Child, Launch, Spawn

if TYPE_CHECKING:
    from gateway.drivers.driver import Driver


class Launched(Protocol):
    """A running process and our ends of its pipes."""

    @property
    def pid(self) -> int: ...
    @property
    def stdin_fd(self) -> int | None: ...
    @property
    def stdout_fd(self) -> int | None: ...
    @property
    def stderr_fd(self) -> int | None: ...


class Start(Protocol):
    """A process that is about to be started."""

    def run(self) -> int | OSError:
        """Start it; may be called in any thread, so that a loop does not wait for an exec."""

    def finish(self, outcome: int | OSError) -> Launched:
        """What `run` returned is known to the driver. Raises it if it is an OSError."""


class StartFunction(Protocol):
    """Makes a start ready; raises OSError."""

    def __call__(self, spec: Launch, *, stdin: bool, stdout: bool, stderr: bool) -> Start: ...


class Reaper(Protocol):
    """Learns how processes end, and ends them."""

    def watch(self, pid: int, callback: Callable[[int], None]) -> None: ...
    def runs(self, pid: int) -> bool: ...
    def reap(self) -> None: ...
    def kill_group(self, pid: int, signal_number: int) -> bool: ...


class Children:
    """What a driver knows of processes."""

    def __init__(self, driver: Driver, start: StartFunction, reaper: Reaper) -> None:
        self.driver = driver
        self.start = start
        self.reaper = reaper
        self.running = 0
        """Processes whose end is waited for."""
        self._pidfds: set[int] = set()

    def spawn(self, order: Spawn) -> None:
        try:
            if self.driver.closed:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            start = self.start(
                order.launch,
                stdin=order.stdin is not None,
                stdout=order.stdout is not None,
                stderr=order.stderr is not None,
            )
        except OSError as error:
            self._failed(order.child, error)
            return
        self.driver.launch(order, start)

    def _failed(self, child: Child, error: OSError) -> None:
        try:
            child.failed(error, self.driver.turn.now)
        except Exception as defect:
            self.driver.guard(None, defect)

    def launched(self, order: Spawn, start: Start, outcome: int | OSError) -> None:
        """The start has run."""
        driver = self.driver
        now = driver.turn.now = monotonic()
        child: Child = order.child
        ends = (order.stdin, order.stdout, order.stderr)
        try:
            launched = start.finish(outcome)
        except OSError as error:
            self._failed(child, error)
            driver.settle()
            return
        for end, descriptor in zip(ends, (launched.stdin_fd, launched.stdout_fd, launched.stderr_fd), strict=True):
            if end is not None and descriptor is not None:
                pid = launched.pid if end is order.stdout else 0
                DescriptorWire(driver, end, descriptor, reads=end is not order.stdin, pid=pid)

        def exited(code: int) -> None:
            child.exited(code, driver.turn.now)

        try:
            child.started(launched.pid, now)
        except Exception as defect:
            driver.guard(None, defect)
        self.wait_for(launched.pid, exited, silent=order.stdout is not None)
        for end in ends:
            if end is not None:
                end.touch()
        driver.settle()

    def wait_for(self, pid: int, ended: Callable[[int], None], *, silent: bool) -> None:
        """Call `ended(code)` once; `silent`: the end of its stdout will make us look."""
        driver = self.driver

        def told(code: int) -> None:
            self.running -= 1
            driver.turn.now = monotonic()
            try:
                ended(code)
            except Exception as defect:
                driver.guard(None, defect)
            driver.settle()
            driver.ended()

        self.running += 1
        if not silent:
            self._watch(pid)
        self.reaper.watch(pid, told)

    def silent(self, pid: int) -> None:
        """The stdout of a process has ended: mostly since it has, and then nothing need be watched at all."""
        if self.reaper.runs(pid):
            self._watch(pid)

    def _watch(self, pid: int) -> None:
        """Wake up when the process ends: by its own descriptor, as signals belong to the whole program."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # out of descriptors, or an old kernel: the next sweep finds it
            return
        driver = self.driver

        def ended(_: int) -> None:
            driver.poller.forget(descriptor)
            self._pidfds.discard(descriptor)
            os.close(descriptor)
            driver.turn.now = monotonic()
            self.reaper.reap()
            driver.settle()

        self._pidfds.add(descriptor)
        driver.poller.watch(descriptor, READABLE, ended)

    def close(self) -> None:
        """Wait for nobody any more."""
        for descriptor in self._pidfds:
            self.driver.poller.forget(descriptor)
        self.abandon()

    def abandon(self) -> None:
        for descriptor in self._pidfds:
            os.close(descriptor)
        self._pidfds.clear()
