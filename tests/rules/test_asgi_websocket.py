"""WebSockets of the interface `asgi`, as conversations (RFC 6455): wsproto is the client, too."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from gateway.hosting import asgi_websocket
from tests.rules.playbook import EOF, LINGER, LOST
from tests.rules.stage import AsyncStage, WebServer

Stages = Callable[..., AsyncStage]
KEY = base64.b64encode(b"0123456789abcdef").decode()
ACCEPT = base64.b64encode(hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
FIELDS = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
HEAD = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n"
Message = dict[str, Any]


@pytest.fixture
def stage() -> Iterator[Stages]:
    made: list[AsyncStage] = []

    def make(app: Any, **options: Any) -> AsyncStage:
        made.append(AsyncStage(app, **options))
        return made[-1]

    yield make
    for one in made:
        one.all_leave()
        assert "defect" not in one.log.text


class App:
    """Does what the test says: `await` what it receives, send what it is told."""

    def __init__(self, *first: Message) -> None:
        self.first = first
        self.got: list[Message] = []
        self.raised: list[BaseException] = []
        self.scope: dict[str, Any] = {}
        self.orders: asyncio.Queue[Message | BaseException | None] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        listener = asyncio.create_task(self.listen(receive))
        for message in self.first:
            await send(message)
        try:
            while (order := await self.orders.get()) is not None:
                if isinstance(order, BaseException):
                    raise order
                try:
                    await send(order)
                except (OSError, RuntimeError, ValueError, TypeError) as error:
                    self.raised.append(error)
        finally:
            listener.cancel()

    async def listen(self, receive: Any) -> None:
        while not self.got or not self.got[-1]["type"].endswith(".disconnect"):
            self.got.append(await receive())


class Client:
    """The other side of the WebSocket."""

    def __init__(self, talk: AsyncStage, app: App, *fields: str) -> None:
        self.talk = talk
        self.app = app
        self.codec = Connection(ConnectionType.CLIENT)
        talk.client.get("/chat?room=1", *FIELDS, *fields)

    def say(self, *events: Event) -> None:
        self.talk.client.say(b"".join(self.codec.send(event) for event in events))

    def heard(self) -> list[Event]:
        self.codec.receive_data(self.talk.client.take())
        return list(self.codec.events())

    def tell(self, order: Message | BaseException | None) -> None:
        """What the application does next."""
        self.app.orders.put_nowait(order)
        self.talk.settle()

    def leave(self) -> None:
        self.talk.client >> LOST
        self.app.orders.put_nowait(None)
        self.talk.settle()


ACCEPTED = {"type": "websocket.accept"}


def opened(stage: Stages, *fields: str, **options: Any) -> Client:
    app = App(ACCEPTED)
    talk = stage(app, **options)
    client = Client(talk, app, *fields)
    talk.client << HEAD.encode() + b"\r\n"
    return client


# ---------------------------------------------------------------------- the handshake


def test_a_scope(stage: Stages) -> None:
    client = opened(stage, "Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Protocol: third")
    scope = client.app.scope
    wanted = {
        "type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "scheme": "ws",
        "path": "/chat", "query_string": b"room=1", "subprotocols": ["chat", "superchat", "third"],
    }  # fmt: skip
    assert {name: scope[name] for name in wanted} == wanted
    assert "method" not in scope
    assert (b"sec-websocket-key", KEY.encode()) in scope["headers"]
    assert client.app.got == [{"type": "websocket.connect"}]
    client.leave()


def test_the_application_chooses_a_protocol_and_adds_fields(stage: Stages) -> None:
    headers = [(b"Set-Cookie", b"a=1"), (b"Connection", b"close"), (b"sec-websocket-extensions", b"x")]
    app = App(dict(ACCEPTED, subprotocol="superchat", headers=headers))
    talk = stage(app)
    client = Client(talk, app, "Sec-WebSocket-Protocol: chat, superchat")
    talk.client << HEAD.encode() + b"Sec-WebSocket-Protocol: superchat\r\nSet-Cookie: a=1\r\n\r\n"
    client.leave()


def test_one_that_nobody_offered_is_an_error(stage: Stages) -> None:
    app = App(dict(ACCEPTED, subprotocol="other"))
    talk = stage(app)
    Client(talk, app, "Sec-WebSocket-Protocol: chat")
    assert talk.client.answer().status == 500
    assert "'other' is none of those that the client speaks" in talk.log.text


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (FIELDS[:3], 400),
        ((*FIELDS[:3], "Sec-WebSocket-Version: 8"), 400),
        ((*FIELDS[:2], FIELDS[3]), 400),
        ((*FIELDS[:2], "Sec-WebSocket-Key: short", FIELDS[3]), 400),
        ((*FIELDS[:2], "Sec-WebSocket-Key: =====", FIELDS[3]), 400),
        ((*FIELDS, FIELDS[2]), 400),
    ],
)
def test_what_is_no_handshake_does_not_reach_it(stage: Stages, fields: tuple[str, ...], status: int) -> None:
    app = App()
    talk = stage(app)
    talk.client.get("/", *fields)
    answer = talk.client.answer()
    assert (answer.status, answer.fields.get("sec-websocket-version", "13")) == (status, "13")
    assert not app.scope


@pytest.mark.parametrize("how", ["POST", "HTTP/1.0", "h2c", "content", "no Connection"])
def test_what_does_not_ask_for_a_websocket_is_a_plain_request(stage: Stages, how: str) -> None:
    app = App({"type": "http.response.start", "status": 200}, {"type": "http.response.body"})
    talk = stage(app)
    match how:
        case "POST":
            talk.client.get("/", *FIELDS, method="POST")
        case "HTTP/1.0":
            talk.client.get("/", *FIELDS, version="1.0")
        case "h2c":
            talk.client.get("/", FIELDS[0], "Upgrade: h2c", *FIELDS[2:])
        case "content":
            talk.client.post("/", b"x", *FIELDS, method="GET")
        case _:
            talk.client.get("/", *FIELDS[1:])
    assert talk.client.answer().status == 200
    assert app.scope["type"] == "http"
    app.orders.put_nowait(None)
    talk.settle()


def test_a_web_server_has_no_websockets(stage: Stages) -> None:
    app = App({"type": "http.response.start", "status": 200}, {"type": "http.response.body"})
    talk = stage(app, http=False)
    variables = {b"REQUEST_METHOD": b"GET", b"HTTP_UPGRADE": b"websocket", b"HTTP_SEC_WEBSOCKET_VERSION": b"13"}
    assert WebServer(talk, variables).state == "finished"
    assert app.scope["type"] == "http"
    app.orders.put_nowait(None)
    talk.settle()


def test_a_close_before_it_is_a_403(stage: Stages) -> None:
    app = App({"type": "websocket.close"})
    talk = stage(app)
    client = Client(talk, app)
    answer = talk.client.answer()
    assert (answer.status, answer.complete) == (403, True)
    assert app.got[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    client.tell(ACCEPTED)
    assert isinstance(app.raised[0], OSError)
    client.tell(None)
    assert not talk.log.lines


def test_it_may_refuse_with_a_response_of_its_own(stage: Stages) -> None:
    start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]}
    app = App(start, {"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
    talk = stage(app)
    client = Client(talk, app)
    client.tell({"type": "websocket.http.response.body", "body": b"are you?"})
    answer = talk.client.answer()
    assert (answer.status, answer.fields["www-authenticate"], answer.content) == (401, "Basic", b"who are you?")
    assert app.got[-1]["type"] == "websocket.disconnect"
    client.tell({"type": "websocket.http.response.body"})
    assert "after the response was complete" in str(app.raised[0])
    client.tell(None)
    assert not talk.log.lines


@pytest.mark.parametrize("first", [[], [{"type": "websocket.http.response.start", "status": 401}]])
def test_one_that_returns_without_an_answer_is_a_500(stage: Stages, first: list[Message]) -> None:
    app = App(*first)
    talk = stage(app)
    client = Client(talk, app)
    client.tell(None)
    assert talk.client.answer().status == 500
    assert "returned without an answer to a WebSocket" in talk.log.text


def test_one_that_raises_before_it_is_a_500(stage: Stages) -> None:
    app = App()
    talk = stage(app)
    client = Client(talk, app)
    client.tell(ValueError("broken"))
    assert talk.client.answer().status == 500
    assert "ValueError: broken" in talk.log.text


def test_a_client_that_leaves_before_it(stage: Stages) -> None:
    app = App()
    talk = stage(app)
    client = Client(talk, app)
    client.leave()
    assert app.got[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    assert talk.accesses.statuses == [499]


# ---------------------------------------------------------------------- messages


def test_messages_both_ways(stage: Stages) -> None:
    client = opened(stage)
    client.say(TextMessage("caf\xe9"), BytesMessage(b"\x00\xff"), TextMessage(""))
    assert client.app.got[1:] == [
        {"type": "websocket.receive", "text": "caf\xe9"},
        {"type": "websocket.receive", "bytes": b"\x00\xff"},
        {"type": "websocket.receive", "text": ""},
    ]
    assert type(client.app.got[2]["bytes"]) is bytes
    client.tell({"type": "websocket.send", "text": "h\xe9"})
    client.tell({"type": "websocket.send", "bytes": b"\x01", "text": None})
    client.tell({"type": "websocket.send", "bytes": bytearray(100_000)})
    texts = client.heard()
    assert texts[:2] == [TextMessage("h\xe9"), BytesMessage(b"\x01")]
    assert sum(len(event.data) for event in texts[2:] if isinstance(event, BytesMessage)) == 100_000
    client.leave()


def test_what_came_with_the_handshake_is_heard(stage: Stages) -> None:
    app = App(ACCEPTED)
    talk = stage(app)
    codec = Connection(ConnectionType.CLIENT)
    lines = ["GET / HTTP/1.1", "Host: x", *FIELDS, "", ""]
    talk.client >> "\r\n".join(lines).encode() + codec.send(TextMessage("eager"))
    assert app.got[1:] == [{"type": "websocket.receive", "text": "eager"}]
    talk.client >> LOST
    app.orders.put_nowait(None)
    talk.settle()


def test_fragments_and_single_octets(stage: Stages) -> None:
    client = opened(stage)
    octets = client.codec.send(TextMessage("ca", message_finished=False))
    octets += client.codec.send(Ping(b"between"))
    octets += client.codec.send(TextMessage("f\xe9", message_finished=True))
    octets += client.codec.send(BytesMessage(b"x" * 70_000))
    for at in range(60):
        client.talk.client.say(octets[at : at + 1])
    client.talk.client.say(octets[60:])
    assert client.app.got[1:] == [
        {"type": "websocket.receive", "text": "caf\xe9"},
        {"type": "websocket.receive", "bytes": b"x" * 70_000},
    ]
    assert client.heard() == [Pong(b"between")]
    client.leave()


def test_a_pong_is_nobodys_business(stage: Stages) -> None:
    client = opened(stage)
    client.say(Pong(b"unasked"))
    assert len(client.app.got) == 1
    client.leave()


@pytest.mark.parametrize("event", [TextMessage, BytesMessage])
def test_a_message_that_is_too_long_ends_it(stage: Stages, monkeypatch: pytest.MonkeyPatch, event: Any) -> None:
    monkeypatch.setattr(asgi_websocket, "MESSAGE_BYTES", 1000)
    client = opened(stage)
    data = "x" * 600 if event is TextMessage else b"x" * 600
    client.say(event(data), event(data, message_finished=False), event(data))
    assert [message["type"] for message in client.app.got[1:]] == ["websocket.receive", "websocket.disconnect"]
    assert client.app.got[-1]["code"] == 1009
    [close] = client.heard()
    assert isinstance(close, CloseConnection) and close.code == 1009
    client.say(close.response())
    client.talk.client << LINGER
    client.tell(None)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"\x81\x01x", 1002),  # not masked
        (b"\x83\x80\0\0\0\0", 1002),  # an opcode that there is not
        (b"\x81\x81\0\0\0\0\xff", 1007),  # no UTF-8
        (b"\xc1\x81\0\0\0\0x", 1002),  # a bit of an extension that nobody negotiated
        (b"\x88\x81\0\0\0\0x", 1002),  # a Close with half a code
    ],
)
def test_what_breaks_the_protocol_ends_it(stage: Stages, octets: bytes, code: int) -> None:
    client = opened(stage)
    client.talk.client >> octets
    assert (client.app.got[-1]["type"], client.app.got[-1]["code"]) == ("websocket.disconnect", code)
    [close] = client.heard()
    assert isinstance(close, CloseConnection) and close.code == code
    client.talk.client << LINGER
    client.tell(None)
    assert not client.talk.log.lines


def test_what_the_application_does_not_receive_waits_outside(stage: Stages) -> None:
    client = opened(stage)
    client.talk.interrupts = False
    for _ in range(10):
        client.say(BytesMessage(b"x" * 20_000))
    assert len(client.talk.client.on_the_way) >= 4
    client.talk.interrupts = True
    client.talk.settle()
    assert [len(message["bytes"]) for message in client.app.got[1:]] == [20_000] * 10
    client.leave()


def test_a_slow_client_holds_the_application_back(stage: Stages) -> None:
    client = opened(stage)
    client.talk.client.room = 1500
    for number in range(5):
        client.tell({"type": "websocket.send", "text": f"{number}" * 1000})
    assert client.app.orders.qsize() == 3
    client.talk.client.takes_all()
    assert client.app.orders.qsize() == 0
    assert "".join(str(event.data) for event in client.heard())[::1000] == "01234"  # type: ignore[attr-defined]
    client.leave()


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        ({"type": "websocket.send"}, ValueError, "either text or bytes"),
        ({"type": "websocket.send", "text": "a", "bytes": b"b"}, ValueError, "either text or bytes"),
        ({"type": "websocket.send", "text": b"a"}, TypeError, "has to be a str"),
        ({"type": "websocket.send", "bytes": "a"}, TypeError, "have to be bytes"),
        ({"type": "websocket.send", "text": "\udc80"}, ValueError, "surrogates"),
        ({"type": "websocket.accept"}, RuntimeError, "websocket.accept was sent to a WebSocket that is open"),
        ({"type": "http.response.start", "status": 200}, RuntimeError, "to a WebSocket that is open"),
        ({"type": "websocket.close", "code": 1006}, ValueError, "1006 is no code"),
        ({"type": "websocket.close", "code": 70_000}, ValueError, "70000 is no code"),
        ({"type": "websocket.close", "code": "x"}, ValueError, "'x' is no code"),
    ],
)
def test_messages_out_of_order_or_shape(stage: Stages, message: Message, kind: type[Exception], said: str) -> None:
    client = opened(stage)
    client.tell(message)
    assert isinstance(client.app.raised[0], kind)
    assert said in str(client.app.raised[0])
    client.tell({"type": "websocket.send", "text": "still there"})
    assert client.heard() == [TextMessage("still there")]
    client.leave()


# ---------------------------------------------------------------------- the end


def test_the_client_closes(stage: Stages) -> None:
    client = opened(stage)
    client.say(TextMessage("last"), CloseConnection(3001, "bye"))
    assert client.app.got[1:] == [
        {"type": "websocket.receive", "text": "last"},
        {"type": "websocket.disconnect", "code": 3001, "reason": "bye"},
    ]
    assert client.heard() == [CloseConnection(3001, "bye")]
    client.talk.client << LINGER
    client.tell({"type": "websocket.send", "text": "too late"})
    assert isinstance(client.app.raised[0], OSError)
    client.tell(None)
    assert client.talk.accesses.statuses == [101]
    assert not client.talk.log.lines


def test_the_client_closes_without_a_code(stage: Stages) -> None:
    client = opened(stage)
    client.talk.client >> b"\x88\x80\0\0\0\0"
    assert client.app.got[-1] == {"type": "websocket.disconnect", "code": 1005, "reason": ""}
    client.talk.client << b"\x88\x00" << LINGER
    client.tell(None)


@pytest.mark.parametrize("sign", [LOST, EOF])
def test_the_client_is_lost(stage: Stages, sign: Any) -> None:
    client = opened(stage)
    client.talk.client >> sign
    assert client.app.got[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    client.tell(None)
    assert not client.talk.log.lines


def test_the_application_closes(stage: Stages) -> None:
    client = opened(stage)
    client.tell({"type": "websocket.close", "code": 4000, "reason": "caf\xe9 " + "x" * 200 + "\udc80"})
    [close] = client.heard()
    assert isinstance(close, CloseConnection) and close.code == 4000 and (close.reason or "").startswith("caf\xe9 xx")
    assert client.app.got[-1]["code"] == 4000
    client.tell({"type": "websocket.send", "text": "too late"})
    assert "a WebSocket that is closing" in str(client.app.raised[0])
    client.talk.client << None  # until the client has answered
    client.talk.client.say(Connection(ConnectionType.CLIENT).send(TextMessage("crossing")))
    client.say(close.response())
    client.talk.client << LINGER
    client.tell(None)
    assert len(client.app.got) == 2


def test_a_client_that_does_not_answer_is_not_waited_for(stage: Stages) -> None:
    client = opened(stage)
    client.tell(None)
    assert client.heard() == [CloseConnection(1000, "")]
    client.talk.wait(9)
    client.talk.client << None
    client.talk.wait(2)
    client.talk.client << LINGER


def test_an_application_that_raises_closes_with_1011(stage: Stages) -> None:
    client = opened(stage)
    client.tell(ValueError("broken"))
    assert client.heard() == [CloseConnection(1011, "")]
    assert "500 app-error: the application raised ValueError: broken" in client.talk.log.text
    client.say(CloseConnection(1011))
    client.talk.client << LINGER


def test_one_that_raises_since_the_client_left_is_not_blamed(stage: Stages) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPTED)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await send({"type": "websocket.send", "text": "are you there?"})

    talk = stage(app)
    talk.client.get("/", *FIELDS)
    talk.client >> LOST
    assert not talk.log.lines


def test_a_server_that_ends_says_so(stage: Stages) -> None:
    client = opened(stage)
    client.talk.interface().close()
    client.talk.settle()
    assert client.heard() == [CloseConnection(1001, "")]
    client.talk.client << LINGER
    assert client.app.got[-1]["code"] == 1001
    client.tell(None)
