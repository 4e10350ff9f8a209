"""The interface `asgi`, as conversations with real applications: HTTP and lifespan (ASGI 3)."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.hosting import HostingError
from gateway.hosting import asgi_lifespan as lifespan_module
from sample_apps.hello import asgi_application as hello
from tests.rules.playbook import LOST
from tests.rules.stage import AsyncStage, WebServer

Stages = Callable[..., AsyncStage]
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
Scope = dict[str, Any]


def body(octets: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": octets, "more_body": more}


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


class Recorder:
    """Answers with these messages, and keeps the scopes it was called with."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages or (START, body(b"hello"))
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        for message in self.messages:
            await send(message)

    @property
    def scope(self) -> Scope:
        return self.scopes[-1]


# ---------------------------------------------------------------------- the scope


def test_a_scope_over_http(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app)
    talk.client.get("/caf%C3%A9/%2e%2e/x%20y?q=%20", "X-One: a", "x-ONE: b", "Connection: close")
    assert talk.client.answer().content == b"hello"
    assert app.scope == {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": "/x y", "raw_path": b"/caf%C3%A9/%2e%2e/x%20y", "query_string": b"q=%20", "root_path": "",
        "headers": [(b"host", b"x"), (b"x-one", b"a"), (b"x-one", b"b"), (b"connection", b"close")],
        "client": ("192.0.2.1", 50000), "server": ("192.0.2.2", 80), "state": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "path", "raw"),
    [("http://x/a?b", "/a", b"/a"), ("/%ff", "/\ufffd", b"/%ff"), ("/%C3%A9", "/\xe9", b"/%C3%A9"), ("/", "/", b"/")],
)
def test_paths(stage: Stages, target: str, path: str, raw: bytes) -> None:
    app = Recorder()
    stage(app).client.get(target)
    assert (app.scope["path"], app.scope["raw_path"]) == (path, raw)


def test_an_old_client(stage: Stages) -> None:
    app = Recorder()
    stage(app).client.get(version="1.0")
    assert app.scope["http_version"] == "1.0"


@pytest.mark.parametrize(
    ("prefix", "path", "root"),
    [("/app", "/app/x", "/app"), ("/o", "/o/app/x", "/o"), ("/a%20b", "/a b/app/x", "/a b"), ("-", "/app/x", "")],
)
def test_a_trusted_proxy_tells_where_we_are_mounted(stage: Stages, prefix: str, path: str, root: str) -> None:
    app = Recorder()
    talk = stage(app, trusted=[ipaddress.ip_network("192.0.2.0/24")])
    talk.client.get("/app/x", f"X-Forwarded-Prefix: {prefix}", "X-Forwarded-Proto: https", "X-Forwarded-For: 198.51.100.9")
    assert (app.scope["path"], app.scope["root_path"], app.scope["scheme"]) == (path, root, "https")
    assert app.scope["client"] == ("198.51.100.9", 0)


def test_a_scope_from_meta_variables(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app, http=False)
    variables = {
        b"REQUEST_METHOD": b"post", b"SCRIPT_NAME": b"/mount", b"PATH_INFO": b"/caf\xc3\xa9", b"QUERY_STRING": b"a=1",
        b"REQUEST_URI": b"/mount/caf%c3%a9?a=1", b"SERVER_PROTOCOL": b"HTTP/2.0", b"HTTP_X_Y": b"z", b"HTTP_HOST": b"h",
        b"REMOTE_ADDR": b"198.51.100.9",
    }  # fmt: skip
    server = WebServer(talk, variables, https=True)
    assert (server.got, server.state) == (b"hello", "finished")
    scope = app.scope
    assert (scope["path"], scope["root_path"], scope["raw_path"]) == ("/mount/caf\xe9", "/mount", b"/mount/caf%c3%a9")
    assert (scope["http_version"], scope["scheme"], scope["query_string"]) == ("2", "https", b"a=1")
    assert scope["method"] == "POST"
    assert scope["headers"] == [(b"x-y", b"z"), (b"host", b"h")]
    assert (scope["client"], scope["server"]) == (("198.51.100.9", 4711), ("192.0.2.2", 80))


def test_a_web_server_that_tells_little(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app, http=False)
    WebServer(talk, {b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"/a%20b?c"})
    assert (app.scope["path"], app.scope["root_path"], app.scope["client"]) == ("/a b", "", None)
    WebServer(talk, {b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"no path", b"SCRIPT_NAME": b"/", b"PATH_INFO": b"/x y"})
    assert (app.scope["path"], app.scope["root_path"], app.scope["raw_path"]) == ("/x y", "", b"/x%20y")


