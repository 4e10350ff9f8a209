"""A playbook for the application server: web servers on one side, an application in the test's hands on the other.

Promise: the same driver and the same checks as in `playbook.py`; the application does what the test says,
when it says so.
Must never know: sockets. Next: `test_front_fastcgi.py`, `test_front_scgi.py`, `test_front_cgi.py`.

    talk.app.respond(b"hello")          the application answers its newest request, whole
    talk.app.head(); talk.app.say(b"hel"); talk.app.end()        or piece by piece
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.config import Limits, Route, Timeouts
from gateway.ends import End, Outgoing
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.site import Interface, Site
from protocols.fastcgi import GatewayConnection
from protocols.fastcgi_records import (
    ABORT_REQUEST,
    BEGIN_REQUEST,
    END_REQUEST,
    PARAMS,
    STDIN,
    STDOUT,
    RecordReader,
    Role,
    encode_pair,
    record,
)
from protocols.message import FieldLine, Response
from tests.rules.playbook import Peer, Talk, Wire, route

__all__ = ["App", "Call", "Hosted", "Server", "request", "stdin"]

Take = Callable[["Call"], None]


class Call:
    """One request as the application has it (Call, for the exchange)."""

    def __init__(self, app: App, exchange: Exchange) -> None:
        self.app = app
        self.exchange = exchange
        self.got = b""
        self.complete = False
        self.left = False
        """Whether the exchange wants no more, and whether since the client has left."""
        self.client_left = False
        self.wanted = True
        """Whether the response may come."""
        self.full = False
        self.fills = False
        """Whether some content is enough to make it full."""
        self.waits_for_room = False
        self.upstream = "app"

    # for the exchange

    def content(self, octets: bytes) -> None:
        assert not self.complete
        self.got += octets
        self.full = self.fills

    def content_end(self) -> None:
        assert not self.complete
        self.complete = True
        if self.app.answers is not None:
            self.app.answers(self)

    def abort(self, *, client_left: bool = False) -> None:
        self.left = True
        self.client_left = client_left

    def read(self, wanted: bool) -> None:
        self.wanted = wanted

    def room(self) -> None:
        self.waits_for_room = True

    # for the test

    @property
    def variables(self) -> dict[bytes, bytes]:
        variables = self.exchange.client.variables
        assert variables is not None
        return dict(variables)

    def takes(self) -> None:
        """It was full, and takes content again."""
        self.full = False
        if self.waits_for_room:
            self.waits_for_room = False
            self.exchange.pump()
        self.app.talk.settle()

    def head(self, *fields: FieldLine, status: int = 200, length: int | None = None) -> Call:
        self.exchange.respond(Response(status, fields, length=length))
        self.app.talk.settle()
        return self

    def say(self, octets: Outgoing) -> Call:
        self.exchange.response_content(octets)
        self.app.talk.settle()
        return self

    def end(self) -> None:
        self.exchange.call = None
        self.exchange.response_end()
        self.app.talk.settle()

    def respond(self, octets: bytes, *fields: FieldLine, status: int = 200) -> None:
        """A whole response at once."""
        self.exchange.call = None
        self.exchange.respond(Response(status, fields, length=len(octets)))
        if octets:
            self.exchange.response_content(octets)
        self.exchange.response_end()
        self.app.talk.settle()

    def fail(self, status: int = 500) -> None:
        self.exchange.failed(GatewayError(status, "app", "it has failed"))
        self.app.talk.settle()


class App:
    """An interface whose workers are the test."""

    needs_length = False
    spools = False

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.running = 0
        self.calls: list[Call] = []
        self.answers: Take | None = None
        """What it does as soon as a request is complete."""
        self.full = False
        """Whether new calls take no content at first."""

    def start(self, exchange: Exchange) -> None:
        call = Call(self, exchange)
        call.full = self.full
        self.calls.append(call)
        whole = exchange.whole_content()
        exchange.connected(call)
        if whole is None:
            exchange.pump()
            return
        if whole:
            call.content(whole)
        call.content_end()

    def tick(self, now: float) -> None:
        """Nothing."""

    def let_go(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is kept."""

    @property
    def call(self) -> Call:
        """The newest request."""
        return self.calls[-1]


