"""What flup adds to PEP 3333, between the machine and the application of a program."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from gateway.flup.application import Application, Request
from gateway.flup.fcgi import WSGIServer
from gateway.flup.fcgi_base import FCGI_AUTHORIZER, FCGI_RESPONDER
from gateway.flup.fcgi_fork import WSGIServer as ForkingServer
from gateway.flup.scgi import WSGIServer as ScgiServer
from gateway.flup.timeout import TimeoutException
from gateway.hosting.wsgi_streams import FileWrapper


class Answer:
    """A call as the machine makes it."""

    def __init__(self, server: Any, content: bytes = b"", **variables: Any) -> None:
        self.environ: dict[str, Any] = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/x", "QUERY_STRING": "", "SERVER_NAME": "h",
            "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(content), "wsgi.errors": io.StringIO(), "wsgi.multithread": True,
            "wsgi.multiprocess": False, "wsgi.run_once": False, "wsgi.file_wrapper": FileWrapper, **variables,
        }  # fmt: skip
        self.errors = self.environ["wsgi.errors"]
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.written: list[bytes] = []
        self.result: Any = Application(server)(self.environ, self.start_response)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert exc_info is not None or not self.status
        self.status, self.headers = status, headers
        return self.written.append

    def content(self) -> bytes:
        try:
            return b"".join([*self.written, *self.result])
        finally:
            if hasattr(self.result, "close"):
                self.result.close()


def answering(result: Any, status: Any = "200 OK", headers: Any = ()) -> Any:
    def application(environ: Any, start_response: Any) -> Any:
        start_response(status, list(headers))
        return result

    return application


def test_environ_is_added_to_each_request() -> None:
    extra = {"A": "b", "wsgi.multithread": "mine", "a.b": [1]}
    seen = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ)
        environ["A"] = "changed"
        start_response("200 OK", [])
        return []

    server = WSGIServer(application, environ=extra)
    Answer(server)
    extra["C"] = "d"
    Answer(server, A="of the server")
    assert [environ["a.b"] for environ in seen] == [[1], [1]]
    assert seen[0]["wsgi.multithread"] is True
    assert (seen[1]["C"], extra["A"]) == ("d", "b")


@pytest.mark.parametrize(("value", "scheme"), [("on", "https"), ("1", "https"), ("off", "http")])
def test_environ_may_say_that_it_is_https(value: str, scheme: str) -> None:
    one = Answer(WSGIServer(answering([]), environ={"HTTPS": value}), **{"wsgi.url_scheme": "http"})
    assert one.environ["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"REQUEST_URI": "/a/b?c=d", "PATH_INFO": ""}, ("", "/a/b", "c=d")),
        ({"REQUEST_URI": "/a/b?c=d", "SCRIPT_NAME": "/a", "PATH_INFO": ""}, ("/a", "/b", "c=d")),
        ({"REQUEST_URI": "/a%20b/%C3%A9", "SCRIPT_NAME": "/a b", "PATH_INFO": ""}, ("/a b", "/\xc3\xa9", "")),
        ({"REQUEST_URI": "/ab", "SCRIPT_NAME": "/a", "PATH_INFO": ""}, ("/a", "", "")),
        ({"REQUEST_URI": "/other?x", "SCRIPT_NAME": "/a", "PATH_INFO": ""}, ("/a", "", "x")),
        ({"REQUEST_URI": "http://h/a", "PATH_INFO": ""}, ("", "", "")),
        ({"REQUEST_URI": "/a", "SCRIPT_NAME": "/a", "PATH_INFO": ""}, ("/a", "", "")),
        ({"REQUEST_URI": "/z?y", "SCRIPT_NAME": "/s", "PATH_INFO": "/p", "QUERY_STRING": "q"}, ("/s", "/p", "q")),
    ],
)
def test_what_the_web_server_left_out(given: dict[str, str], expected: tuple[str, ...]) -> None:
    environ = Answer(WSGIServer(answering([])), **given).environ
    assert tuple(environ[name] for name in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")) == expected


def test_sanitize_env_may_be_overridden() -> None:
    class Mine(WSGIServer):
        def _sanitizeEnv(self, environ: Any) -> None:
            super()._sanitizeEnv(environ)
            environ["SCRIPT_NAME"] = "/mine"

    assert Answer(Mine(answering([]))).environ["SCRIPT_NAME"] == "/mine"


@pytest.mark.parametrize(
    ("script_name", "given", "expected"),
    [
        ("", {"SCRIPT_NAME": "/a/b", "PATH_INFO": ""}, ("", "/a/b")),
        ("/a", {"SCRIPT_NAME": "/a/b", "PATH_INFO": "/c"}, ("/a", "/b/c")),
        ("/a", {"SCRIPT_NAME": "", "PATH_INFO": "/a"}, ("/a", "")),
        ("/a", {"SCRIPT_NAME": "/ab", "PATH_INFO": "/c"}, ("/ab", "/c")),
        ("/a", {"WSGI_SCRIPT_NAME": "/x", "SCRIPT_NAME": "", "PATH_INFO": "/x/y"}, ("/x", "/y")),
        ("/a", {"WSGI_SCRIPT_NAME": "None", "SCRIPT_NAME": "/a", "PATH_INFO": "/y"}, ("/a", "/y")),
        (None, {"SCRIPT_NAME": "/a", "PATH_INFO": "/y"}, ("/a", "/y")),
    ],
)
def test_script_name_of_scgi(script_name: Any, given: dict[str, str], expected: tuple[str, str]) -> None:
    server = ScgiServer(answering([]), script_name, loggingLevel=logging.CRITICAL)
    environ = Answer(server, **given).environ
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == expected


def test_scgi_logs_each_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "scgi-wsgi"):
        Answer(ScgiServer(answering([])), SCRIPT_NAME="/a", PATH_INFO="/b")
        Answer(ScgiServer(answering([]), loggingLevel=logging.WARNING), PATH_INFO="/silent")
    assert [record.getMessage() for record in caplog.records] == ["GET /a/b"]


# ---------------------------------------------------------------------- text and octets


@pytest.mark.parametrize("result", [["a\xe9", b"b"], ("a\xe9", b"b"), "a\xe9b", iter(["a\xe9", b"b"])])
def test_text_is_latin_1(result: Any) -> None:
    one = Answer(WSGIServer(answering(result, b"200 OK", [(b"A", "b"), ("C", b"d")])))
    assert one.content() == b"a\xe9b"
    assert (one.status, one.headers) == ("200 OK", [("A", "b"), ("C", "d")])


def test_write_takes_text() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write("a\xe9")
        write(b"b")
        return []

    assert Answer(WSGIServer(application)).content() == b"a\xe9b"


def test_fields_of_the_connection_are_left_out() -> None:
    """flup sent them on, and the web server dropped them; PEP 3333 forbids them."""
    one = Answer(WSGIServer(answering([], headers=[("Connection", "close"), ("keep-alive", "1"), ("A", "b")])))
    assert one.headers == [("A", "b")]


def test_what_the_machine_knows_comes_to_it_untouched() -> None:
    wrapper = FileWrapper(io.BytesIO(b"x"))
    assert Answer(WSGIServer(answering(wrapper))).result is wrapper
    assert Answer(WSGIServer(answering(None))).result is None
    assert Answer(WSGIServer(answering(b"x"))).result == b"x"


def test_close_is_called_and_the_length_is_told() -> None:
    class Result:
        closed = 0

        def __iter__(self) -> Iterator[str]:
            return iter(["x"])

        def __len__(self) -> int:
            return 1

        def close(self) -> None:
            self.closed += 1

    for kind in (WSGIServer, Failing):
        result = Result()
        one = Answer(kind(answering(result)))
        assert len(one.result) == 1
        assert (one.content(), result.closed) == (b"x", 1)


@pytest.mark.parametrize("kind", [WSGIServer, ForkingServer])
def test_it_is_wsgi_on_both_sides(kind: Any) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"a", b"", b"b"])

    inner = Application(kind(validator(application)))
    environ = Answer(WSGIServer(answering([]))).environ
    told: list[Any] = []

    def start_response(*arguments: Any) -> Any:
        told.append(arguments)
        return lambda octets: None

    result = validator(lambda environ, start: inner(environ, start))(environ, start_response)
    assert (b"".join(result), told[0][0]) == (b"ab", "200 OK")
    result.close()  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- roles


@pytest.mark.parametrize(
    ("roles", "role", "status"),
    [
        ((FCGI_RESPONDER,), "RESPONDER", "200 OK"),
        ((FCGI_RESPONDER,), "AUTHORIZER", "403 Forbidden"),
        ((FCGI_AUTHORIZER,), "AUTHORIZER", "200 OK"),
        ((FCGI_AUTHORIZER,), "RESPONDER", "403 Forbidden"),
        ((FCGI_RESPONDER, FCGI_AUTHORIZER), "AUTHORIZER", "200 OK"),
    ],
)
def test_roles(roles: tuple[int, ...], role: str, status: str) -> None:
    """An application that was not made to let clients in never lets one in."""
    assert Answer(WSGIServer(answering([]), roles=roles), FCGI_ROLE=role).status == status


# ---------------------------------------------------------------------- the page of the server


class Failing(WSGIServer):
    def error(self, req: Request) -> None:
        assert req.server is self
        assert req.params is req.environ
        req.stdout.write(b"Status: 503 Later\r\nContent-Type: text/html\r\nRetry-After: 7\r\n\r\n")
        assert req.stdout.dataWritten
        req.stdout.write("<p>" + req.params["PATH_INFO"])


def raising(environ: Any, start_response: Any) -> Any:
    raise ValueError("on purpose")


def raising_after_start(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("A", "b")])
    yield b""
    raise ValueError("on purpose")


def raising_after_content(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("A", "b")])
    yield b"content"
    raise ValueError("on purpose")


def raising_after_write(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("A", "b")])(b"content")
    raise ValueError("on purpose")


@pytest.mark.parametrize("application", [raising, raising_after_start])
def test_an_overridden_error_page(application: Any) -> None:
    one = Answer(Failing(application))
    assert one.content() == b"<p>/x"
    assert (one.status, dict(one.headers)) == ("503 Later", {"Content-Type": "text/html", "Retry-After": "7"})
    assert "ValueError: on purpose" in one.errors.getvalue()


def test_sys_exit_is_an_error_like_any_other() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        raise SystemExit(3)

    assert Answer(Failing(application)).content() == b"<p>/x"


@pytest.mark.parametrize("application", [raising_after_content, raising_after_write])
def test_after_content_nothing_is_put_behind_it(application: Any) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        Answer(Failing(application)).content()


@pytest.mark.parametrize("debug", [False, True])
def test_without_an_override_the_machine_answers(debug: bool) -> None:
    """Whatever `debug` says: a client never gets a traceback."""
    with pytest.raises(ValueError, match="on purpose"):
        Answer(WSGIServer(raising, debug=debug))


def test_the_page_of_the_base_class_may_be_asked_for() -> None:
    class Mine(WSGIServer):
        def error(self, req: Request) -> None:
            super().error(req)

    one = Answer(Mine(raising))
    assert b"500 Internal Server Error" in one.content()
    assert one.status == "500 Internal Server Error"


def test_an_error_page_that_redirects() -> None:
    class Mine(WSGIServer):
        def error(self, req: Request) -> None:
            req.stdout.write("Location: /sorry\r\n\r\n")

    one = Answer(Mine(raising))
    assert (one.content(), one.status, one.headers) == (b"", "302 Found", [("Location", "/sorry")])


def test_an_error_page_that_fails() -> None:
    class Mine(WSGIServer):
        def error(self, req: Request) -> None:
            raise KeyError("in the page")

    with pytest.raises(KeyError, match="in the page"):
        Answer(Mine(raising))


# ---------------------------------------------------------------------- too slow


def forever(*arguments: Any) -> Any:
    while True:
        time.sleep(0.01)


def test_an_application_that_takes_too_long_is_interrupted() -> None:
    with pytest.raises(TimeoutException, match=r"more than 0\.05 s"):
        Answer(ForkingServer(forever, timeout=0.05))


def test_so_is_one_that_does_so_while_it_yields() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"a"
        forever()

    one = Answer(ForkingServer(application, timeout=0.05))
    with pytest.raises(TimeoutException):
        one.content()
    assert "in forever" in one.errors.getvalue()


def test_the_page_for_it_is_the_server_s() -> None:
    class Mine(ForkingServer):
        def error(self, req: Request) -> None:
            req.stdout.write("Status: 504 Too Slow\r\n\r\n")

    one = Answer(Mine(forever, timeout=0.05))
    assert (one.content(), one.status) == (b"", "504 Too Slow")


class Slow(io.BytesIO):
    """Content that is slow to come, as our own input may be: its state is not to be broken."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def read(self, size: int | None = -1) -> bytes:
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            time.sleep(0.01)
        self.log.append("read to its end")
        return b"content"


def test_our_own_methods_are_not_interrupted() -> None:
    log: list[str] = []

    def application(environ: Any, start_response: Any) -> Any:
        log.append(environ["wsgi.input"].read().decode())
        forever()

    with pytest.raises(TimeoutException):
        Answer(ForkingServer(application, timeout=0.05), **{"wsgi.input": Slow(log)})
    assert log == ["read to its end", "content"]


def test_one_that_is_in_time_is_left_alone() -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    one = Answer(ForkingServer(answering(["in ", "time"]), timeout=5), content=b"a\nb")
    assert list(one.environ["wsgi.input"]) == [b"a\n", b"b"]
    assert one.content() == b"in time"
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
