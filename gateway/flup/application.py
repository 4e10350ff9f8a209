"""The application of a flup program, as it is hosted: what flup adds to PEP 3333 on the way in and out.

Promise: the program's `environ=` is in every request, text is taken where octets are due (as Latin-1), and a
server class that overrides `error` has it asked; what needs nothing of it passes through untouched.
Must never know: sockets, processes. Next: `serving.py`, which hosts it.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gateway.flup.timeout import Timeout
from protocols.cgi import ScriptResponseReader
from protocols.fields import HOP_BY_HOP
from protocols.message import Content, LocalRedirect, Response
from protocols.status import reason

if TYPE_CHECKING:
    from gateway.flup.serving import Server

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]

ROLE_NUMBERS = {"RESPONDER": 1, "AUTHORIZER": 2}


class Application:
    """PEP 3333, around the application of a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.handles_errors = server.handles_errors or "error" in vars(server)
        self.timeout = Timeout(server.timeout) if server.timeout else None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        server = self.server
        if ROLE_NUMBERS.get(environ.get("FCGI_ROLE", ""), 1) not in server.roles:
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"This program was not made for that role.\n"]
        self._add(environ)
        server._sanitizeEnv(environ)
        server.told(environ)
        start = _Start(start_response)
        if self.handles_errors or self.timeout is not None:
            return _Watched(self, environ, start)
        result = server.application(environ, start)
        kind = type(result)
        if kind is list or kind is tuple:
            return [_octets(piece) for piece in result]
        if kind is str:
            return [_octets(result)]
        if result is None or kind is bytes or isinstance(result, environ["wsgi.file_wrapper"]):
            return result  # type: ignore[no-any-return]
        return _Octets(result)

    def _add(self, environ: Environ) -> None:
        """What the program asks for in addition; what WSGI itself says is not its to change."""
        more = self.server.environ
        if not more:
            return
        for name in more:
            if not name.startswith("wsgi.") or name not in environ:
                environ[name] = more[name]
        if "HTTPS" in more:
            environ["wsgi.url_scheme"] = "https" if environ["HTTPS"] in ("on", "1") else "http"


class _Start:
    """`start_response` that takes octets for text; `used` tells whether anything has been written since."""

    __slots__ = ("timeout", "used", "_start", "_write")

    def __init__(self, start_response: StartResponse) -> None:
        self.used = False
        self.timeout: Timeout | None = None
        self._start = start_response
        self._write: Callable[[bytes], object] | None = None

    def __call__(self, status: str | bytes, headers: list[tuple[Any, Any]], exc_info: Any = None) -> Callable[[Any], None]:
        try:
            lines = [(_text(name), _text(value)) for name, value in headers if _octets(name).lower() not in HOP_BY_HOP]
            # three arguments only where there are three: middleware may know no more
            self._write = self._start(_text(status), lines, exc_info) if exc_info else self._start(_text(status), lines)
        finally:
            exc_info = None  # no cycle of frames
        return self.write

    def write(self, piece: bytes | str) -> None:
        assert self._write is not None
        octets = _octets(piece)
        self.used = self.used or bool(octets)
        if self.timeout is not None:
            self.timeout.back(self._write, octets)
        else:
            self._write(octets)


class _Octets:
    """Response content whose pieces may be text."""

    __slots__ = ("_pieces", "_result")

    def __init__(self, result: Any) -> None:
        self._result = result
        self._pieces: Iterator[Any] = iter(result)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return _octets(next(self._pieces))

    def __len__(self) -> int:
        return len(self._result)

    def close(self) -> None:
        close = getattr(self._result, "close", None)
        if close is not None:
            close()


class _Watched:
    """A call of the application: an exception before any content is answered by the server's own `error`, and one
    that takes too long is interrupted."""

    __slots__ = ("_app", "_close", "_environ", "_pieces", "_result", "_start", "_timeout")

    def __init__(self, app: Application, environ: Environ, start: _Start) -> None:
        self._app = app
        self._environ = environ
        self._start = start
        self._close: Callable[[], object] | None = None
        self._result: Any = ()
        self._pieces: Iterator[Any] = iter(())
        self._timeout = app.timeout
        if app.timeout is not None:
            app.timeout.begin(environ)
            start.timeout = app.timeout
        try:
            result = self._result = self._call(app.server.application, environ, start)
            self._close = getattr(result, "close", None)
            self._pieces = iter([result] if type(result) is str else result)
        except (Exception, SystemExit):
            self._failed()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._timeout is not None:
            return self._timeout.run(function, *arguments)
        return function(*arguments)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            octets = _octets(self._call(next, self._pieces))
        except StopIteration:
            raise
        except (Exception, SystemExit):
            self._failed()
            return _octets(next(self._pieces))
        self._start.used = self._start.used or bool(octets)
        return octets

    def __len__(self) -> int:
        return len(self._result)

    def close(self) -> None:
        close, self._close = self._close, None
        try:
            if close is not None:
                self._call(close)
        finally:
            if self._timeout is not None:
                self._timeout.end()

    def _failed(self) -> None:
        """The server's page, or else the exception that is being handled goes on to who can log and answer it."""
        if self._start.used or not self._app.handles_errors:
            if self._timeout is not None:  # nobody will close what was never returned
                self._timeout.end()
            raise  # called from except clauses only
        traceback.print_exc(file=self._environ["wsgi.errors"])
        request = Request(self._app.server, self._environ)
        self._app.server.error(request)
        response, content = request.response()
        line = f"{response.status} {(response.reason or reason(response.status).encode()).decode('latin-1')}"
        self._start(line, list(response.fields), sys.exc_info())
        self._result = (content,)
        self._pieces = iter(self._result)


class Request:
    """What `error` is given: the request that failed, and somewhere to write the whole of a CGI response to."""

    def __init__(self, server: Server, environ: Environ) -> None:
        self.server = server
        self.environ = self.params = environ
        """SCGI servers of flup call it `environ`, FastCGI servers `params`."""
        self.stdin = environ["wsgi.input"]
        self.stderr = environ["wsgi.errors"]
        self.stdout = Output()

    def response(self) -> tuple[Response, bytes]:
        """What was written, taken apart. Raises RemoteProtocolError where it is no response."""
        reader = ScriptResponseReader(request_method=b"GET")
        response, content = Response(500, ()), []
        for event in [*reader.receive(self.stdout.getvalue()), *reader.receive_eof()]:
            if isinstance(event, Response):
                response = event
            elif isinstance(event, LocalRedirect):
                response = Response(302, ((b"Location", event.target),))
            elif isinstance(event, Content):
                content.append(event.data)
        return response, b"".join(content)


class Output(io.BytesIO):
    """Takes text, too."""

    def write(self, piece: Any) -> int:
        return super().write(_octets(piece))

    @property
    def dataWritten(self) -> bool:
        return bool(self.tell())


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _octets(piece: str | bytes) -> bytes:
    return piece.encode("latin-1") if isinstance(piece, str) else piece