# ---------------------------------------------------------------------- receive


class Receiver:
    """Receives as the test says, and answers at the end."""

    def __init__(self, until: str = "") -> None:
        self.got: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()
        self.until = until

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        while not self.until or not self.got or self.got[-1]["type"] != self.until:
            message = await receive()
            self.got.append(message)
            if not self.until and not message.get("more_body"):
                break
        if self.got[-1]["type"] != "http.disconnect":
            await send(START)
            await send(body(b"".join(message["body"] for message in self.got)))


def test_a_request_without_content(stage: Stages) -> None:
    app = Receiver()
    talk = stage(app)
    talk.client.get()
    assert app.got == [{"type": "http.request", "body": b"", "more_body": False}]
    assert talk.client.answer().status == 200


def test_content_that_is_here_comes_in_one_piece(stage: Stages) -> None:
    app = Receiver()
    talk = stage(app)
    talk.client.post("/", b"hello")
    assert app.got == [{"type": "http.request", "body": b"hello", "more_body": False}]


def test_content_comes_as_it_arrives(stage: Stages) -> None:
    app = Receiver()
    talk = stage(app)
    talk.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"
    assert app.got == [{"type": "http.request", "body": b"hel", "more_body": True}]
    talk.client >> b"2\r\nlo\r\n"
    assert app.got[1:] == [{"type": "http.request", "body": b"lo", "more_body": True}]
    talk.client >> b"0\r\n\r\n"
    assert app.got[2:] == [{"type": "http.request", "body": b"", "more_body": False}]
    assert talk.client.answer().content == b"hello"


def test_100_is_sent_when_the_application_receives(stage: Stages) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    talk = stage(Receiver())
    talk.client >> head
    talk.client << b"HTTP/1.1 100 Continue\r\n\r\n"
    talk.client >> b"abc"
    assert talk.client.answer().content == b"abc"
    talk = stage(Recorder(dict(START, status=413), body()))
    talk.client >> head
    answer = talk.client.answer()
    assert (answer.status, answer.interim) == (413, [])


def test_what_the_application_does_not_receive_waits_outside(stage: Stages) -> None:
    release = asyncio.Event()
    received = 0

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        nonlocal received
        await release.wait()
        more = True
        while more:
            message = await receive()
            received += len(message["body"])
            more = message["more_body"]
        await send(START)
        await send(body(b"%d" % received))

    talk = stage(app)
    talk.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    for _ in range(20):
        talk.client.say(b"x" * 50_000)
    assert len(talk.client.on_the_way) == 18
    release.set()
    talk.settle()
    assert talk.client.answer().content == b"1000000"


def test_a_client_that_leaves_is_told(stage: Stages) -> None:
    app = Receiver(until="http.disconnect")
    talk = stage(app)
    talk.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhel"
    assert len(app.got) == 1
    talk.client >> LOST
    assert app.got[-1] == {"type": "http.disconnect"}
    assert talk.accesses.statuses == [499]
    assert not talk.log.lines


