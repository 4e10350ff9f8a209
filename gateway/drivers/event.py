"""The event driver: an event loop's callbacks in, one settled turn out.

Promise: no Task, Future or timer per request; what the rules ask for during one callback is done
at its end, and the loop joins the writes of a whole iteration.
Must never know: HTTP, routes, workers. Next: `gateway/ends.py`, the contract that it fulfils.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import errno
import functools
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from gateway.drivers.poller import READABLE, Poller
from gateway.drivers.wires import DescriptorWire, StreamWire
from gateway.ends import OPEN, Child, Close, End, Kill, Launch, Open, Order, Resume, SocketName, Spawn, Turn

LAUNCHERS: Final = 4
"""Threads that start processes, so that the loop does not wait for an exec."""
SWEEP_S: Final = 0.25
"""Deadlines are looked at this often: they are coarse on purpose, and cost nothing per request."""


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
        """Start it; called in a thread, so that the loop does not wait for an exec."""

    def finish(self, outcome: int | OSError) -> Launched:
        """What `run` returned is known to the loop. Raises it if it is an OSError."""


class StartFunction(Protocol):
    """Makes a start ready; raises OSError."""

    def __call__(self, spec: Launch, *, stdin: bool, stdout: bool, stderr: bool) -> Start: ...


class Reaper(Protocol):
    """Learns how processes end, and ends them."""

    def watch(self, pid: int, callback: Callable[[int], None]) -> None: ...
    def runs(self, pid: int) -> bool: ...
    def reap(self) -> None: ...
    def kill_group(self, pid: int, signal_number: int) -> bool: ...


class EventDriver:
    """All ends of one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        start: StartFunction,
        reaper: Reaper,
        crashed: Callable[[End | None, Exception], None],
    ) -> None:
        self.loop = loop
        self.turn = turn
        self.start = start
        self.reaper = reaper
        self.crashed = crashed
        """Told of an exception that escaped from the rules: a defect; the end is dropped."""
        self.joins = not isinstance(loop, asyncio.BaseEventLoop)
        """Whether `writelines` tells that the peer is clogged: asyncio's own does since 3.13.2 (gh-127655)."""
        self.poller = Poller(loop)
        self.wires: set[StreamWire | DescriptorWire] = set()
        self.ticks: list[Callable[[float, float], None]] = []
        """Called at every sweep with the loop's clock and the wall clock."""
        self._to_launch: queue.SimpleQueue[tuple[Spawn, Start] | None] = queue.SimpleQueue()
        self._launchers: list[threading.Thread] = []
        self.launching = 0
        """Processes that are being started: until their exec they have a duplicate of each of our descriptors."""
        self._opening: dict[End, asyncio.Task[Any]] = {}
        self._settling = False
        turn.now = loop.time()
        self._sweep_handle = loop.call_later(SWEEP_S, self._sweep)

    # ------------------------------------------------------------------ the turn

    def settle(self) -> None:
        """Do what the rules noted, until nothing is left (the contract in ends.py)."""
        if self._settling:
            return
        self._settling = True
        turn = self.turn
        try:
            while True:
                ends = turn.ends
                if ends:
                    turn.ends = []
                    for end in ends:
                        end.touched = False
                        wire = end.wire
                        if wire is not None:
                            wire.flush()
                        elif end.closing is not OPEN and end in self._opening:
                            self._opening.pop(end).cancel()
                            self.tell(end, end.lost, None, turn.now)
                elif turn.orders:
                    orders, turn.orders = turn.orders, []
                    for order in orders:
                        self._perform(order)
                else:
                    return
        finally:
            self._settling = False

    def guard(self, end: End | None, error: Exception) -> None:
        """The rules raised: a defect. It costs this end, and nobody else."""
        self.crashed(end, error)
        if end is not None:
            end.closing = Close.ABORT
            end.touch()

    def _perform(self, order: Order) -> None:
        kind = type(order)
        if kind is Resume:
            end = order.end  # type: ignore[union-attr]
            if end.wire is not None:
                try:
                    end.resume(self.turn.now)
                except Exception as error:
                    self.guard(end, error)
        elif kind is Open:
            self._open(order)  # type: ignore[arg-type]
        elif kind is Spawn:
            self._spawn(order)  # type: ignore[arg-type]
        elif kind is Kill:
            self.reaper.kill_group(order.pid, order.signal)  # type: ignore[union-attr]

    def _sweep(self) -> None:
        self._sweep_handle = self.loop.call_later(SWEEP_S, self._sweep)
        now = self.turn.now = self.loop.time()
        wall = time.time()
        self.reaper.reap()
        for tick in self.ticks:
            try:
                tick(now, wall)
            except Exception as error:
                self.guard(None, error)
        for end in [w.end for w in self.wires if w.end.deadline <= now] + [
            end for end in self._opening if end.deadline <= now
        ]:
            self.tell(end, end.expired, now)
        self.settle()

    def tell(self, end: End, method: Callable[..., None], *arguments: Any) -> None:
        """Enter an end, guarded."""
        try:
            method(*arguments)
        except Exception as error:
            self.guard(end, error)

    def close(self) -> None:
        """Stop sweeping and drop every wire; for the very end."""
        self._sweep_handle.cancel()
        for task in self._opening.values():
            task.cancel()
        for wire in list(self.wires):
            wire.abort()
        self.poller.close()
        for _ in self._launchers:
            self._to_launch.put(None)
        for thread in self._launchers:
            thread.join(1.0)

    # ------------------------------------------------------------------ streams

    def serve(self, end: End) -> StreamWire:
        """A protocol for an accepted connection: pass it to the loop's create_server."""
        return StreamWire(self, end)

    def _open(self, order: Open) -> None:
        end, address = order.end, order.address
        if end.closing is not OPEN:  # not wanted any more; whoever ordered it still counts on being told
            self.tell(end, end.lost, None, self.turn.now)
            return
        if order.brief or address.path:
            family = socket.AF_UNIX if address.path else _family(address.host)
            if family is not None:
                self._connect(order, family)
                return
        # no coroutine of our own: this file is compiled, and from Python 3.12 on a compiled one loses exceptions
        connect: Any = self.loop.create_connection
        task = self.loop.create_task(connect(lambda: StreamWire(self, end, opened=True), address.host, address.port))
        task.add_done_callback(functools.partial(self._came, order))
        self._opening[end] = task

    def _connect(self, order: Open, family: int) -> None:
        """Connect without a round through the loop where the kernel answers at once."""
        end, address = order.end, order.address
        try:
            # the class of C: the one of the standard library costs several times as much to make
            sock = _socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            self.tell(end, end.lost, error, self.turn.now)
            return
        try:
            code = sock.connect_ex(address.path or (address.host, address.port))
        except OSError as error:
            self._refuse(end, sock, error)
            return
        if code and code != errno.EINPROGRESS:  # EAGAIN: a unix socket whose backlog is full
            self._refuse(end, sock, OSError(code, os.strerror(code)))
            return
        wire = DescriptorWire(
            self, end, sock.fileno(), reads=True, sock=sock, connecting=code != 0, delays=family != socket.AF_UNIX
        )
        if not code:
            self.tell(end, end.connected, self.turn.now)
        wire.flush()  # while it connects, too: on a fast network it mostly has by now

    def _refuse(self, end: End, sock: _socket.socket, error: OSError) -> None:
        sock.close()
        self.tell(end, end.lost, error, self.turn.now)

    def _came(self, order: Open, task: asyncio.Task[Any]) -> None:
        """The loop has made a connection (then `made` was called), or has not."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._opening.pop(order.end, None) is not None:
            self.turn.now = self.loop.time()
            reason = error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))
            self.tell(order.end, order.end.lost, reason, self.turn.now)
            self.settle()

    def made(self, wire: StreamWire, remote: SocketName, local: SocketName) -> None:
        """A transport stands: one that was ordered, or a client's."""
        end = wire.end
        now = self.turn.now = self.loop.time()
        if self._opening.pop(end, None) is not None:
            self.tell(end, end.connected, now)
            end.touch()
        elif end.closing is not OPEN:  # given up, and told so, while it was being made
            end.wire = None
            wire.transport.abort()
        else:
            self.tell(end, end.accepted, remote, local, now)
        self.settle()

    # ------------------------------------------------------------------ processes

    def _spawn(self, order: Spawn) -> None:
        try:
            start = self.start(
                order.launch,
                stdin=order.stdin is not None,
                stdout=order.stdout is not None,
                stderr=order.stderr is not None,
            )
        except OSError as error:
            self._not_launched(order.child, error)
            return
        if len(self._launchers) < LAUNCHERS:
            thread = threading.Thread(target=self._launch_all, name="launch", daemon=True)
            self._launchers.append(thread)
            thread.start()
        self.launching += 1
        self._to_launch.put((order, start))

    def _launch_all(self) -> None:
        """What a launching thread does until it is told to end."""
        while True:
            told = self._to_launch.get()
            if told is None:
                return
            order, start = told
            outcome = start.run()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
                self.loop.call_soon_threadsafe(self._launched, order, start, outcome)

    def _not_launched(self, child: Child, error: OSError) -> None:
        try:
            child.failed(error, self.turn.now)
        except Exception as defect:
            self.guard(None, defect)

    def _launched(self, order: Spawn, start: Start, outcome: int | OSError) -> None:
        now = self.turn.now = self.loop.time()
        self.launching -= 1
        child: Child = order.child
        ends = (order.stdin, order.stdout, order.stderr)
        try:
            launched = start.finish(outcome)
        except OSError as error:
            self._not_launched(child, error)
            self.settle()
            return
        for end, descriptor in zip(ends, (launched.stdin_fd, launched.stdout_fd, launched.stderr_fd), strict=True):
            if end is not None and descriptor is not None:
                pid = launched.pid if end is order.stdout else 0
                DescriptorWire(self, end, descriptor, reads=end is not order.stdin, pid=pid)

        def exited(code: int) -> None:
            self.turn.now = self.loop.time()
            try:
                child.exited(code, self.turn.now)
            except Exception as defect:
                self.guard(None, defect)
            self.settle()

        try:
            child.started(launched.pid, now)
        except Exception as defect:
            self.guard(None, defect)
        if order.stdout is None:
            self._watch(launched.pid)
        self.reaper.watch(launched.pid, exited)
        for end in ends:
            if end is not None:
                end.touch()
        self.settle()

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

        def ended(_: int) -> None:
            self.poller.forget(descriptor)
            os.close(descriptor)
            self.turn.now = self.loop.time()
            self.reaper.reap()
            self.settle()

        self.poller.watch(descriptor, READABLE, ended)


@functools.lru_cache
def _family(host: str) -> int | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
            return family
        except OSError:
            continue
    return None
