"""What every driver does: it settles the turn, performs orders, watches deadlines and processes.

Promise: the contract at the head of `gateway/ends.py`; what is made by `open` belongs to one process, and
nothing is made before it; no Task, Future or timer per request.
Must never know: HTTP, routes, workers. Next: `event.py` and `blocking.py`, the two drivers there are.
"""

from __future__ import annotations

import _socket
import errno
import functools
import os
import socket
import threading
import time
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from gateway.drivers.acceptor import Acceptor as Acceptor
from gateway.drivers.children import Children, Reaper, Start, StartFunction
from gateway.drivers.forks import end_stray, note_closed, note_open
from gateway.drivers.poller import READABLE, Poller
from gateway.drivers.signals import Signals
from gateway.drivers.wires import DescriptorWire
from gateway.ends import (  # fmt: skip
    OPEN,
    AsyncWork,
    Close,
    End,
    Gather,
    Kill,
    Open,
    Order,
    Resume,
    Run,
    RunAsync,
    SocketName,
    Spawn,
    Turn,
    Work,
)

SWEEP_S: Final = 0.25
"""Deadlines are looked at this often: they are coarse on purpose, and cost nothing per request."""
AT_ONCE: Final = 16
"""Connections that are accepted before anything else is looked at."""


class Closed(BaseException):
    """The driver has closed: whoever still works for it is to leave. (No Exception, which an application might catch.)"""