def test_a_complete_response_is_a_disconnect_too(stage: Stages) -> None:
    got: list[Any] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        listener = asyncio.create_task(listen(receive))
        await send(START)
        await send(body(b"hello"))
        await listener
        await listen(receive)

    async def listen(receive: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        got.append(message)

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().content == b"hello"
    assert got == [{"type": "http.disconnect"}] * 2


def test_several_may_wait_at_once(stage: Stages) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.gather(receive(), receive(), receive())
        raise AssertionError("all were told")

    talk = stage(app)
    talk.client.get()
    talk.client >> LOST
    assert "AssertionError: all were told" in talk.log.text


# ---------------------------------------------------------------------- send


@pytest.mark.parametrize("path", ["/", "/count", "/nothing"])
def test_the_sample_application(stage: Stages, path: str) -> None:
    talk = stage(hello)
    talk.client.get(path)
    answer = talk.client.answer()
    assert (answer.status, answer.complete) == (404 if path == "/nothing" else 200, True)
    assert not talk.log.lines


def test_it_echoes_much(stage: Stages) -> None:
    talk = stage(hello)
    content = os.urandom(100_000)
    talk.client >> b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    for start in range(0, 100_000, 10_000):
        talk.client.say(content[start : start + 10_000])
    answer = talk.client.answer()
    assert (answer.content == content, answer.complete) == (True, True)
    assert talk.accesses.statuses == [200]


def test_what_is_complete_at_once_has_a_length_and_leaves_at_once(stage: Stages) -> None:
    talk = stage(Recorder())
    talk.client.get()
    talk.client << b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    assert talk.streams.entered == ["_deliver", "returned", "_ended"]


def test_pieces_leave_as_they_come(stage: Stages) -> None:
    steps = asyncio.Queue[bytes]()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send(START)
        while step := await steps.get():
            await send(body(step.strip(), more=True))
        await send(body())

    talk = stage(app)
    talk.client.get()
    talk.client << None  # the head waits for the first piece, even if that is empty
    for step, octets in (
        (b" ", b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"one", b"3\r\none\r\n"),
        (b"two", b"3\r\ntwo\r\n"),
        (b"", b"0\r\n\r\n"),
    ):
        steps.put_nowait(step)
        talk.settle()
        talk.client << octets
    talk.client << None


def test_a_slow_client_holds_it_back(stage: Stages) -> None:
    sent = 0

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(5):
            await send(body(b"x" * 1000, more=True))
            sent += 1
        await send(body())

    talk = stage(app)
    talk.client.room = 1500
    talk.client.get()
    assert sent == 1
    talk.client.takes(1000)
    assert sent == 2
    talk.client.takes_all()
    assert talk.client.answer().content == b"x" * 5000


def test_whoever_sends_to_a_client_that_left_gets_an_error(stage: Stages) -> None:
    raised: list[BaseException] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send(START)
        try:
            while True:
                await send(body(b"x" * 1000, more=True))
        except OSError as error:
            raised.append(error)
            raise RuntimeError("passed on in words of its own") from error

    talk = stage(app)
    talk.client.room = 1500
    talk.client.get()
    talk.client >> LOST
    assert str(raised[0]) == "the client has left"
    assert not talk.log.lines


def test_one_that_never_waits_lets_others_run(stage: Stages) -> None:
    turns: list[str] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send(START)
        for _ in range(40):
            turns.append(scope["path"])
            await send(body(b"x" * 10_000, more=True))
        await send(body())

    talk = stage(app)
    second = talk.connect()
    talk.interrupts = False
    talk.client.get("/a")
    second.get("/b")
    talk.work()
    assert turns.index("/b") < len(turns) - 1 - turns[::-1].index("/a")


def test_a_head_has_the_length_and_no_content(stage: Stages) -> None:
    talk = stage(Recorder())
    talk.client.get(method="HEAD")
    answer = talk.client.answer()
    assert (answer.fields["content-length"], answer.complete) == ("5", True)
    talk.client << None


def test_a_head_to_a_stream_is_complete_at_once(stage: Stages) -> None:
    waits = asyncio.Event()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"tick", more=True))
        await send(body(b"tick", more=True))
        await waits.wait()
        await send(body(b"tick"))

    talk = stage(app)
    talk.client.get(method="HEAD")
    answer = talk.client.answer()
    assert (answer.complete, "content-length" in answer.fields) == (True, False)
    waits.set()
    talk.settle()
    assert not talk.log.lines


@pytest.mark.parametrize("status", [204, 304])
def test_what_has_no_content_gets_none(stage: Stages, status: int) -> None:
    talk = stage(Recorder({"type": "http.response.start", "status": status}, body(b"rubbish")))
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.complete) == (status, True)
    assert "was cut" in talk.log.text
    talk.client << None


def test_too_much_is_cut_and_logged(stage: Stages) -> None:
    start = dict(START, headers=[(b"content-length", b"5")])
    talk = stage(Recorder(start, body(b"hel", True), body(b"lo!", True), body(b"more", True), body(b"more")))
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.content, answer.complete) == (b"hello", True)
    assert talk.log.text.count("beyond its Content-Length") == 1


@pytest.mark.parametrize(("pieces", "status"), [([body(b"hel")], 500), ([body(b"hel", True), body()], 200)])
def test_too_little_is_an_error(stage: Stages, pieces: list[dict[str, Any]], status: int) -> None:
    talk = stage(Recorder(dict(START, headers=[(b"content-length", b"5")]), *pieces))
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.complete) == (status, status == 500)
    assert "Content-Length is 5, and only 3 octets of content came" in talk.log.text


def test_fields_of_one_connection_are_left_out(stage: Stages) -> None:
    fields = [(b"Transfer-Encoding", b"chunked"), [b"connection", b"close"], [b"x-y", bytearray(b"z")], (b"a", b"b")]
    talk = stage(Recorder(dict(START, headers=[line for line in fields if line[0] != b"x-y"]), body(b"hello")))
    talk.client.get()
    talk.client << b"HTTP/1.1 200 OK\r\na: b\r\nContent-Length: 5\r\n\r\nhello"


