"""The interface `wsgi`, as conversations with real applications (PEP 3333)."""

from __future__ import annotations

import gzip
import io
import ipaddress
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from gateway.errors import GatewayError
from gateway.hosting.faults import Disconnected
from gateway.hosting.wsgi_streams import FileWrapper
from sample_apps.hello import application as hello
from tests.rules.playbook import LOST
from tests.rules.stage import Stage, WebServer

TEXT = [("Content-Type", "text/plain")]
Stages = Callable[..., Stage]


@pytest.fixture
def stage() -> Iterator[Stages]:
    made: list[Stage] = []

    def make(app: Any, **options: Any) -> Stage:
        made.append(Stage(app, **options))
        return made[-1]

    yield make
    for one in made:
        one.all_leave()
        assert "defect" not in one.log.text


class Recorder:
    """An application that answers with what it is given, and keeps what it was called with."""

    def __init__(self, result: Any = (b"hello",), status: str = "200 OK", fields: Any = None) -> None:
        self.result = result
        self.status = status
        self.fields = TEXT if fields is None else fields
        self.environs: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.environs.append(environ)
        start_response(self.status, list(self.fields))
        return self.result

    @property
    def environ(self) -> dict[str, Any]:
        return self.environs[-1]


class Result:
    """What an application returns: its pieces, and whether it was closed."""

    def __init__(self, pieces: Iterable[Any]) -> None:
        self.pieces = iter(pieces)
        self.asked = 0
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.asked += 1
        return next(self.pieces)

    def close(self) -> None:
        self.closed += 1


# ---------------------------------------------------------------------- the validator of the standard library