class Hosted(Talk):
    """An application server without input and output."""

    def __init__(
        self,
        front: Callable[[Site], End],
        *,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        timeouts: Timeouts = Timeouts(),  # noqa: B008 (frozen)
        remote: str = "",
        **options: Any,
    ) -> None:
        self.make_front = front
        self.remote = remote
        options = {"response_s": 0.0, "read_s": 0.0, **options}
        super().__init__(route("http", **options), limits=limits, timeouts=timeouts)

    def _interface(self, route: Route, workers: int) -> Interface:
        self.app = App(self)
        return self.app

    def settle(self) -> None:
        """Not before whoever was entered has returned: an application may answer while it is called."""
        if not any(wire.entered for wire in self.wires):
            super().settle()

    def connect(self, remote: str | None = None) -> Server:
        front = self.make_front(self.site)
        number = sum(wire.peer.name.startswith("client") for wire in self.wires)
        server = Server(self, f"client {number}" if number else "client", front)
        wire = Wire(self, front, server)
        self.wires.append(wire)
        address = self.remote if remote is None else remote
        wire.enter(front.accepted, (address, 40000 if address else 0), ("192.0.2.2", 9000) if address else ("", 0))
        self.settle()
        return server

    @property
    def call(self) -> Call:
        return self.app.call

    @property
    def statuses(self) -> list[int]:
        return self.accesses.statuses

    def check_nothing_is_left(self) -> None:
        assert self.site.exchanges == 0
        assert not self.site.fronts


class Server(Peer):
    """A web server's side of a connection."""

    def __init__(self, talk: Talk, name: str, end: End | None) -> None:
        super().__init__(talk, name, end)
        self.codec = GatewayConnection(0xFFFF)

    def ask(
        self, target: str = "/", content: bytes | None = b"", role: Role = Role.RESPONDER, *, keep: bool = True,
        **variables: str,
    ) -> int:  # fmt: skip
        """Send a request by FastCGI; its id."""
        told = {"REQUEST_METHOD": "GET", "REQUEST_URI": target, "SERVER_PROTOCOL": "HTTP/1.1", **variables}
        params = b"".join(encode_pair(name.encode(), value.encode()) for name, value in told.items())
        request_id = self.codec.begin(role, params, keep, content)
        self._send()
        return request_id

    def _send(self) -> None:
        self >> b"".join(self.codec.outgoing())

    def content(self, request_id: int, octets: bytes) -> None:
        self.codec.stdin(request_id, octets)
        self._send()

    def content_end(self, request_id: int) -> None:
        self.codec.stdin_end(request_id)
        self._send()

    def abort(self, request_id: int) -> None:
        self.codec.abort(request_id)
        self._send()

    def answers(self) -> dict[int, tuple[bytes, tuple[int, int] | None]]:
        """What has come for each request since it was last asked: octets, and appStatus and protocolStatus."""
        found: dict[int, tuple[bytes, tuple[int, int] | None]] = {}
        for kind, request_id, content in RecordReader().receive(self.take()):
            octets, ended = found.get(request_id, (b"", None))
            assert ended is None, "a record after END_REQUEST"
            if kind == STDOUT:
                octets += content
            else:
                assert kind == END_REQUEST
                ended = (int.from_bytes(content[:4], "big"), content[4])
            found[request_id] = (octets, ended)
        return found

    def answer(self) -> bytes:  # type: ignore[override]
        """The one whole response that has come."""
        [(octets, ended)] = self.answers().values()
        assert ended == (0, 0)
        return octets


def request(
    request_id: int, variables: dict[bytes, bytes], *, role: int = 1, keep: bool = True, complete: bool = True
) -> bytes:
    """A request by FastCGI up to its content."""
    octets = record(BEGIN_REQUEST, request_id, bytes((0, role, keep, 0, 0, 0, 0, 0)))
    if variables:
        octets += record(PARAMS, request_id, b"".join(encode_pair(*pair) for pair in variables.items()))
    return octets + (record(PARAMS, request_id, b"") if complete else b"")


def stdin(request_id: int, octets: bytes = b"") -> bytes:
    return record(STDIN, request_id, octets)


def abort(request_id: int) -> bytes:
    return record(ABORT_REQUEST, request_id, b"")
