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

import difflib
import enum
import errno
import math
from collections.abc import Callable, Sequence
from typing import Any

from gateway.config import Kind, Limits, Match, Route, Timeouts
from gateway.ends import OPEN, Address, Close, End, FileSlice, Kill, Open, Order, Resume, Spawn, Turn
from gateway.forwarding import Forwarding
from gateway.fronts.http1 import Http1Front
from gateway.interfaces.cgi import CgiInterface
from gateway.interfaces.fastcgi import FastcgiInterface
from gateway.interfaces.http import HttpInterface
from gateway.interfaces.scgi import ScgiInterface
from gateway.observe.access_log import AccessRecord
from gateway.observe.error_log import ErrorLog
from gateway.routing import Router
from gateway.site import Interface, Service, Site
from protocols.http1 import ResponseReader, tokeniser
from protocols.message import Content, EndOfMessage, Response

SWEEP_S = 0.25
LINGER_S = 2.0


class Sign(enum.Enum):
    """What a peer does or sees besides octets."""

    EOF = "end of file"
    LOST = "reset"
    CLOSED = "closed"
    LINGER = "half-closed"


EOF, LOST, CLOSED, LINGER = Sign


class Mismatch(AssertionError):
    """Both transcripts, side by side."""


class Peer:
    """The far side of one stream: a client, a worker, or a script's pipe."""

    def __init__(self, talk: Talk, name: str, end: End | None) -> None:
        self.talk = talk
        self.name = name
        self.end = end
        self.got: list[bytes | Sign] = []
        """What has arrived and was not yet looked at; adjacent octets are joined."""
        self.room: float = math.inf
        """Octets that it takes before it is clogged."""
        self.on_the_way: list[bytes | Sign] = []
        """What was sent to us and was not read, since `wants_data` was False."""
        self.methods: list[bytes] = []
        """Of the requests that a client has sent and for which no answer was looked at."""

    @property
    def wire(self) -> Wire | None:
        return self.end.wire if self.end is not None else None

    def __rshift__(self, said: bytes | Sign) -> Peer:
        self.talk.noted(f"{self.name} >> {_told(said)}")
        self.say(said)
        return self

    def say(self, said: bytes | Sign) -> None:
        """As >>, without a word in the transcript."""
        wire = self.wire
        assert wire is not None, f"{self.name} is not connected"
        if said is LOST:
            wire.gone(OSError(errno.ECONNRESET, "Connection reset by peer"))
            self.talk.settle()
        else:
            self.on_the_way.append(said)
            wire.deliver()
            self.talk.settle()

    def __lshift__(self, expected: bytes | Sign | None) -> Peer:
        """It has got exactly this next (octets may go on after it); None: nothing at all."""
        first = self.got[0] if self.got else None
        if isinstance(expected, bytes) and isinstance(first, bytes) and first.startswith(expected):
            rest = first[len(expected) :]
            self.got[:1] = [rest] if rest else []
            first = expected
        elif first is not None:
            del self.got[0]
        self.compare([f"{self.name} << {_told(expected)}"], [f"{self.name} << {_told(first)}"])
        return self

    def compare(self, expected: list[str], actual: list[str]) -> None:
        talk = self.talk
        talk.expected += expected
        talk.actual += actual
        if expected != actual:
            raise Mismatch("\n" + "\n".join(difflib.ndiff(talk.expected, talk.actual)))

    def arrived(self, what: bytes | Sign) -> None:
        if isinstance(what, bytes) and self.got and isinstance(self.got[-1], bytes):
            self.got[-1] += what
        else:
            self.got.append(what)

    def take(self) -> bytes:
        """All octets that have arrived and were not looked at."""
        octets = b"".join(item for item in self.got if isinstance(item, bytes))
        self.got = [item for item in self.got if isinstance(item, Sign)]
        return octets

    def takes_all(self) -> None:
        """It was clogged, and reads on."""
        self.room = math.inf
        if self.wire is not None:
            self.wire.unclogged()
            self.talk.settle()

    # ------------------------------------------------------------------ for clients

    def get(self, target: str = "/", *fields: str, method: str = "GET", version: str = "1.1") -> None:
        """Send a request without content."""
        lines = [f"{method} {target} HTTP/{version}", "Host: x", *fields, "", ""]
        self.methods.append(method.encode())
        self >> "\r\n".join(lines).encode()

    def post(self, target: str, content: bytes, *fields: str, method: str = "POST") -> None:
        """Send a request with all its content."""
        lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(content)}", *fields, "", ""]
        self.methods.append(method.encode())
        self >> "\r\n".join(lines).encode() + content

    def answer(self) -> Answer:
        """Take one whole response from what has arrived (interim ones before it included)."""
        method = self.methods.pop(0) if self.methods else b"GET"
        reader = ResponseReader(tokeniser())
        reader.expect(method)
        octets, position = self.take(), 0
        answer = Answer()
        while not answer.complete and position < len(octets):
            # octet by octet, so that what belongs to the next response is left
            for event in reader.receive(octets[position : position + 1]):
                answer.add(event)
            position += 1
        if not answer.complete and self.got and self.got[0] is CLOSED:
            try:
                for event in reader.receive_eof():
                    answer.add(event)
            except Exception as error:  # a visible break
                answer.broken = str(error)
        if position < len(octets):
            self.got.insert(0, octets[position:])
        self.talk.noted(f"{self.name} << {answer}")
        return answer