@pytest.mark.parametrize("path", ["/", "/count", "/nothing", "/a%20b?x=%20y"])
def test_the_validator_finds_nothing_in_a_get(stage: Stages, path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        talk = stage(validator(hello))
        talk.client.get(path)
    answer = talk.client.answer()
    assert (answer.status, answer.complete) == (404 if path[:2] not in ("/", "/c") else 200, True)
    assert "Error" not in talk.log.text


def test_the_validator_finds_nothing_in_a_post(stage: Stages) -> None:
    talk = stage(validator(hello))
    talk.client.post("/echo", b"octets")
    assert talk.client.answer().content == b"octets"
    assert not talk.log.lines


def test_the_validator_finds_nothing_in_a_head(stage: Stages) -> None:
    talk = stage(validator(hello))
    talk.client.get("/", method="HEAD")
    answer = talk.client.answer()
    assert (answer.status, answer.fields["content-length"], answer.complete) == (200, "13", True)
    assert not talk.log.lines


def test_the_validator_finds_nothing_behind_a_web_server(stage: Stages) -> None:
    talk = stage(validator(hello), http=False)
    server = WebServer(talk, {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/", b"REQUEST_URI": b"/"})
    assert (server.got, server.state) == (b"Hello, world\n", "finished")
    assert not talk.log.lines


# ---------------------------------------------------------------------- the environ


def test_an_environ_over_http(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app)
    fields = ("X-Two: 1", "X-Two: 2", "Content-Type: text/x", "Authorization: Basic eA==")
    talk.client.post("/caf%C3%A9/x?q=%20", b"abc", *fields)
    environ = app.environ
    wanted = {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/caf\xc3\xa9/x", "QUERY_STRING": "q=%20",
        "CONTENT_TYPE": "text/x", "CONTENT_LENGTH": "3", "SERVER_NAME": "x", "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "x", "HTTP_X_TWO": "1, 2", "HTTP_AUTHORIZATION": "Basic eA==",
        "REMOTE_ADDR": "192.0.2.1", "REQUEST_URI": "/caf%C3%A9/x?q=%20", "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
        "wsgi.input_terminated": True, "wsgi.file_wrapper": FileWrapper,
    }  # fmt: skip
    assert {name: environ.get(name) for name in wanted} == wanted
    assert type(environ) is dict
    assert all(type(value) is str for name, value in environ.items() if "." not in name)


def test_no_environ_is_shared(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app)
    for _ in range(2):
        talk.client.get("/same")
        app.environ.clear()
        assert talk.client.answer().status == 200
    talk.client.get("/same")
    assert app.environ["PATH_INFO"] == "/same"


def test_a_get_has_neither_length_nor_content(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app)
    talk.client.get()
    assert not app.environ.get("CONTENT_LENGTH")
    assert app.environ["wsgi.input"].read() == b""


@pytest.mark.parametrize(
    ("sent", "mounted", "info"),
    [
        ("/app", "/app", "/x"), ("/app/", "/app", "/x"), ("/a%20b", "/a b", "/app/x"), ("/other", "/other", "/app/x"),
        ("app", "", "/app/x"), ("/", "", "/app/x"), ("/../up", "", "/app/x"), ("", "", "/app/x"),
    ],
)  # fmt: skip
def test_a_trusted_proxy_tells_where_we_are_mounted(stage: Stages, sent: str, mounted: str, info: str) -> None:
    app = Recorder()
    talk = stage(app, trusted=[ipaddress.ip_network("192.0.2.0/24")])
    talk.client.get("/app/x", f"X-Forwarded-Prefix: {sent}", "X-Forwarded-Proto: https")
    assert (app.environ["SCRIPT_NAME"], app.environ["PATH_INFO"]) == (mounted, info)
    assert (app.environ["wsgi.url_scheme"], app.environ["HTTPS"]) == ("https", "on")


def test_nobody_else_does(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app)
    talk.client.get("/app/x", "X-Forwarded-Prefix: /app", "X-Forwarded-Proto: https")
    assert (app.environ["SCRIPT_NAME"], app.environ["PATH_INFO"]) == ("", "/app/x")
    assert app.environ["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(("path", "mounted", "info"), [("/m/x", "/m", "/x"), ("/m", "/m", ""), ("/mx", "/m", "/mx")])
def test_the_command_line_may_tell_it(stage: Stages, path: str, mounted: str, info: str) -> None:
    app = Recorder()
    stage(app, prefix=b"/m/").client.get(path)
    assert (app.environ["SCRIPT_NAME"], app.environ["PATH_INFO"]) == (mounted, info)


def test_methods_are_the_applications_business(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app)
    for method, target in (("TRACE", "/"), ("OPTIONS", "*"), ("BREW", "/"), ("PROPFIND", "/")):
        talk.client.get(target, method=method)
        assert talk.client.answer().status == 200
        assert (app.environ["REQUEST_METHOD"], app.environ["PATH_INFO"]) == (method, "" if target == "*" else "/")


@pytest.mark.parametrize(
    ("method", "target", "status"), [("GET", "/%zz", 400), ("GET", "/..", 400), ("CONNECT", "x:1", 501)]
)
def test_a_target_that_means_nothing_does_not_reach_it(stage: Stages, method: str, target: str, status: int) -> None:
    app = Recorder()
    talk = stage(app)
    talk.client.get(target, method=method)
    assert talk.client.answer().status == status
    assert not app.environs


def test_meta_variables_are_handed_on_as_they_came(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", TEXT)
        return [environ["wsgi.input"].read()]

    seen: dict[str, Any] = {}
    talk = stage(app, http=False)
    variables = {
        b"REQUEST_METHOD": b"POST", b"SCRIPT_NAME": b"/mount", b"PATH_INFO": b"/caf\xc3\xa9", b"QUERY_STRING": b"a=1",
        b"REQUEST_URI": b"/mount/caf%C3%A9?a=1", b"SERVER_NAME": b"www", b"SERVER_PORT": b"8443", b"HTTPS": b"on",
        b"SERVER_PROTOCOL": b"HTTP/2.0", b"REMOTE_USER": b"fritz", b"SSL_CLIENT_S_DN": b"CN=\xc3\xa4", b"HTTP_X_Y": b"z",
        b"CONTENT_LENGTH": b"2", b"CONTENT_TYPE": b"a/b", b"geo.country": b"NZ",
    }  # fmt: skip
    talk.later(lambda: server.exchange.content(b"ab"), lambda: server.exchange.content_end())
    talk.interrupts = False
    server = WebServer(talk, variables, length=2, https=True)
    talk.work()
    told = {name.decode("latin-1"): value.decode("latin-1") for name, value in variables.items()}
    assert told.items() <= seen.items()
    assert seen["wsgi.url_scheme"] == "https"
    assert (server.got, server.state) == (b"ab", "finished")


def test_what_a_web_server_has_left_out_is_there(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app, http=False)
    WebServer(talk, {b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"/a%20b?c", b"SERVER_NAME": b""})
    environ = app.environ
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("", "/a b", "")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["SERVER_PROTOCOL"]) == ("localhost", "80", "HTTP/1.0")


def test_content_whose_length_a_web_server_does_not_tell_has_one(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app, http=False)
    server = WebServer(talk, {b"REQUEST_METHOD": b"POST", b"SCRIPT_NAME": b"", b"CONTENT_LENGTH": b""}, length=None)
    server.send(b"abc")
    assert not app.environs
    server.end()
    assert app.environ["CONTENT_LENGTH"] == "3"
    assert app.environ["wsgi.input"].read() == b"abc"


# ---------------------------------------------------------------------- the input


def test_chunked_content_gets_a_length_first(stage: Stages) -> None:
    talk = stage(hello)
    talk.client >> b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    talk.client << None
    talk.client >> b"1\r\n!\r\n0\r\n\r\n"
    assert talk.client.answer().content == b"hello!"


def test_the_input_waits_for_what_has_not_come(stage: Stages) -> None:
    talk = stage(hello)
    talk.later(lambda: talk.client >> b"lo, ", lambda: talk.client >> b"world")
    talk.client >> b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nhel"
    assert talk.client.answer().content == b"hello, world"


def test_much_content_waits_outside(stage: Stages) -> None:
    """What the application does not read yet, the client does not get rid of."""
    got: list[bytes] = []
    waiting: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", TEXT)
        input = environ["wsgi.input"]
        for _ in range(10):
            got.append(input.read(100_000))
            waiting.append(input.arrived - input.taken)
        assert input.read() == b""
        return [b"ok"]

    talk = stage(app)
    pieces = [bytes([65 + number]) * 50_000 for number in range(20)]
    talk.interrupts = False
    talk.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    for piece in pieces:
        talk.client >> piece
    assert 10 < len(talk.client.on_the_way) < 20
    talk.work()
    assert b"".join(got) == b"".join(pieces)
    assert max(waiting) < 150_000
    assert talk.client.answer().content == b"ok"


def test_spooled_content_comes_from_the_disk(stage: Stages) -> None:
    talk = stage(hello)
    content = os.urandom(300_000)
    chunks = b"".join(b"7530\r\n" + content[at : at + 30_000] + b"\r\n" for at in range(0, 300_000, 30_000))
    talk.client >> b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    assert talk.client.answer().content == content


def test_a_client_that_leaves_in_the_middle_is_an_error_where_it_is_read(stage: Stages) -> None:
    raised: list[BaseException] = []
    result = Result([b"x"])

    def app(environ: dict[str, Any], start_response: Any) -> Result:
        assert environ["wsgi.input"].read(3) == b"hel"
        try:
            environ["wsgi.input"].read(3)
        except OSError as error:
            raised.append(error)
        with pytest.raises(Disconnected):
            environ["wsgi.input"].read()
        start_response("200 OK", TEXT)
        return result

    talk = stage(app)
    talk.later(lambda: talk.client >> LOST)
    talk.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel"
    assert isinstance(raised[0], ConnectionError)
    assert "client has left" in str(raised[0])
    assert (result.asked, result.closed) == (0, 1)
    assert not talk.log.lines


def test_one_that_lets_the_error_through_is_not_blamed(stage: Stages) -> None:
    talk = stage(hello)
    talk.later(lambda: talk.client >> LOST)
    talk.client >> b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel"
    assert talk.accesses.statuses == [499]
    assert not talk.log.lines


def test_100_is_sent_when_the_application_reads(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/refuse":
            start_response("413 No", TEXT)
            return [b"no"]
        talk.client << None
        talk.later(lambda: talk.client << b"HTTP/1.1 100 Continue\r\n\r\n", lambda: talk.client >> b"abc")
        content = environ["wsgi.input"].read()
        start_response("200 OK", TEXT)
        return [content]

    talk = stage(app)
    head = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    talk.client >> b"POST /" + head
    assert talk.client.answer().content == b"abc"
    talk.client >> b"POST /refuse" + head
    answer = talk.client.answer()
    assert (answer.status, answer.interim) == (413, [])


def test_content_that_is_not_read_does_not_hurt_the_next_request(stage: Stages) -> None:
    talk = stage(Recorder())
    talk.client.post("/", b"x" * 1000)
    assert talk.client.answer().content == b"hello"
    talk.client.get()
    assert talk.client.answer().content == b"hello"


# ---------------------------------------------------------------------- the response


@pytest.mark.parametrize("result", [[b"hello"], (b"hel", b"lo"), [b"", b"hello", b""]])
def test_what_is_here_at_once_has_a_length_and_leaves_at_once(stage: Stages, result: Any) -> None:
    talk = stage(Recorder(result))
    talk.client.get()
    talk.client << (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    )  # fmt: skip


def test_a_small_response_enters_the_rules_once(stage: Stages) -> None:
    talk = stage(Recorder([b"hello"]))
    talk.client.get()
    assert talk.streams.entered == ["_deliver", "ended"]


@pytest.mark.parametrize("result", [[], (), [b""], iter(()), Result([b"", b""])])
def test_no_content_has_a_length_of_0(stage: Stages, result: Any) -> None:
    talk = stage(Recorder(result))
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.fields["content-length"], answer.content) == (200, "0", b"")


def test_one_that_says_it_has_one_piece_gets_a_length(stage: Stages) -> None:
    class One(Result):
        def __len__(self) -> int:
            return 1

    result = One([b"hello"])
    talk = stage(Recorder(result))
    talk.client.get()
    assert talk.client.answer().fields["content-length"] == "5"
    assert result.closed == 1


def test_each_piece_is_sent_before_the_next_is_asked_for(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b""
        talk.client << None
        yield b"one"
        talk.client << b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
        yield b"two"
        talk.client << b"3\r\ntwo\r\n"

    talk = stage(app)
    talk.client.get()
    talk.client << b"0\r\n\r\n"


def test_a_response_is_complete_with_the_last_octet_of_its_length(stage: Stages) -> None:
    """Nobody waits for what the generator does after it."""
    after: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "6")])
        yield b"one"
        yield b"two"
        assert talk.site.exchanges == 0
        after.append("done")

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().content == b"onetwo"
    assert after == ["done"]


def test_a_slow_client_holds_the_generator_back(stage: Stages) -> None:
    result = Result([b"x" * 1000] * 5)
    talk = stage(Recorder(result))
    talk.client.room = 1500
    seen: list[int] = []
    look = lambda: seen.append(result.asked)  # noqa: E731
    talk.later(look, lambda: talk.client.takes(1000), look, talk.client.takes_all)
    talk.client.get()
    assert seen == [2, 3]
    assert talk.client.answer().content == b"x" * 5000
    assert result.closed == 1


def test_a_client_that_left_stops_the_generator(stage: Stages) -> None:
    result = Result([b"x" * 1000] * 5)
    talk = stage(Recorder(result))
    talk.client.room = 1500
    talk.later(lambda: talk.client >> LOST)
    talk.client.get()
    assert (result.asked, result.closed) == (2, 1)
    assert not talk.log.lines


def test_an_application_whose_client_left_is_not_called(stage: Stages) -> None:
    app = Recorder()
    talk = stage(app)
    talk.interrupts = False
    talk.client.get()
    talk.client >> LOST
    talk.work()
    assert not app.environs
    assert talk.accesses.statuses == [499]


def test_close_is_called_when_it_raises_too(stage: Stages) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("in the middle")

    result = Result(broken())
    talk = stage(Recorder(result))
    talk.client.get()
    assert not talk.client.answer().complete
    assert result.closed == 1


def test_what_close_raises_is_logged(stage: Stages) -> None:
    class Unclosable(Result):
        def close(self) -> None:
            raise ValueError("stuck")

    talk = stage(Recorder(Unclosable([b"hello"]), fields=[("Content-Length", "5")]))
    talk.client.get()
    assert talk.client.answer().complete
    assert "ValueError: stuck: the response was complete before" in talk.log.text


def test_write_sends_at_once(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"")
        talk.client << None
        write(b"one")
        talk.client << b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
        return [b"two"]

    talk = stage(app)
    talk.client.get()
    talk.client << b"3\r\ntwo\r\n0\r\n\r\n"


def test_write_waits_for_a_slow_client_and_tells_that_one_has_left(stage: Stages) -> None:
    raised: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        try:
            for _ in range(9):
                write(b"x" * 1000)
                raised.append("written")
        except OSError as error:
            raised.append(type(error).__name__)
            raise
        return []

    talk = stage(app)
    talk.client.room = 1500
    talk.later(lambda: talk.client.takes(1000), lambda: talk.client >> LOST)
    talk.client.get()
    assert raised[-1] == "Disconnected"
    assert 1 < len(raised) < 9
    assert not talk.log.lines


@pytest.mark.parametrize("result", [[b"hello"], Result([b"hel", b"lo"])])
def test_a_head_has_the_length_and_no_content(stage: Stages, result: Any) -> None:
    talk = stage(Recorder(result, fields=[("Content-Length", "5")]))
    talk.client.get(method="HEAD")
    talk.client << b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    talk.client << None


def test_a_head_to_a_list_tells_its_length(stage: Stages) -> None:
    talk = stage(Recorder([b"hel", b"lo"]))
    talk.client.get(method="HEAD")
    assert talk.client.answer().fields["content-length"] == "5"


def test_a_head_without_a_length_ends_a_generator_that_has_none(stage: Stages) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"tick"

    result = Result(endless())
    talk = stage(Recorder(result))
    talk.client.get(method="HEAD")
    answer = talk.client.answer()
    assert (answer.complete, "content-length" in answer.fields, result.closed) == (True, False, 1)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("result", [[], [b"rubbish"], Result([b"rub", b"bish"])])
def test_what_has_no_content_gets_none(stage: Stages, status: str, result: Any) -> None:
    empty = result == []
    result = result if isinstance(result, list) else Result([b"rub", b"bish"])
    talk = stage(Recorder(result, status, []))
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.complete, answer.content) == (int(status[:3]), True, b"")
    assert ("was cut" in talk.log.text) is not empty
    talk.client << None


@pytest.mark.parametrize("result", [[b"hello!"], [b"hel", b"lo!"], lambda: iter([b"hel", b"lo!", b"more"])])
def test_too_much_is_cut_and_logged(stage: Stages, result: Any) -> None:
    talk = stage(Recorder(result() if callable(result) else result, fields=[("Content-Length", "5")]))
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.content, answer.complete) == (b"hello", True)
    assert talk.log.text.count("beyond its Content-Length") == 1