def test_trailers_are_ignored(stage: Stages) -> None:
    talk = stage(Recorder(dict(START, trailers=True), body(b"hello"), {"type": "http.response.trailers", "headers": []}))
    talk.client.get()
    assert talk.client.answer().content == b"hello"
    assert not talk.log.lines


@pytest.mark.parametrize(
    ("messages", "said", "status"),
    [
        ([body()], "http.response.body was sent before http.response.start", 500),
        ([START, START], "http.response.start was sent a second time", 500),
        ([START, body(b"x", True), START], "a second time", 0),
        ([START, body(), body()], "after the response was complete", 200),
        ([{"type": "websocket.send"}], "websocket.send is no message to an HTTP client", 500),
        ([{"status": 200}], "KeyError: 'type'", 500),
        ([START, body("text")], "has to be bytes, not str", 500),  # type: ignore[arg-type]
        ([{"type": "http.response.start"}], "the status has to be an int, not None", 500),
        ([dict(START, status="200")], "has to be an int", 500),
        ([dict(START, status=101)], "no status of a final response", 500),
        ([dict(START, headers=[(b"a", "b")])], "both of them bytes", 500),
        ([dict(START, headers=[("a", b"b")])], "both of them bytes", 500),
        ([dict(START, headers=[(b"a", b"b", b"c")])], "(name, value)", 500),
        ([dict(START, headers=[(b"a", b"b\r\nc: d")])], "control character", 500),
        ([dict(START, headers=[(b"a:", b"b")])], "no name of a header", 500),
        ([dict(START, headers=[(b"content-length", b"x")])], "has to be a number", 500),
        ([START], "returned without a response", 500),
        ([START, body(b"x", True)], "in the middle of its response, which was cut", 0),
    ],
)
def test_messages_out_of_order_or_shape(stage: Stages, messages: list[Any], said: str, status: int) -> None:
    talk = stage(Recorder(*messages))
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status if answer.complete else 0) == status
    assert said in talk.log.text
    assert f"({__file__}:" in talk.log.text or status == 200


# ---------------------------------------------------------------------- applications that go wrong


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_it_raises_is_a_500_with_its_place(stage: Stages, error: BaseException) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise error

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().status == 500
    assert f"({__file__}:{app.__code__.co_firstlineno + 1})" in talk.log.text
    lines = [line for line in talk.log.lines if "stderr:" in line]
    assert lines[0].endswith("Traceback (most recent call last):")
    assert "test_asgi.py" in lines[1]


def test_a_failure_after_the_head_is_a_visible_break(stage: Stages) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"half", more=True))
        raise ValueError("broken")

    talk = stage(app)
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.content, answer.complete) == (200, b"half", False)
    assert "had begun, and was cut" in talk.log.text


def test_a_failure_after_the_end_is_logged_only(stage: Stages) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"hello"))
        raise ValueError("too late")

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().complete
    assert "ValueError: too late: the response was complete before" in talk.log.text


def test_a_failure_for_a_client_that_left_is_logged(stage: Stages) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        raise ValueError("while cleaning up")

    talk = stage(app)
    talk.client.get()
    talk.client >> LOST
    assert "ValueError: while cleaning up" in talk.log.text
    assert talk.accesses.statuses == [499]


def test_a_group_of_errors_is_looked_through(stage: Stages) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        try:
            await send(START)
        except OSError as error:
            raise ExceptionGroup("of a task group", [ValueError(1), error]) from None

    talk = stage(app)
    talk.client.get()
    talk.client >> LOST
    assert not talk.log.lines


def test_a_driver_may_cancel_it(stage: Stages) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    talk = stage(app)
    talk.client.get()
    [task] = talk.tasks
    task.cancel()
    talk.work()
    assert task.cancelled()
    assert talk.client.answer().status == 500


def test_an_application_whose_client_left_is_not_called(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app)
    talk.interrupts = False
    talk.client.get()
    talk.client >> LOST
    talk.work()
    assert not app.scopes


def test_a_timeout_is_a_disconnect(stage: Stages) -> None:
    app = Receiver(until="http.disconnect")
    talk = stage(app)
    talk.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhel"
    talk.streams.enter(talk.client.end.exchange.failed, GatewayError(504, "total-timeout", "late"))  # type: ignore[union-attr]
    talk.settle()
    assert talk.client.answer().status == 504
    assert app.got[-1] == {"type": "http.disconnect"}


