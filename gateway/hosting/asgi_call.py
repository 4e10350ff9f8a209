"""One HTTP request as an ASGI application has it: a coroutine that receives and sends messages.

Promise: exactly one response, or a visible break, whatever the application does; whoever sends waits for room,
whoever receives makes it; a client that has left is told, and never waited for.
Must never know: the front, which loop runs it. Next: `asgi_websocket.py`, the other kind of call.

The coroutine runs in the thread of the rules, between their turns: it enters them to change anything, and they wake it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from gateway.ends import Streams
from gateway.errors import GatewayError
from gateway.hosting.asgi_scope import Scope, scope_of
from gateway.hosting.faults import Disconnected, app_error, code_of, comes_of_leaving, full_traceback, summary
from gateway.hosting.heads import Head, Heads
from protocols.message import ProtocolError, Response

if TYPE_CHECKING:
    from gateway.exchange import Exchange

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

FULL: Final = 64 * 1024
"""Octets of content that may wait for the application."""
TURN_BYTES: Final = 64 * 1024
"""After so many octets, and no wait in between, others have their turn."""


class Bell:
    """Coroutines wait for it to be rung; each looks then whether it was meant."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            self._waiting.remove(future)

    async def turn(self) -> None:
        """Let others have theirs."""
        await asyncio.sleep(0)

    def ring(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class Conversation(Protocol):
    """A call of the application, whatever its kind."""

    exchange: Exchange
    scope: Scope
    gone: bool
    """The exchange wants nothing more of us."""

    async def receive(self) -> Message: ...
    async def send(self, message: Message) -> None: ...
    def returned(self) -> None:
        """The application has returned (in the rules)."""

    def failed(self, error: GatewayError) -> None:
        """It has raised (in the rules)."""

    @property
    def begun(self) -> bool:
        """Whether the client has got some of the response."""

    @property
    def complete(self) -> bool:
        """Whether it has got all."""


async def converse(call: Conversation, app: AsgiApp, streams: Streams, ended: Callable[[], None]) -> None:
    """Call the application; whatever comes of it, the exchange is told, and `ended` is entered."""
    try:
        if not call.gone:
            await app(call.scope, call.receive, call.send)
    except BaseException as error:  # SystemExit, too: an application does not end the server
        _raised(call, app, streams, error)
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # it was not the application that cancelled it
                raise
    else:
        streams.enter(call.returned)
    finally:
        streams.enter(ended)


def _raised(call: Conversation, app: AsgiApp, streams: Streams, error: BaseException) -> None:
    if call.gone and (comes_of_leaving(error) or not isinstance(error, Exception)):
        return  # it has done as it was told
    log = call.exchange.site.stderr_log(call.exchange)
    log.write(full_traceback(error).encode("utf-8", "backslashreplace"))
    if call.complete:
        log.write(f"{summary(error)}: the response was complete before\n".encode("utf-8", "backslashreplace"))
    else:
        streams.enter(call.failed, app_error(error, app, begun=call.begun))


class Answer:
    """A response as messages tell it; checks their order, and counts."""

    __slots__ = ("complete", "ended", "exchange", "head", "heads", "kind", "rest", "sent", "to_head")

    def __init__(self, exchange: Exchange, heads: Heads, kind: str) -> None:
        """`kind`: what the types of the messages begin with."""
        self.exchange = exchange
        self.heads = heads
        self.kind = kind
        self.head: Head | None = None
        self.sent = False
        """Whether the head has left."""
        self.complete = False
        """Whether the application has said all."""
        self.ended = False
        """Whether the client has got all."""
        self.rest = -1
        """Octets of content that have still to come, -1 where no length was given."""
        self.to_head = exchange.request.method == b"HEAD"

    def start(self, message: Mapping[str, Any]) -> None:
        """The head: kept until there is content, or none."""
        if self.head is not None:
            raise RuntimeError(f"{self.kind}.start was sent a second time")
        head = self.heads.asgi(message.get("status"), message.get("headers", ()))
        self.head = head
        if head.length is not None and not head.bare and not self.to_head:
            self.rest = head.length

    def body(self, message: Mapping[str, Any]) -> tuple[Response | None, bytes, bool]:
        """What of the response leaves now: its head, octets of content, and whether that is all."""
        head = self.head
        if head is None or self.complete:
            how = f"before {self.kind}.start" if head is None else "after the response was complete"
            raise RuntimeError(f"{self.kind}.body was sent {how}")
        octets = message.get("body", b"")
        if type(octets) is not bytes:
            if not isinstance(octets, (bytes, bytearray, memoryview)):
                raise TypeError(f"the body of a response has to be bytes, not {type(octets).__name__}")
            octets = bytes(octets)
        more = bool(message.get("more_body", False))
        length = head.length
        ended = not more
        if self.to_head or head.bare:
            if octets and not self.to_head:
                self._overrun()
            if length is None and self.to_head and ended and not head.bare and not self.sent:
                length = len(octets)
            octets = b""
            ended = True  # nothing more of it could reach the client
        elif self.rest >= 0:
            if len(octets) > self.rest:
                self._overrun()
                octets = octets[: self.rest]
            if not more and len(octets) < self.rest:
                written = (length or 0) - self.rest + len(octets)
                raise RuntimeError(f"Content-Length is {length}, and only {written} octets of content came")
            self.rest -= len(octets)
            ended = not self.rest
        elif length is None and not self.sent and ended:
            length = len(octets)
        self.complete = not more
        if self.ended:
            return None, b"", False
        response = None if self.sent else head.response(length)
        self.sent = True
        self.ended = ended
        return response, octets, ended

    def _overrun(self) -> None:
        self.exchange.site.report_overrun(self.exchange)


class HttpCall:
    """One call of the application for a request (Call for the exchange, AsyncWork for the driver)."""

    __slots__ = (
        "answer", "app", "bell", "content_complete", "content_given", "ended", "exchange", "gone", "held", "passed",
        "pieces", "scope", "streams", "upstream", "waits", "wanted",
    )  # fmt: skip

    def __init__(
        self, app: AsgiApp, exchange: Exchange, heads: Heads, state: dict[str, Any], ended: Callable[[], None]
    ) -> None:
        self.app = app
        self.exchange = exchange
        self.ended = ended
        self.upstream = ""
        self.scope = scope_of(exchange, "http", state)
        self.answer = Answer(exchange, heads, "http.response")
        self.bell = Bell()
        self.streams: Streams | None = None
        self.pieces: list[bytes] = []
        self.held = 0
        """Octets in `pieces`."""
        self.content_complete = False
        self.content_given = False
        """Whether the application knows that."""
        self.waits = False
        """Whether more content can be had from the exchange."""
        self.wanted = True
        """Whether the response may come."""
        self.gone = False
        self.passed = 0
        """Octets that came and went since others had a turn."""

    # ------------------------------------------------------------------ for the exchange (Call)

    def content(self, octets: bytes) -> None:
        self.pieces.append(octets)
        self.held += len(octets)
        self.bell.ring()

    def content_end(self) -> None:
        self.content_complete = True
        self.bell.ring()

    def abort(self, *, client_left: bool = False) -> None:
        self.gone = True
        self.bell.ring()

    def read(self, wanted: bool) -> None:
        self.wanted = wanted
        if wanted:
            self.bell.ring()

    @property
    def full(self) -> bool:
        return self.held > FULL

    def room(self) -> None:
        self.waits = True

    # ------------------------------------------------------------------ in the rules

    def _pump(self) -> None:
        if not self.gone:
            self.exchange.pump()

    def _deliver(self, response: Response | None, octets: bytes, end: bool) -> None:
        if not self.gone and deliver(self.exchange, response, octets, end):
            self.gone = True
            self.bell.ring()

    def returned(self) -> None:
        if self.gone or self.answer.ended:
            return
        what = "in the middle of its response, which was cut" if self.begun else "without a response"
        where = code_of(self.app)
        self.exchange.failed(
            GatewayError(
                500, "app-error", f"the application returned {what}" + (f" ({where})" if where else ""),
                "the last http.response.body it sends has no more_body",
            )
        )  # fmt: skip

    def failed(self, error: GatewayError) -> None:
        if not self.gone:
            self.exchange.failed(error)

    # ------------------------------------------------------------------ for the application

    async def run(self, streams: Streams) -> None:
        self.streams = streams
        await converse(self, self.app, streams, self.ended)

    @property
    def begun(self) -> bool:
        return self.answer.sent

    @property
    def complete(self) -> bool:
        return self.answer.ended

    async def receive(self) -> Message:
        """`http.request` for each piece of content, then `http.disconnect`: the client has left, or has its response."""
        assert self.streams is not None
        while True:
            if self.gone:
                await self.bell.turn()  # whoever does not listen, and asks again and again, stops nobody
                return {"type": "http.disconnect"}
            if self.pieces or (self.content_complete and not self.content_given):
                octets = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
                self.pieces.clear()
                self.held = 0
                self.content_given = self.content_complete
                if self.waits:
                    self.waits = False
                    self.streams.enter(self._pump)
                await self._others(len(octets))
                return {"type": "http.request", "body": octets, "more_body": not self.content_given}
            if self.waits:
                self.waits = False
                self.streams.enter(self._pump)
            else:
                await self.bell.wait()

    async def send(self, message: Message) -> None:
        """`http.response.start` and `http.response.body`. Raises Disconnected, RuntimeError, TypeError, ValueError."""
        assert self.streams is not None
        kind = message["type"]
        if self.gone and not self.answer.ended:
            raise Disconnected("the client has left")
        if kind == "http.response.start":
            self.answer.start(message)
        elif kind == "http.response.body":
            response, octets, end = self.answer.body(message)
            if response is None and not octets and not end:
                return
            self.streams.enter(self._deliver, response, octets, end)
            await self._others(len(octets))
            while not self.wanted and not self.gone:
                await self.bell.wait()
        elif kind != "http.response.trailers":  # which was not offered, and harms nobody
            raise RuntimeError(f"{kind} is no message to an HTTP client")

    async def _others(self, octets: int) -> None:
        """Whoever finds its content here, and its client fast, never waits: others shall have their turn."""
        self.passed += octets
        if self.passed > TURN_BYTES:
            self.passed = 0
            await self.bell.turn()


def deliver(exchange: Exchange, response: Response | None, octets: bytes, end: bool) -> bool:
    """Some of a response, in the rules; whether the exchange is over."""
    try:
        if response is not None:
            exchange.respond(response)
        if octets:
            exchange.response_content(octets)
    except ProtocolError as error:
        exchange.failed(GatewayError(500, "app-error", f"the application's response can't be encoded: {error.detail}"))
        return True
    if end:
        exchange.call = None
        exchange.response_end()
    else:
        exchange.wait_for_more()
    return end
