"""Who a gateway talks to in a playbook: clients, workers and pipes, and the streams between.

Promise: a stream delivers what is wanted when it is wanted, as a kernel would; the rules' side of the
contract in `gateway/ends.py` is asserted at each step.
Must never know: routes, interfaces. Next: `playbook.py`, the driver.
"""

from __future__ import annotations

import difflib
import enum
import errno
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway import ends
from gateway.ends import OPEN, Close, End, FileSlice
from protocols.http1 import ResponseReader, tokeniser
from protocols.message import Content, EndOfMessage, RemoteProtocolError, Response

if TYPE_CHECKING:
    from tests.rules.playbook import Talk

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
        self.takes(math.inf)

    def takes(self, octets: float) -> None:
        """It was clogged, and reads so many more."""
        self.room += octets
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
            except RemoteProtocolError as error:  # a visible break
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


class Wire(ends.Wire):
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
        before = len(self.pending)
        self.push()
        end.writes += len(self.pending) < before
        if self.pending:
            if not end.held or len(self.pending) < before:
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


def _told(said: bytes | Sign | None) -> str:
    return said.name if isinstance(said, Sign) else repr(said)