class Answer:
    """A response as the client sees it."""

    def __init__(self) -> None:
        self.interim: list[int] = []
        self.status = 0
        self.fields: dict[str, str] = {}
        self.content = b""
        self.complete = False
        self.broken = ""

    def add(self, event: object) -> None:
        if isinstance(event, Response):
            if event.status < 200:
                self.interim.append(event.status)
            else:
                self.status = event.status
                self.fields = {name.decode().lower(): value.decode() for name, value in event.fields}
        elif isinstance(event, Content):
            self.content += event.data
        elif isinstance(event, EndOfMessage):
            self.complete = True

    def __str__(self) -> str:
        how = "" if self.complete else f" BROKEN {self.broken}"
        return f"{self.status} {self.content[:60]!r}{how}"


class Wire:
    """What the driver has attached to an end."""

    def __init__(self, talk: Talk, end: End, peer: Peer) -> None:
        self.talk = talk
        self.end = end
        self.peer = peer
        self.pending = b""
        self.half = False
        self.entered = False
        self.ended = False
        end.wire = self

    def enter(self, method: Callable[..., None], *arguments: object) -> None:
        assert self.end.wire is self, "an end is entered after it was lost"
        assert not self.entered, "an end is entered while it is being entered"
        self.entered = True
        try:
            method(*arguments, self.talk.turn.now)
        finally:
            self.entered = False

    def deliver(self) -> None:
        """What the far side has sent, as far as it is wanted."""
        way = self.peer.on_the_way
        while way and (self.end.wants_data or self.half) and self.end.wire is self and not self.ended:
            said = way.pop(0)
            if said is EOF:
                self.ended = True
                if self.half:
                    self.gone(None)
                else:
                    self.enter(self.end.received_eof)
            elif not self.half:
                assert isinstance(said, bytes)
                self.enter(self.end.received, said)
            self.talk.settle()

    def flush(self) -> None:
        end, peer = self.end, self.peer
        if end.closing is Close.ABORT:
            peer.arrived(LOST)
            self.gone(None)
            return
        for piece in end.outgoing():
            if isinstance(piece, FileSlice):
                self.pending += b"f" * len(piece)
                piece.close()
            else:
                assert piece, "an empty write"
                self.pending += piece
        self.push()
        if self.pending:
            if not end.held:
                self.enter(end.unsent, len(self.pending))
        elif end.held or end.wants_room:
            end.wants_room = False
            self.enter(end.unsent, 0)
        if end.closing is not OPEN and not self.pending and not end.out and not self.half:
            if end.closing is Close.LINGER:
                self.half = True
                peer.arrived(LINGER)
                end.deadline = self.talk.turn.now + LINGER_S
            else:
                peer.arrived(CLOSED)
                self.gone(None)
                return
        self.deliver()

    def push(self) -> None:
        taken = len(self.pending) if self.peer.room == math.inf else int(self.peer.room)
        if self.pending and taken:
            octets, self.pending = self.pending[:taken], self.pending[taken:]
            self.peer.room -= len(octets)
            self.peer.arrived(octets)

    def unclogged(self) -> None:
        self.end.touch()

    def gone(self, error: OSError | None) -> None:
        if self.end.wire is self:
            self.talk.wires.remove(self)
            self.end.wire = None
            assert not self.entered
            self.entered = True
            self.end.lost(error, self.talk.turn.now)


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
    ) -> None:
        self.turn = Turn(now=1000.0)
        self.log = Log(lambda: self.turn.now)
        self.accesses = Accesses()
        self.expected: list[str] = []
        self.actual: list[str] = []
        self.wires: list[Wire] = []
        self.settling = False
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
                return FastcgiInterface(self.site, route, workers)
            case "scgi":
                return ScgiInterface(self.site, route)
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

    def accept(self) -> Peer:
        """The worker answers the oldest Open."""
        self.noted(f"open {self.opens[0].address}")
        peer = self._accept(self.opens[0])
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

    def start(self) -> Process:
        process = self._start(self.spawns[0])
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
        self.check_nothing_is_left()

    def check_nothing_is_left(self) -> None:
        assert self.site.exchanges == 0
        assert not self.site.fronts
        for service in self.site.services:
            interface: Any = service.interface
            if isinstance(interface, CgiInterface):
                assert interface.running == 0
                assert not interface.waiting
                assert not interface.dying
                continue
            assert not interface.pool.waiting
            for member in interface.pool.members:
                assert (member.open, member.idle, member.unproven) == (0, [], {})


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


def _told(said: bytes | Sign | None) -> str:
    return said.name if isinstance(said, Sign) else repr(said)


def _explain(error: OSError, launch: object) -> tuple[int, str, str, str]:
    return 500, "not-started", error.strerror or "", ""


def route(interface: str, path: str = "/", **options: Any) -> Route:
    """A route as the config would make it, without a file."""
    options.setdefault("number", 0)
    if interface == "cgi":
        options.setdefault("script", b"/srv/script.cgi")
    else:
        options.setdefault("addresses", (Address(path="/w"),))
    return Route(path=path, match=Match(Kind.PREFIX, path.encode()), interface=interface, **options)