# ---------------------------------------------------------------------- lifespan


class Life:
    """An application that knows of its beginning and end."""

    def __init__(self, *answers: str, message: str = "") -> None:
        self.answers = list(answers)
        self.message = message
        self.events: list[str] = []
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] != "lifespan":
            scope["state"]["requests"] = 1
            await send(START)
            await send(body(scope["state"]["shared"].encode()))
            return
        scope["state"]["shared"] = "made at startup"
        while self.answers:
            self.events.append((await receive())["type"])
            answer = self.answers.pop(0)
            if answer == "raise":
                raise ValueError("broken")
            if answer == "hang":
                await asyncio.Event().wait()
            if answer:
                await send({"type": f"{self.events[-1]}.{answer}", "message": self.message})


def test_a_lifespan_around_a_request(stage: Stages) -> None:
    app = Life("complete", "complete")
    talk = stage(app)
    talk.interface().open(talk)
    assert app.events == ["lifespan.startup"]
    assert app.scopes[0]["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    for _ in range(2):
        talk.client.get()
        assert talk.client.answer().content == b"made at startup"
        assert app.scopes[-1]["state"] == {"shared": "made at startup", "requests": 1}
    assert "requests" not in app.scopes[0]["state"]
    talk.interface().shut(talk)
    assert app.events == ["lifespan.startup", "lifespan.shutdown"]
    assert not talk.log.lines


def test_an_application_that_says_it_cannot_start_is_not_served(stage: Stages) -> None:
    talk = stage(Life("failed", message="no database"))
    with pytest.raises(HostingError) as caught:
        talk.complete(talk.interface().startup())
    assert caught.value.what == "the application says that it can't start: no database"
    assert __file__ in caught.value.remedy
    talk.complete(talk.interface().shutdown())


async def knows_nothing(scope: Scope, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send(START)
    await send(body(b"hello"))


@pytest.mark.parametrize("app", [knows_nothing, Recorder(), Life("")])
def test_one_that_knows_nothing_of_it_is_served_without(stage: Stages, app: Any) -> None:
    talk = stage(app)
    talk.complete(talk.interface().startup())
    if app is knows_nothing:
        talk.client.get()
        assert talk.client.answer().content == b"hello"
    talk.complete(talk.interface().shutdown())
    assert not talk.log.lines


def test_one_that_knows_it_and_fails_is_served_with_a_warning(stage: Stages) -> None:
    talk = stage(Life("raise"))
    talk.complete(talk.interface().startup())
    assert "warn: the application raised ValueError: broken at lifespan.startup" in talk.log.text
    assert f"({__file__}:" in talk.log.text


@pytest.mark.parametrize(
    ("app", "said"), [(knows_nothing, "raised AssertionError"), (Life(), "returned at lifespan.startup")]
)
def test_it_may_be_asked_for(stage: Stages, app: Any, said: str) -> None:
    talk = stage(app, lifespan="on")
    with pytest.raises(HostingError) as caught:
        talk.complete(talk.interface().startup())
    assert said in caught.value.what
    assert f"({__file__}:" in caught.value.what


def test_it_may_be_off(stage: Stages) -> None:
    app = Life("complete")
    talk = stage(app, lifespan="off")
    talk.complete(talk.interface().startup())
    talk.complete(talk.interface().shutdown())
    assert not app.scopes


@pytest.mark.parametrize(
    ("answers", "said"),
    [(("complete", "failed"), "shutdown failed: because"), (("complete", "raise"), "raised ValueError: broken in its")],
)
def test_a_shutdown_that_fails_is_logged(stage: Stages, answers: tuple[str, ...], said: str) -> None:
    talk = stage(Life(*answers, message="because"))
    talk.complete(talk.interface().startup())
    talk.complete(talk.interface().shutdown())
    assert said in talk.log.text


def test_one_that_does_not_end_is_ended(stage: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan_module, "SHUTDOWN_S", 0.0)
    talk = stage(Life("complete", "hang"))
    talk.complete(talk.interface().startup())
    talk.complete(talk.interface().shutdown())
    assert "did not end within 0 s of lifespan.shutdown" in talk.log.text


def test_an_answer_that_nobody_waits_for_is_an_error(stage: Stages) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    talk = stage(app)
    talk.complete(talk.interface().startup())
    assert "RuntimeError: lifespan.shutdown.complete was sent, where lifespan.startup.complete was due" in talk.log.text
