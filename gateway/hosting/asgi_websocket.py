"""One WebSocket as an ASGI application has it: messages both ways once it has accepted (RFC 6455).

Promise: what is no handshake never reaches the application; frames are wsproto's business; a message is bounded, and
no more of them wait than fit into `FULL` octets and the one before; both sides learn how it ended.
Must never know: the front. Next: `asgi_call.py`, what it shares with an HTTP request.

No compression is offered: a frame that grows a thousandfold could not be bounded before it is in memory.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import io
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from gateway.ends import Streams
from gateway.errors import GatewayError, Side
from gateway.hosting.asgi_call import FULL, TURN_BYTES, Answer, AsgiApp, Bell, Message, converse, deliver
from gateway.hosting.asgi_scope import scope_of
from gateway.hosting.faults import Disconnected, code_of
from gateway.hosting.heads import Heads
from protocols.fields import all_values, first, has_token
from protocols.message import FieldLine, Request, Response

if TYPE_CHECKING:
    from gateway.exchange import Exchange

MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""The longest message that is taken from a client."""
CLOSING_S: Final = 10.0
"""How long the client may take to answer our Close frame."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_VERSION: Final = b"13"
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
TOO_BIG: Final = 1009
INTERNAL: Final = 1011


class Phase(enum.Enum):
    CONNECTING = "connecting"  # the application has neither accepted nor refused
    OPEN = "open"
    CLOSING = "closing"  # we have said Close, the client has not
    REFUSING = "refusing"  # the application answers with a response of its own
    OVER = "over"


CONNECTING, OPEN, CLOSING, REFUSING, OVER = Phase


def opens_websocket(exchange: Exchange) -> bool:
    """Whether a request asks for a WebSocket: by HTTP/1.1, with GET, without content (RFC 6455 4.1)."""
    request = exchange.request
    return (
        bool(request.upgrade) and exchange.client.variables is None and request.method == b"GET" and request.length == 0
        and request.version != b"HTTP/1.0" and has_token(request.upgrade, b"websocket")
    )  # fmt: skip


def check_handshake(request: Request) -> None:
    """Raises GatewayError 400 (RFC 6455 4.2)."""
    if first(request.fields, b"sec-websocket-version") != _VERSION:
        raise GatewayError(
            400, "websocket-version", "Sec-WebSocket-Version is not 13", side=Side.CLIENT,
            fields=((b"Sec-WebSocket-Version", _VERSION),),
        )  # fmt: skip
    try:
        keys = [base64.b64decode(key, validate=True) for key in all_values(request.fields, b"sec-websocket-key")]
    except binascii.Error:
        keys = []
    if [len(key) for key in keys] != [16]:
        raise GatewayError(400, "websocket-key", "Sec-WebSocket-Key has to be 16 octets in base64", side=Side.CLIENT)


class WebSocketCall:
    """One call of the application for a WebSocket (Call for the exchange, AsyncWork for the driver)."""

    __slots__ = (
        "answer", "app", "bell", "closing_since", "code", "codec", "connected", "ended", "exchange", "gone", "heads", "held",
        "inbox", "parts", "passed", "phase", "reason", "scope", "size", "streams", "upstream", "waits", "wanted",
    )  # fmt: skip

    def __init__(
        self, app: AsgiApp, exchange: Exchange, heads: Heads, state: dict[str, Any], ended: Callable[[], None]
    ) -> None:
        self.app = app
        self.exchange = exchange
        self.ended = ended
        self.heads = heads
        self.upstream = ""
        self.scope = scope_of(exchange, "websocket", state)
        offered = b",".join(all_values(exchange.request.fields, b"sec-websocket-protocol")).decode("latin-1")
        self.scope["subprotocols"] = [name.strip() for name in offered.split(",") if name.strip()]
        self.scope["extensions"] = {"websocket.http.response": {}}
        self.answer = Answer(exchange, heads, "websocket.http.response")
        self.codec = Connection(ConnectionType.SERVER)
        self.bell = Bell()
        self.streams: Streams | None = None
        self.phase = CONNECTING
        self.connected = False
        """Whether the application knows of the client."""
        self.inbox: deque[tuple[Message, int]] = deque()
        """Messages that the application has not received, and how long they are."""
        self.held = 0
        self.parts: Any = None
        """A message of which some is missing, as a file: fragments can be many."""
        self.size = 0
        """Of that message: characters, or octets."""
        self.code = ABNORMAL
        self.reason = ""
        self.closing_since = 0.0
        self.waits = False
        """Whether more can be had from the exchange."""
        self.wanted = True
        """Whether the client takes more."""
        self.gone = False
        self.passed = 0

    # ------------------------------------------------------------------ for the exchange (Call)

    def content(self, octets: bytes) -> None:
        if self.gone:
            return
        self.codec.receive_data(octets)
        for event in self.codec.events():
            if not self._goes_on_after(event):
                return

    def content_end(self) -> None:
        """A WebSocket has no other end than Close, or that of its connection."""

    def abort(self, *, client_left: bool = False) -> None:
        self._over()

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

    def _goes_on_after(self, event: Event) -> bool:
        """Deal with what came of the client's octets."""
        if isinstance(event, (TextMessage, BytesMessage)):
            self._message(event)
        elif isinstance(event, Ping):
            if self.phase is OPEN:
                self._write(event.response())
        elif isinstance(event, CloseConnection):  # it says so, or it has broken the protocol
            if self.phase is OPEN:
                self.code = int(event.code)
                self.reason = event.reason or ""
                self._write(event.response())
            self._end()
        return not self.gone

    def _message(self, event: TextMessage | BytesMessage) -> None:
        if self.phase is not OPEN:
            return
        self.size += len(event.data)
        if self.size > MESSAGE_BYTES:
            self._close(TOO_BIG, f"a message is longer than {MESSAGE_BYTES} octets")
            return
        data: str | bytes
        if self.parts is None and event.message_finished:
            data = event.data if isinstance(event, TextMessage) else bytes(event.data)
        else:
            if self.parts is None:
                self.parts = io.StringIO() if isinstance(event, TextMessage) else io.BytesIO()
            self.parts.write(event.data)
            if not event.message_finished:
                return
            data = self.parts.getvalue()
            self.parts = None
        self.inbox.append(({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}, self.size))
        self.held += self.size + 1  # empty ones count, too
        self.size = 0
        self.bell.ring()

    def _write(self, event: Event) -> None:
        self.exchange.response_content(bytes(self.codec.send(event)))

    def _send_octets(self, octets: bytes) -> None:
        if self.phase is OPEN:
            self.exchange.response_content(octets)

    def _close(self, code: int, reason: str) -> None:
        """Say Close; the client's own is waited for, in `tick`."""
        if self.phase is OPEN:
            self.phase = CLOSING
            self.code = code
            self.reason = reason
            self.closing_since = self.exchange.site.turn.now
            self.parts = None
            self._write(CloseConnection(code, reason))
            self.bell.ring()

    def _end(self) -> None:
        """Nothing more will pass: close the connection, once what was written is with the client."""
        self._over()
        self.exchange.call = None
        self.exchange.response_end()

    def _over(self) -> None:
        self.gone = True
        self.phase = OVER
        self.parts = None
        self.bell.ring()

    def tick(self, now: float) -> None:
        """The client may have forgotten to answer our Close."""
        if self.phase is CLOSING and now - self.closing_since >= CLOSING_S:
            self._end()

    def going_away(self) -> None:
        """The server ends."""
        self._close(GOING_AWAY, "")
        if not self.gone and self.phase is CLOSING:
            self._end()

    def _accept(self, response: Response) -> None:
        if not self.gone:
            self.phase = OPEN
            self.exchange.respond(response)

    def _deliver(self, response: Response | None, octets: bytes, end: bool) -> None:
        if not self.gone and deliver(self.exchange, response, octets, end):
            self._over()

    def _pump(self) -> None:
        if not self.gone:
            self.exchange.pump()

    def returned(self) -> None:
        if self.phase is OPEN:
            self._close(NORMAL, "")
        elif self.phase in (CONNECTING, REFUSING):
            where = code_of(self.app)
            told = "the application returned without an answer to a WebSocket" + (f" ({where})" if where else "")
            remedy = "it sends websocket.accept or websocket.close"
            self.exchange.failed(GatewayError(500, "app-error", told, remedy))

    def failed(self, error: GatewayError) -> None:
        if self.phase is OPEN:
            self.exchange.site.report_failure(self.exchange, error)
            self._close(INTERNAL, "")
        elif self.phase in (CONNECTING, REFUSING):
            self.exchange.failed(error)

    # ------------------------------------------------------------------ for the application

    async def run(self, streams: Streams) -> None:
        self.streams = streams
        await converse(self, self.app, streams, self.ended)

    @property
    def begun(self) -> bool:
        return self.phase is OPEN or self.answer.sent

    @property
    def complete(self) -> bool:
        return self.phase in (CLOSING, OVER)

    async def receive(self) -> Message:
        """`websocket.connect`, `websocket.receive` for each message, then `websocket.disconnect`."""
        assert self.streams is not None
        if not self.connected:
            self.connected = True
            return {"type": "websocket.connect"}
        while True:
            if self.inbox:
                message, size = self.inbox.popleft()
                self.held -= size + 1
                if self.waits and not self.full:
                    self.waits = False
                    self.streams.enter(self._pump)
                return message
            if self.complete:
                await self.bell.turn()
                return {"type": "websocket.disconnect", "code": self.code, "reason": self.reason}
            if self.waits:
                self.waits = False
                self.streams.enter(self._pump)
            else:
                await self.bell.wait()

    async def send(self, message: Message) -> None:
        """Raises Disconnected, RuntimeError, TypeError, ValueError."""
        assert self.streams is not None
        kind = message["type"]
        phase = self.phase
        if phase is OVER and not self.answer.ended:
            raise Disconnected("the client has left, or the WebSocket is closed")
        if phase is OPEN and kind == "websocket.send":
            await self._send_message(message)
        elif phase is OPEN and kind == "websocket.close":
            code = message.get("code", NORMAL)
            if not isinstance(code, int) or not 1000 <= code <= 4999 or code in (NO_STATUS, ABNORMAL, 1015):
                raise ValueError(f"{code!r} is no code that a WebSocket is closed with")
            reason = str(message.get("reason") or "").encode("utf-8", "replace").decode()
            self.streams.enter(self._close, code, reason)
        elif phase is CONNECTING and kind == "websocket.accept":
            self.streams.enter(self._accept, self._accepted(message))
        elif phase is CONNECTING and kind == "websocket.close":
            self.streams.enter(self._deliver, Response(403, (), length=0), b"", True)
        elif phase is CONNECTING and kind == "websocket.http.response.start":
            self.answer.start(message)
            self.phase = REFUSING
        elif (phase is REFUSING or self.answer.ended) and kind == "websocket.http.response.body":
            response, octets, end = self.answer.body(message)
            self.streams.enter(self._deliver, response, octets, end)
            while not self.wanted and not self.gone:
                await self.bell.wait()
        else:
            raise RuntimeError(f"{kind} was sent to a WebSocket that is {phase.value}")

    async def _send_message(self, message: Message) -> None:
        assert self.streams is not None
        text, octets = message.get("text"), message.get("bytes")
        if (text is None) is (octets is None):
            raise ValueError("websocket.send has to hold either text or bytes")
        if text is not None:
            if not isinstance(text, str):
                raise TypeError(f"the text of websocket.send has to be a str, not {type(text).__name__}")
            frame = bytes(self.codec.send(TextMessage(text)))
        else:
            if not isinstance(octets, (bytes, bytearray, memoryview)):
                raise TypeError(f"the bytes of websocket.send have to be bytes, not {type(octets).__name__}")
            frame = bytes(self.codec.send(BytesMessage(bytes(octets))))
        self.streams.enter(self._send_octets, frame)
        self.passed += len(frame)
        if self.passed > TURN_BYTES:
            self.passed = 0
            await self.bell.turn()
        while not self.wanted and not self.gone:
            await self.bell.wait()

    def _accepted(self, message: Message) -> Response:
        """101, with what the application adds (RFC 6455 4.2.2)."""
        key = first(self.exchange.request.fields, b"sec-websocket-key") or b""
        digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
        fields: list[FieldLine] = [
            (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", base64.b64encode(digest)),
        ]  # fmt: skip
        chosen = message.get("subprotocol")
        if chosen is not None:
            if chosen not in self.scope["subprotocols"]:
                raise ValueError(f"the subprotocol {chosen!r} is none of those that the client speaks")
            fields.append((b"Sec-WebSocket-Protocol", chosen.encode("latin-1")))
        own = self.heads.asgi(200, message.get("headers") or ()).fields
        fields += [line for line in own if not line[0].lower().startswith((b"sec-websocket-", b"content-length"))]
        return Response(101, fields)
