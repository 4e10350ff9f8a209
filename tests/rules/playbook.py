"""A driver in plain Python, and tests of the rules as conversations (no socket, no sleep, no clock of its own).

Promise: it keeps the contract of `gateway/ends.py` and checks that the rules keep theirs; a mismatch
prints what the test expected beside what happened.
Must never know: what the octets mean. Next: `conftest.py`, the fixture `talk`; `words.py`, the records.

    talk.client >> b"GET / HTTP/1.1\\r\\n..."     the client sends this
    talk.worker << b"..."                        the worker has got exactly this since it was last asked
    talk.client >> LOST                          the client's connection is reset
    talk.wait(2)                                 two seconds pass
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Sequence
from typing import Any

from gateway.config import Kind, Limits, Match, Route, Timeouts
from gateway.ends import OPEN, Address, End, Gather, Kill, Open, Order, Resume, Spawn, Turn
from gateway.forwarding import Forwarding
from gateway.fronts.http1 import Http1Front
from gateway.interfaces.cgi import KILL_GRACE_S, CgiInterface
from gateway.interfaces.fastcgi import FastcgiInterface
from gateway.interfaces.http import HttpInterface
from gateway.interfaces.scgi import ScgiInterface
from gateway.interfaces.static import StaticInterface
from gateway.observe.access_log import AccessRecord
from gateway.observe.error_log import ErrorLog
from gateway.routing import Programs, Router
from gateway.site import Interface, Service, Site
from protocols.http1 import tokeniser
from tests.rules.peers import CLOSED, EOF, LINGER, LOST, Peer, Sign, Wire

__all__ = ["CLOSED", "EOF", "LINGER", "LOST", "Peer", "Process", "Sign", "Talk", "Wire", "route"]

SWEEP_S = 0.25


class Log(ErrorLog):
    """The error log's lines."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__("-", clock=clock)
        self.lines: list[str] = []

    def write_lines(self, level: str, lines: list[str], origin: str) -> None:
        self.lines += [f"{level}{origin}: {line}" for line in lines]

    def close(self) -> None:
        """Nothing to close."""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Accesses:
    """The records of the access log."""

    def __init__(self) -> None:
        self.records: list[AccessRecord] = []

    def log(self, record: AccessRecord) -> None:
        self.records.append(record)

    def flush(self) -> None:
        """Nothing is kept back."""

    @property
    def statuses(self) -> list[int]:
        return [record.status for record in self.records]