class Driver:
    """All ends of one thread; also the way back to them for what it runs (`Streams` of `gateway/ends.py`)."""

    poller: Poller
    """Once it is open; others may have descriptors of their own watched there, and settle after what they do."""

    def __init__(
        self, turn: Turn, start: StartFunction, reaper: Reaper, crashed: Callable[[End | None, Exception], None]
    ) -> None:
        self.turn = turn
        self.reaper = reaper
        self.crashed = crashed
        """Told of an exception that escaped from the rules: a defect; the end is dropped."""
        self.wires: set[Any] = set()
        self.lingering: dict[DescriptorWire, float] = {}
        """Wires that read and drop, each until its time has come."""
        self.acceptors: set[Acceptor] = set()
        self.ticks: list[Callable[[float, float], None]] = []
        """Called at every sweep with the driver's clock and the wall clock."""
        self.launching = 0
        """0: nobody but us has our descriptors. A process that is being started has a duplicate of each until its exec."""
        self.children = Children(self, start, reaper)
        self.opened = False
        self.closed = False
        self.shared = False
        """Whether somebody has forked, whose child may have our descriptors for as long as it lives."""
        self.strange = False
        """Whether we are in such a child: the streams are not ours."""
        self._opening: dict[End, Any] = {}
        """Ends whose hosts are being looked up: the Task of each."""
        self._gathering: list[End] = []
        self._settling = False
        self._in_round = False
        """Whether a round of the poller is under way: the turn is settled once it is over."""
        self._waiting = 0
        """Threads that want to be told when a turn is settled."""
        self._signals = Signals(self)
        self._event = -1
        self._lock = threading.RLock()  # a signal handler may come in between
        turn.now = monotonic()

    # ------------------------------------------------------------------ its life

    def open(self) -> None:
        """Make what belongs to this process; in the thread that will run it. Again: nothing."""
        raise NotImplementedError

    def _open_with(self, poller: Poller) -> None:
        self.opened = True
        note_open(self)
        self.poller = poller
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        poller.watch(self._event, READABLE, self._woken)

    def run(self, done: Callable[[], bool]) -> None:
        """Deal with streams until `done()`, which is looked at when a stream that came to us, a process or a work has
        ended, after `wake`, and at every sweep."""
        raise NotImplementedError

    def wake(self) -> None:
        """From any thread or signal handler: have `run` look at `done` again."""
        with self._lock:
            if self._event >= 0:
                os.eventfd_write(self._event, 1)

    def _woken(self, events: int) -> None:
        os.eventfd_read(self._event)
        self._signals.deal()
        self.ended()

    def ended(self) -> None:
        """`done` may have become true."""

    def call_signals(self, handlers: dict[int, Callable[[], None]]) -> None:
        """Call these in a turn of ours when the signal comes; in the main thread only."""
        self.open()
        self._signals.call(handlers)

    def close(self) -> None:
        """Drop every stream and let go of everything; for the very end."""
        if self.closed:
            return
        self.closed = True
        if not self.opened:
            return
        self._signals.close()
        for acceptor in list(self.acceptors):
            acceptor.close()
        self._shut()
        for wire in list(self.wires):
            wire.abort()
        self.settle()
        self._shut_loop()
        with self._lock:
            event, self._event = self._event, -1
        self.poller.forget(event)
        os.close(event)
        self.children.close()
        self.poller.close()
        note_closed(self)

    def _shut(self) -> None:
        """It closes: give up what is under way beside the wires."""

    def _shut_loop(self) -> None:
        """Nothing is left under way."""

    def abandon(self) -> None:
        """In a child that was forked: let go of all that is the parent's; nobody is told. A loop can't be let go of."""
        self.closed = True
        note_closed(self)
        if not self.opened:
            return
        for acceptor in self.acceptors:
            acceptor.descriptor = -1
        for wire in self.wires:
            wire.abandon()
        self._signals.abandon()
        self.poller.abandon()
        self.children.abandon()
        event, self._event = self._event, -1
        os.close(event)

    def forked(self) -> None:
        """We are in a child, and it is not known yet whose. (A program that is to end by SIGTERM must not have our
        handler for it.)"""
        self.strange = True
        self._signals.abandon()

    # ------------------------------------------------------------------ the turn

    def clock(self) -> float:
        """The time in which deadlines are given; the same for all drivers of a machine."""
        return monotonic()

    def _began(self) -> None:
        """A round of the poller: what has come on all streams is one turn."""
        self._in_round = True
        self.turn.now = monotonic()

    def _round_over(self) -> None:
        """What has come is dealt with."""
        self._in_round = False
        self.settle()

    def settle_at_once(self) -> None:
        """In the middle of a round: much has come, and is still in the processor's cache."""
        in_round, self._in_round = self._in_round, False
        self.settle()
        self._in_round = in_round

    def settle(self) -> None:
        """Do what the rules noted, until nothing is left (the contract in ends.py)."""
        if self._settling or self._in_round:
            return
        self._settling = True
        gathered = False
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
                elif self._gathering and not gathered:
                    gathered = True
                    self._gather_all()
                else:
                    break
        finally:
            self._settling = False
        if self._gathering:
            self._go_on()
        if self._waiting:
            self._notify()

    def _go_on(self) -> None:
        """Somebody wants to be told at the end of another round: it is to come, whether there is input or not."""

    def _notify(self) -> None:
        """A turn is settled, and somebody waits for that."""

    def guard(self, end: End | None, error: Exception) -> None:
        """The rules raised: a defect. It costs this end, and nobody else."""
        self.crashed(end, error)
        if end is not None:
            end.closing = Close.ABORT
            end.touch()

    def tell(self, end: End, method: Callable[..., None], *arguments: Any) -> None:
        """Enter an end, guarded."""
        try:
            method(*arguments)
        except Exception as error:
            self.guard(end, error)

    def _perform(self, order: Order) -> None:
        kind = type(order)
        if kind is Resume:
            end = order.end  # type: ignore[union-attr]
            if end.wire is not None:
                try:
                    end.resume(self.turn.now)
                except Exception as error:
                    self.guard(end, error)
        elif kind is Gather:
            self._gathering.append(order.end)  # type: ignore[union-attr]
        elif kind is Open:
            self._open(order)  # type: ignore[arg-type]
        elif kind is Spawn:
            self.children.spawn(order)  # type: ignore[arg-type]
        elif kind is Kill:
            self.reaper.kill_group(order.pid, order.signal)  # type: ignore[union-attr]
        elif self.closed:
            return
        elif kind is Run:
            self._run_work(order.work)  # type: ignore[union-attr,arg-type]
        elif kind is RunAsync:
            self._run_async(order.work)  # type: ignore[union-attr,arg-type]

    def _sweep(self) -> None:
        now = self.turn.now = monotonic()
        wall = time.time()
        self.reaper.reap()
        for tick in list(self.ticks):
            try:
                tick(now, wall)
            except Exception as error:
                self.guard(None, error)
        for end in [w.end for w in self.wires if w.end.deadline <= now] + [
            end for end in self._opening if end.deadline <= now
        ]:
            self.tell(end, end.expired, now)
        for wire in [wire for wire, until in self.lingering.items() if until <= now]:
            wire.gone(None)
        for acceptor in list(self.acceptors):
            acceptor.tick(now)
        self.settle()

    # ------------------------------------------------------------------ work that may wait

    def enter(self, method: Callable[..., None], *arguments: Any) -> None:
        """Call a method of the rules, and settle the turn."""
        self._enter(method, arguments)
        self.settle()

    def _enter(self, method: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.strange:
            end_stray()
        self.turn.now = monotonic()
        try:
            method(*arguments)
        except Exception as error:
            self.guard(None, error)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Return once `ready()` holds; the streams go on meanwhile."""
        raise NotImplementedError

    def _gather_all(self) -> None:
        """All that is here has been dealt with."""
        gathering, self._gathering = self._gathering, []
        for end in gathering:
            self.tell(end, end.gathered, self.turn.now)

    def _run_work(self, work: Work) -> None:
        raise NotImplementedError

    def _run_async(self, work: AsyncWork) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------------ streams

    def listen(
        self,
        sock: socket.socket,
        taker: Callable[[socket.socket], None],
        *,
        exclusive: bool = False,
        at_once: int = AT_ONCE,
        trouble: Callable[[OSError], None] | None = None,
    ) -> Acceptor:
        """Give each connection that is accepted to `taker`, `at_once` of them before anything else is looked at.

        `exclusive`: others watch this socket, too, and one of us is to be woken, not all. `trouble` is told when the
        system can't accept (no descriptor is left, say), once a second at most.
        """
        return Acceptor(self, sock, taker, exclusive, at_once, trouble)

    def take(self, sock: socket.socket, end: End) -> None:
        """An accepted client's socket becomes the stream of `end`, which is told `accepted`."""
        sock.setblocking(False)
        remote, local = names_of(sock)
        wire = DescriptorWire(
            self, end, sock.fileno(), reads=True, sock=sock, accepted=True, delays=sock.family != socket.AF_UNIX
        )
        now = self.turn.now = monotonic()
        self.tell(end, end.accepted, remote, local, now)
        wire.read_first()
        self.settle()

    def attach(self, descriptor: int, end: End, *, reads: bool) -> None:
        """A pipe, a file or a socket that we were started with becomes the stream of `end`, in one direction."""
        blocks = os.get_blocking(descriptor)
        if blocks:
            os.set_blocking(descriptor, False)
        DescriptorWire(self, end, descriptor, reads=reads, accepted=True, restores=blocks)
        end.touch()
        self.settle()

    def _open(self, order: Open) -> None:
        end, address = order.end, order.address
        if end.closing is not OPEN or self.closed:  # not wanted any more; whoever ordered it still counts on being told
            self.tell(end, end.lost, None, self.turn.now)
        elif address.path:
            self._connect(order, socket.AF_UNIX, address.path)
        else:
            family = family_of(address.host)
            if family is None:
                self._look_up(order)
            else:
                self._connect(order, family, (address.host, address.port))

    def _look_up(self, order: Open) -> None:
        """Find the addresses of a host, and go on with `_looked_up`."""
        raise NotImplementedError

    def _looked_up(self, order: Open, found: list[Any] | BaseException) -> None:
        """`found`: as of getaddrinfo."""
        if isinstance(found, BaseException):
            reason = found if isinstance(found, OSError) else OSError(errno.EINVAL, str(found))
            self.tell(order.end, order.end.lost, reason, self.turn.now)
            return
        addresses: list[tuple[int, Any]] = [(one[0], one[4]) for one in found]
        self._connect(order, addresses[0][0], addresses[0][1], addresses[1:])

    def _connect(self, order: Open, family: int, address: Any, others: list[tuple[int, Any]] | None = None) -> None:
        """Connect without a round through any loop where the kernel answers at once."""
        end = order.end
        addresses = [(family, address)]
        if others:
            addresses += others
        found = self.connect(addresses, socket.SOCK_DGRAM if order.datagram else socket.SOCK_STREAM)
        if isinstance(found, OSError):
            self.tell(end, end.lost, found, self.turn.now)
            return
        sock, connecting = found
        wire = DescriptorWire(
            self, end, sock.fileno(), reads=True, sock=sock, connecting=connecting,
            delays=family != socket.AF_UNIX and not order.datagram, brief=order.brief,
        )  # fmt: skip
        wire.others = addresses
        if not connecting:
            self.tell(end, end.connected, self.turn.now)
        wire.flush()  # while it connects, too: on a fast network it mostly has by now

    def connect(
        self, addresses: list[tuple[int, Any]], kind: int = socket.SOCK_STREAM
    ) -> tuple[_socket.socket, bool] | OSError:
        """A socket on its way to the first of these that is not refused at once, and whether it is on its way still.

        Those that were tried are taken from the list.
        """
        refused = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        while addresses:
            family, address = addresses.pop(0)
            try:
                # the class of C: the one of the standard library costs several times as much to make
                sock = _socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError as error:
                return error
            try:
                code = sock.connect_ex(address)
            except OSError as error:
                refused = error
            else:
                if not code or code == errno.EINPROGRESS:
                    return sock, code != 0
                refused = OSError(code, os.strerror(code))  # EAGAIN: a unix socket whose backlog is full
            sock.close()
        return refused

    # ------------------------------------------------------------------ processes

    def launch(self, order: Spawn, start: Start) -> None:
        """Have the start run, then call `children.launched` with what comes of it."""
        raise NotImplementedError

    def watch_child(self, pid: int, ended: Callable[[int], None]) -> None:
        """Call `ended(code)` when a process has ended that we have forked ourselves."""
        self.children.wait_for(pid, ended, silent=False)

    def silent(self, pid: int) -> None:
        """The stdout of a process has ended."""
        self.children.silent(pid)


@functools.lru_cache
def family_of(host: str) -> int | None:
    """Of an address in figures; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
            return family
        except OSError:
            continue
    return None


def names_of(sock: socket.socket) -> tuple[SocketName, SocketName]:
    """Of the other side, and ours."""
    names: list[SocketName] = []
    for ask in (sock.getpeername, sock.getsockname):
        try:
            name = ask()
        except OSError:  # it is gone already
            name = None
        names.append((name[0], name[1]) if isinstance(name, tuple) else ("", 0))
    return names[0], names[1]