def test_too_much_by_write_is_cut_and_logged(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "5")])
        write(b"hello")
        write(b" and more")
        return [b"and more"]

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().content == b"hello"
    assert "beyond its Content-Length" in talk.log.text


@pytest.mark.parametrize("result", [[b"hell"], [], lambda: iter([])])
def test_too_little_is_an_error(stage: Stages, result: Any) -> None:
    talk = stage(Recorder(result() if callable(result) else result, fields=[("Content-Length", "5")]))
    talk.client.get()
    assert talk.client.answer().status == 500
    assert "Content-Length is 5, and only" in talk.log.text


def test_too_little_is_a_break_if_some_was_sent(stage: Stages) -> None:
    talk = stage(Recorder(iter([b"hel"]), fields=[("Content-Length", "5")]))
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.content, answer.complete) == (200, b"hel", False)
    assert "Content-Length is 5, and only 3 octets of content came" in talk.log.text


def test_an_old_client_gets_a_list_with_a_length_and_is_kept(stage: Stages) -> None:
    talk = stage(Recorder())
    talk.client.get("/", "Connection: keep-alive", version="1.0")
    answer = talk.client.answer()
    assert (answer.fields["connection"], answer.content) == ("keep-alive", b"hello")


def test_fields_pass_as_they_are(stage: Stages) -> None:
    fields = [("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("X-Latin", "caf\xe9"), ("Date", "today"), ("Empty", "")]
    talk = stage(Recorder(fields=fields, status="299 Quite  fine"))
    talk.client.get()
    talk.client << (
        b"HTTP/1.1 299 Quite  fine\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Latin: caf\xe9\r\nDate: today\r\nEmpty: \r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )


def test_a_head_that_comes_again_is_the_same(stage: Stages) -> None:
    talk = stage(Recorder())
    for _ in range(3):
        talk.client.get()
        answer = talk.client.answer()
        assert (answer.fields["content-type"], answer.fields["content-length"]) == ("text/plain", "5")


# ---------------------------------------------------------------------- start_response


@pytest.mark.parametrize(
    ("status", "fields", "said"),
    [
        (b"200 OK", [], "has to be a str"), ("200", [], ""), ("20 OK", [], "three digits"), ("abc", [], "three digits"),
        ("200 O\nK", [], "three digits"), ("100 Continue", [], "three digits"), ("101 Switch", [], "three digits"),
        ("200 OK", (("a", "b"),), "have to be a list"), ("200 OK", None, "have to be a list"),
        ("200 OK", "ab", "have to be a list"), ("200 OK", [["a", "b"]], "a tuple"), ("200 OK", [("a", "b", "c")], "a tuple"),
        ("200 OK", [("a", 1)], "have to be str"), ("200 OK", [(b"a", b"b")], "have to be str"),
        ("200 OK", [([], "b")], "have to be str"), ("200 OK", [("a b", "c")], "no name"), ("200 OK", [("", "c")], "no name"),
        ("200 OK", [("a", "b\r\nc: d")], "control character"), ("200 OK", [("a", "b\x00")], "control character"),
        ("200 OK", [("a", "\u20ac")], "latin-1"), ("200 OK", [("Connection", "close")], "the server's to send"),
        ("200 OK", [("transfer-Encoding", "x")], "the server's to send"), ("200 OK", [("Upgrade", "x")], "the server's"),
        ("200 OK", [("Content-Length", "5"), ("content-length", "5")], "twice"),
        ("200 OK", [("Content-Length", "-1")], "a number"), ("200 OK", [("Content-Length", "")], "a number"),
    ],
)  # fmt: skip
def test_a_head_that_would_break_a_message_is_an_error(stage: Stages, status: Any, fields: Any, said: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, fields)
        return [b"hello"]

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().status == (500 if said else 200)
    assert said in talk.log.text
    assert not said or "test_wsgi.py:" in talk.log.text


def test_a_second_call_without_exc_info_is_an_error(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", TEXT)
        start_response("200 OK", TEXT)
        return [b"hello"]

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().status == 500
    assert "a second time, without exc_info" in talk.log.text


def test_exc_info_replaces_a_head_that_was_not_sent(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            start_response("200 OK", [("Content-Length", "99")])
            raise ValueError("oops")
        except ValueError:
            start_response("503 Sorry", TEXT, sys.exc_info())
        return [b"later"]

    talk = stage(app)
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.content, answer.complete) == (503, b"later", True)


def test_exc_info_is_raised_again_if_the_head_was_sent(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"half"
        try:
            raise ValueError("oops")
        except ValueError:
            start_response("503 Sorry", TEXT, sys.exc_info())
        yield b"never"

    talk = stage(app)
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.content, answer.complete) == (200, b"half", False)
    assert "ValueError: oops" in talk.log.text


# ---------------------------------------------------------------------- applications that go wrong


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_it_raises_is_a_500_with_its_place(stage: Stages, error: BaseException) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise error

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().status == 500
    assert f"500 app-error: the application raised {type(error).__name__}" in talk.log.text
    assert f"({__file__}:{app.__code__.co_firstlineno + 1})" in talk.log.text
    lines = [line for line in talk.log.lines if "stderr:" in line]
    assert lines[0].endswith("Traceback (most recent call last):")
    assert "test_wsgi.py" in lines[1]
    talk.client.get()
    assert talk.client.answer().status == 500


def test_the_place_is_in_its_own_code_not_in_a_library(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        json.loads("{")
        return []

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().status == 500
    assert f"line 1 column 2 (char 1) ({__file__}:" in talk.log.text
    assert "the application raised json.decoder.JSONDecodeError: Expecting property name" in talk.log.text


def test_a_failure_after_the_head_is_a_visible_break(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"half"
        raise ValueError("broken")

    talk = stage(app)
    talk.client.get()
    answer = talk.client.answer()
    assert (answer.status, answer.content, answer.complete) == (200, b"half", False)
    assert "had begun, and was cut" in talk.log.text


def test_a_failure_after_the_end_is_logged_only(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        yield b"hello"
        raise ValueError("too late")

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().complete
    assert "ValueError: too late: the response was complete before" in talk.log.text


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "returned None"), ("text", "returned str"), (b"octets", "returned bytes"), (5, "not iterable"),
        ([None], "not NoneType"), (["text"], "not str"), ([5], "not int"), (iter(["text"]), "not str"),
        ([bytearray(b"x")], "not bytearray"), (iter([b"", None]), "not NoneType"),
    ],
)  # fmt: skip
def test_rubbish_is_a_500_that_says_what_it_was(stage: Stages, result: Any, said: str) -> None:
    app = Recorder(result)
    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().status == 500
    assert said in talk.log.text
    assert f"({__file__}:" in talk.log.text


@pytest.mark.parametrize("result", [[b"x"], [], lambda: iter([b"x"]), lambda: iter([])])
def test_no_start_response_is_a_500(stage: Stages, result: Any) -> None:
    talk = stage(lambda environ, start_response: result() if callable(result) else result)
    talk.client.get()
    assert talk.client.answer().status == 500
    assert "never called start_response" in talk.log.text


def test_an_error_whose_words_fail_too_is_told(stage: Stages) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise Mute

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().status == 500
    assert "Mute" in talk.log.text


def test_errors_is_a_stream_of_lines_for_the_log(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        print("one", "two", file=environ["wsgi.errors"])
        environ["wsgi.errors"].write("thr")
        environ["wsgi.errors"].flush()
        environ["wsgi.errors"].writelines(["ee\n", "caf\xe9 \udc80 no end"])
        start_response("200 OK", TEXT)
        return []

    talk = stage(app)
    talk.client.get()
    assert [line.split("stderr: ")[1] for line in talk.log.lines] == ["one two", "three", "caf\xe9 \\udc80 no end"]
    assert all("exchange=" in line and "route=/" in line for line in talk.log.lines)


def test_a_timeout_ends_the_exchange_and_not_the_application(stage: Stages) -> None:
    after: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        talk.streams.enter(talk.client.end.exchange.failed, GatewayError(504, "total-timeout", "late"))  # type: ignore[union-attr]
        start_response("200 OK", TEXT)
        after.append("back")
        return [b"too late"]

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().status == 504
    assert after == ["back"]
    talk.client << None


# ---------------------------------------------------------------------- files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    return path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def sender(make: Callable[[], Any], fields: Any = None, **options: Any) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT if fields is None else list(fields))
        return environ["wsgi.file_wrapper"](make(), **options)

    return app


def test_a_file_is_sent_by_the_kernel_from_where_it_stands(stage: Stages, file: Path) -> None:
    opened: list[Any] = []

    def make() -> Any:
        opened.append(file.open("rb"))
        opened[0].read(100)
        return opened[0]

    before = descriptors()
    talk = stage(sender(make), http=False)
    server = WebServer(talk, {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b""})
    [piece] = server.slices
    assert (piece.offset, piece.length, server.response.length if server.response else 0) == (100, 9900, 9900)
    assert opened[0].closed
    assert os.pread(piece.fd, 3, piece.offset) == b"012"
    piece.close()
    assert descriptors() == before


@pytest.mark.parametrize("length", [5, 10_000])
def test_no_more_of_it_than_its_length(stage: Stages, file: Path, length: int) -> None:
    talk = stage(sender(lambda: file.open("rb"), [("Content-Length", str(length))]))
    talk.client.get()
    answer = talk.client.answer()
    assert (len(answer.content), answer.complete) == (length, True)


def test_a_file_that_is_too_short_is_an_error(stage: Stages, file: Path) -> None:
    before = descriptors()
    talk = stage(sender(lambda: file.open("rb"), [("Content-Length", "10001")]))
    talk.client.get()
    assert talk.client.answer().status == 500
    assert descriptors() == before


@pytest.mark.parametrize("fields", [None, [("Content-Length", "10000")]])
def test_a_head_to_a_file_sends_nothing_of_it(stage: Stages, file: Path, fields: Any) -> None:
    before = descriptors()
    talk = stage(sender(lambda: file.open("rb"), fields))
    talk.client.get(method="HEAD")
    answer = talk.client.answer()
    assert (answer.fields["content-length"], answer.complete) == ("10000", True)
    talk.client << None
    assert descriptors() == before


def test_a_file_for_a_client_that_left_is_closed(stage: Stages, file: Path) -> None:
    before = descriptors()

    def make() -> Any:
        talk.client >> LOST
        return file.open("rb")

    talk = stage(sender(make))
    talk.client.get()
    assert descriptors() == before


@pytest.mark.parametrize("kind", ["raw", "random", "temporary", "named"])
def test_files_of_all_sorts_go_by_the_kernel(stage: Stages, file: Path, kind: str) -> None:
    def make() -> Any:
        if kind == "raw":
            return file.open("rb", buffering=0)
        if kind == "named":
            made: Any = tempfile.NamedTemporaryFile()  # noqa: SIM115
        else:
            made = file.open("r+b") if kind == "random" else tempfile.TemporaryFile()  # noqa: SIM115
        made.write(b"x" * 10_000)
        made.seek(0)
        return made

    talk = stage(sender(make), http=False)
    server = WebServer(talk, {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b""})
    [piece] = server.slices
    assert piece.length == 10_000
    piece.close()


def test_what_does_not_read_as_its_descriptor_does_is_read(stage: Stages, tmp_path: Path, file: Path) -> None:
    with gzip.open(tmp_path / "packed", "wb") as packed:
        packed.write(b"hello " * 1000)
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    os.close(writer)

    class Loud(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(-1 if size is None else size).upper()

    (tmp_path / "low").write_bytes(b"low")
    for make, content in (
        (lambda: io.BytesIO(b"memory"), b"memory"),
        (lambda: gzip.GzipFile(tmp_path / "packed"), b"hello " * 1000),
        (lambda: os.fdopen(reader, "rb"), b"piped"),
        (lambda: Loud(str(tmp_path / "low")), b"LOW"),
    ):
        talk = stage(sender(make, block_size=1000))
        talk.client.get()
        answer = talk.client.answer()
        assert (answer.content, answer.complete, answer.fields["transfer-encoding"]) == (content, True, "chunked")


def test_a_text_file_is_an_error(stage: Stages, file: Path) -> None:
    talk = stage(sender(lambda: file.open()))
    talk.client.get()
    assert talk.client.answer().status == 500
    assert "has to be bytes, not str" in talk.log.text


def test_after_write_a_file_goes_in_chunks(stage: Stages, file: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)(b"first ")
        return environ["wsgi.file_wrapper"](file.open("rb"), 4096)

    talk = stage(app)
    talk.client.get()
    assert talk.client.answer().content == b"first " + file.read_bytes()


def test_an_empty_file_has_a_length_of_0(stage: Stages, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    before = descriptors()
    talk = stage(sender((tmp_path / "empty").open("rb").__enter__))
    talk.client.get()
    assert talk.client.answer().fields["content-length"] == "0"
    assert descriptors() == before


# ---------------------------------------------------------------------- what the engine sees


def test_the_engine_knows_how_many_calls_run(stage: Stages) -> None:
    counts: list[int] = []

    class Counting(Result):
        def close(self) -> None:
            counts.append(talk.interface().running)

    talk = stage(Recorder(Counting([b"x"])))
    talk.client.get()
    assert counts == [1]
    assert talk.interface().running == 0


def test_at_the_end_no_call_is_waited_for(stage: Stages) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        talk.interface().close()
        start_response("200 OK", TEXT)
        return []

    talk = stage(app)
    talk.client.get()
    assert talk.interface().running == 0