class Talk:
    """A gateway without input and output, and all whom it talks to."""

    def __init__(
        self,
        *routes: Route,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        timeouts: Timeouts = Timeouts(),  # noqa: B008 (frozen)
        trusted: Sequence[Any] = (),
        workers: int = 0,
        spread: int = 1,
    ) -> None:
        self.turn = Turn(now=1000.0)
        self.log = Log(lambda: self.turn.now)
        self.accesses = Accesses()
        self.expected: list[str] = []
        self.actual: list[str] = []
        self.wires: list[Wire] = []
        self.spread = spread
        self.settling = False
        self.gathering: list[End] = []
        self.sweeping = 0.0
        self.connects = True
        """Whether workers accept at once; else `accept` or `refuse` the next order by hand."""
        self.starts = True
        """Likewise for processes: `start` or `fail`."""
        self.opens: list[Open] = []
        """Orders that wait for an answer."""
        self.spawns: list[Spawn] = []
        self.kills: list[tuple[int, int]] = []
        self.workers: list[Peer] = []
        self.probes: list[Peer] = []
        self.scripts: list[Process] = []
        self.ever_opened = 0
        site = self.site = Site(
            self.turn, limits, timeouts, tokeniser(), Forwarding(trusted), self.accesses, self.log,  # type: ignore[arg-type]
        )  # fmt: skip
        site.date = site.server = b""
        site.services = [Service(route, self._interface(route, workers)) for route in routes]
        site.router = Router(routes)
        self.client = self.connect()

    def _interface(self, route: Route, workers: int) -> Interface:
        match route.interface:
            case "cgi":
                return CgiInterface(self.site, route, _explain)
            case "fastcgi":
                return FastcgiInterface(self.site, route, workers, spread=self.spread)
            case "scgi":
                return ScgiInterface(self.site, route)
            case "static":
                return StaticInterface(route, Programs(()))
            case _:
                return HttpInterface(self.site, route)

    def interface(self, number: int = 0) -> Any:
        return self.site.services[number].interface

    @property
    def pool(self) -> Any:
        return self.interface().pool

    def connect(self) -> Peer:
        """Another client."""
        front = Http1Front(self.site)
        number = sum(wire.peer.name.startswith("client") for wire in self.wires)
        peer = Peer(self, f"client {number}" if number else "client", front)
        wire = Wire(self, front, peer)
        self.wires.append(wire)
        wire.enter(front.accepted, ("192.0.2.1", 50000 + number), ("192.0.2.2", 80))
        self.settle()
        return peer

    @property
    def worker(self) -> Peer:
        """The connection to a worker that was ordered last."""
        return self.workers[-1]

    @property
    def script(self) -> Process:
        return self.scripts[-1]

    def noted(self, line: str) -> None:
        self.expected.append(line)
        self.actual.append(line)

    # ------------------------------------------------------------------ the driver

    def settle(self) -> None:
        if self.settling:
            return
        self.settling = True
        turn = self.turn
        try:
            for _ in range(10_000):
                if turn.ends:
                    ends, turn.ends = turn.ends, []
                    for end in ends:
                        end.touched = False
                        if end.wire is not None:
                            end.wire.flush()
                        elif end.closing is not OPEN:
                            self._give_up(end)
                elif turn.orders:
                    orders, turn.orders = turn.orders, []
                    for order in orders:
                        self._perform(order)
                elif self.gathering:
                    gathering, self.gathering = self.gathering, []
                    for end in gathering:
                        end.gathered(self.turn.now)
                else:
                    return
            raise AssertionError("a turn that never settles")
        finally:
            self.settling = False

    def _give_up(self, end: End) -> None:
        """A connection that does not stand yet is not wanted any more."""
        for order in self.opens:
            if order.end is end:
                self.opens.remove(order)
                end.lost(None, self.turn.now)
                return

    def _perform(self, order: Order) -> None:
        if isinstance(order, Resume):
            if order.end.wire is not None:
                order.end.wire.enter(order.end.resume)
        elif isinstance(order, Gather):
            self.gathering.append(order.end)
        elif isinstance(order, Open):
            self.ever_opened += 1
            if order.end.closing is not OPEN:
                order.end.lost(None, self.turn.now)
                return
            self.opens.append(order)
            if self.connects:
                self._accept(order)
        elif isinstance(order, Spawn):
            self.spawns.append(order)
            if self.starts:
                self._start(order)
        else:
            assert isinstance(order, Kill)
            self.kills.append((order.pid, order.signal))

    def accept(self, room: float = math.inf) -> Peer:
        """The worker answers the oldest Open."""
        self.noted(f"open {self.opens[0].address}")
        peer = self._accept(self.opens[0])
        peer.room = room
        self.settle()
        return peer

    def _accept(self, order: Open) -> Peer:
        self.opens.remove(order)
        is_probe = type(order.end).__name__ == "Probe"
        peers = self.probes if is_probe else self.workers
        peer = Peer(self, "probe" if is_probe else f"worker {len(peers)}" if peers else "worker", order.end)
        peers.append(peer)
        wire = Wire(self, order.end, peer)
        self.wires.append(wire)
        wire.enter(order.end.connected)
        order.end.touch()
        return peer

    def refuse(self, code: int = errno.ECONNREFUSED) -> None:
        """Nobody listens where the oldest Open leads."""
        order = self.opens.pop(0)
        self.noted(f"refuse {order.address}")
        order.end.lost(OSError(code, errno.errorcode[code]), self.turn.now)
        self.settle()

    def start(self, room: float = math.inf) -> Process:
        """The oldest Spawn is done; its stdin takes so many octets."""
        process = self._start(self.spawns[0])
        process.stdin.room = room
        self.settle()
        return process

    def _start(self, order: Spawn) -> Process:
        self.spawns.remove(order)
        process = Process(self, order, 100 + len(self.scripts))
        self.scripts.append(process)
        return process

    def fail(self, code: int) -> None:
        """The oldest Spawn can't be done."""
        order = self.spawns.pop(0)
        self.noted(f"no process: {errno.errorcode[code]}")
        order.child.failed(OSError(code, errno.errorcode[code]), self.turn.now)
        self.settle()

    def wait(self, length_s: float) -> None:
        """Time passes, with a sweep every quarter of a second."""
        self.noted(f"wait {length_s:g} s")
        until = self.turn.now + length_s
        while self.turn.now < until:
            self.turn.now = min(until, self.turn.now + SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        now = self.turn.now
        self.site.tick(now, self.site.wall)
        self.log.flush()
        for service in self.site.services:
            service.interface.tick(now)
        for wire in list(self.wires):
            if wire.end.wire is wire and wire.end.deadline <= now:
                if wire.half:
                    wire.gone(None)
                else:
                    wire.enter(wire.end.expired)
        for order in list(self.opens):
            if order.end.deadline <= now:
                order.end.expired(now)
        self.settle()

    # ------------------------------------------------------------------ what must hold at the end

    def all_leave(self) -> None:
        """Everybody goes; nothing may be left behind."""
        self.connects = self.starts = True
        for order in list(self.spawns):
            self._start(order)
        self.settle()
        while self.wires:
            wire = next((w for w in self.wires if w.peer.name.startswith("client")), self.wires[0])
            wire.gone(OSError(errno.ECONNRESET, "Connection reset by peer"))
            self.settle()
        while self.opens:
            self.refuse()
        for script in self.scripts:
            script.exit(-15)
        self.wait(KILL_GRACE_S)
        self.check_nothing_is_left()

    def check_nothing_is_left(self) -> None:
        assert self.site.exchanges == 0
        assert not self.site.fronts
        for service in self.site.services:
            interface: Any = service.interface
            if isinstance(interface, CgiInterface):
                assert interface.running == 0
                assert not interface.scripts
                assert not interface.waiting
                assert not interface.dying
                continue
            if isinstance(interface, StaticInterface):
                continue
            assert not interface.pool.waiting
            for member in interface.pool.members:
                assert (member.open, member.idle, member.unproven) == (0, [], {})
            if isinstance(interface, FastcgiInterface):
                assert all(not hubs.open and not hubs.leaving for hubs in interface.hubs.values())


class Process:
    """A script: its pipes are peers."""

    def __init__(self, talk: Talk, order: Spawn, pid: int) -> None:
        self.talk = talk
        self.order = order
        self.pid = pid
        self.exited = False
        self.stdin = self._peer("stdin", order.stdin)
        self.stdout = self._peer("stdout", order.stdout)
        self.stderr = self._peer("stderr", order.stderr)
        order.child.started(pid, talk.turn.now)
        for end in (order.stdin, order.stdout, order.stderr):
            if end is not None:
                end.touch()

    def _peer(self, name: str, end: End | None) -> Peer:
        peer = Peer(self.talk, name, end)
        if end is not None:
            self.talk.wires.append(Wire(self.talk, end, peer))
        return peer

    def exit(self, code: int = 0) -> None:
        """The process ends; its pipes end on their own."""
        if not self.exited:
            self.exited = True
            self.talk.noted(f"exit {code}")
            self.order.child.exited(code, self.talk.turn.now)
            self.talk.settle()

    @property
    def environment(self) -> dict[bytes, bytes]:
        return self.order.launch.environment


def _explain(error: OSError, launch: object) -> tuple[int, str, str, str]:
    return 500, "not-started", error.strerror or "", ""


def route(interface: str, path: str = "/", **options: Any) -> Route:
    """A route as the config would make it, without a file."""
    options.setdefault("number", 0)
    if interface == "cgi":
        options.setdefault("script", b"/srv/script.cgi")
    elif interface != "static":
        options.setdefault("addresses", (Address(path="/w"),))
    return Route(path=path, match=Match(Kind.PREFIX, path.encode()), interface=interface, **options)
