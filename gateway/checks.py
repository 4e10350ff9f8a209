"""One worker is asked for its health: a connection, or a short request in the words of its interface.

Promise: told once, with "" for a good answer, else with what was wrong; nothing is left open.
Must never know: what follows from it. Next: `lookout.py`, who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.ends import OPEN, Address, Close, End, Open, Turn
from gateway.site import SOFTWARE
from gateway.upstreams import terms
from protocols.cgi import ScriptResponseReader
from protocols.fastcgi import GatewayConnection
from protocols.fastcgi_events import EndRequest, Stdout
from protocols.fastcgi_records import ProtocolStatus, Role
from protocols.fastcgi_records import encode_pair as fastcgi_pair
from protocols.http1 import RequestWriter, ResponseReader, tokeniser
from protocols.message import LocalRedirect, RemoteProtocolError, Response
from protocols.scgi import encode_pair as scgi_pair
from protocols.scgi import encode_request

Told = Callable[[str], None]


def ask(turn: Turn, interface: str, address: Address, authority: str, check: terms.Check, told: Told) -> None:
    """Have it asked; `told` is called when that is over."""
    kind = _KINDS[interface] if check.path else Connect
    kind(turn, address, authority, check, told)


class Connect(End):
    """To connect is enough."""

    def __init__(self, turn: Turn, address: Address, authority: str, check: terms.Check, told: Told) -> None:
        super().__init__(turn)
        self.check = check
        self.told = told
        self.fault = f"no connection in {check.timeout_s:g} s"
        self.deadline = turn.now + check.timeout_s
        octets = self.request(authority)
        if octets:
            self.send(octets)
        turn.orders.append(Open(address, self))

    def request(self, authority: str) -> bytes:
        return b""

    def over(self, fault: str) -> None:
        """Known; what comes after it says nothing."""
        if self.closing is OPEN:
            self.fault = fault
            self.close(Close.ABORT)

    def answered(self, events: Sequence[Any]) -> None:
        """The status is all that is wanted."""
        for event in events:
            status = 302 if isinstance(event, LocalRedirect) else event.status if isinstance(event, Response) else 0
            if status >= 200:
                good = self.check.lowest <= status <= self.check.highest
                self.over("" if good else f"it answered {status}")
                return

    def connected(self, now: float) -> None:
        self.over("")

    def expired(self, now: float) -> None:
        self.close(Close.ABORT)

    def lost(self, error: OSError | None, now: float) -> None:
        if error is not None:
            self.fault = error.strerror or str(error)
        self.told(self.fault)


class Asked(Connect):
    """What answers a request."""

    def connected(self, now: float) -> None:
        self.fault = f"no answer in {self.check.timeout_s:g} s"

    def received(self, octets: bytes, now: float) -> None:
        try:
            self.answered(self.events(octets))
        except RemoteProtocolError as error:
            self.over(f"its answer is none: {error.detail}")

    def received_eof(self, now: float) -> None:
        self.over("it closed the connection without an answer")

    def events(self, octets: bytes) -> Sequence[Any]:
        raise NotImplementedError


class Http(Asked):
    def request(self, authority: str) -> bytes:
        self.reader = ResponseReader(tokeniser())
        self.reader.expect(b"GET")
        fields = [(b"Host", authority.encode()), (b"User-Agent", SOFTWARE), (b"Connection", b"close")]
        return RequestWriter().head(b"GET", self.check.path, fields, 0)

    def events(self, octets: bytes) -> Sequence[Any]:
        return self.reader.receive(octets)


class Fastcgi(Asked):
    def request(self, authority: str) -> bytes:
        self.codec = GatewayConnection()
        self.reader = ScriptResponseReader(request_method=b"GET")
        params = b"".join([fastcgi_pair(*pair) for pair in _variables(self.check.path, authority)])
        self.codec.begin(Role.RESPONDER, params, False, b"")
        return b"".join(self.codec.outgoing())

    def events(self, octets: bytes) -> Sequence[Any]:
        found: list[Any] = []
        for event in self.codec.receive(octets):
            if isinstance(event, Stdout):
                found += self.reader.receive(event.octets)
            elif isinstance(event, EndRequest):
                if event.protocol_status is not ProtocolStatus.REQUEST_COMPLETE:
                    self.over(f"it rejected the request: {event.protocol_status.name}")
                    return ()
                found += self.reader.receive_eof()
        return found


class Scgi(Asked):
    def request(self, authority: str) -> bytes:
        self.reader = ScriptResponseReader(request_method=b"GET")
        return encode_request(b"".join([scgi_pair(*pair) for pair in _variables(self.check.path, authority)]), 0)

    def events(self, octets: bytes) -> Sequence[Any]:
        return self.reader.receive(octets)

    def received_eof(self, now: float) -> None:
        try:
            self.answered(self.reader.receive_eof())
        except RemoteProtocolError as error:
            self.over(f"its answer is none: {error.detail}")


_KINDS: dict[str, type[Connect]] = {"http": Http, "fastcgi": Fastcgi, "scgi": Scgi}


def _variables(path: bytes, authority: str) -> list[tuple[bytes, bytes]]:
    """As much as workers expect; php-fpm looks for its ping.path in SCRIPT_NAME."""
    name, _, query = path.partition(b"?")
    host, _, port = authority.rpartition(":")
    return [
        (b"GATEWAY_INTERFACE", b"CGI/1.1"), (b"REQUEST_METHOD", b"GET"), (b"SCRIPT_NAME", name),
        (b"SCRIPT_FILENAME", name), (b"REQUEST_URI", path), (b"QUERY_STRING", query), (b"SERVER_PROTOCOL", b"HTTP/1.1"),
        (b"SERVER_SOFTWARE", SOFTWARE), (b"SERVER_NAME", (host or authority).encode()),
        (b"SERVER_PORT", port.encode() or b"80"), (b"REMOTE_ADDR", b"127.0.0.1"),
    ]  # fmt: skip
