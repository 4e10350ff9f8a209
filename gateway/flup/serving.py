"""What all servers of flup have: their life from `run` to the signal that ends it, over the house of a worker.

Promise: the methods that flup's programs override are asked; one that would never be asked is refused when the
class is made, and not ignored. The socket is the program's: its file stays when serving ends.
Must never know: FastCGI, SCGI. Next: `fcgi_base.py` and `scgi_base.py`, the two kinds; `application.py`.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote_to_bytes

from gateway.flup.application import Application, Environ, Request
from gateway.flup.listening import BindAddress, listen
from gateway.models import Hosting, ModelError, worker_hosting
from gateway.worker import Settings, Worker, run_once

if TYPE_CHECKING:
    from gateway.generation import Generation

THREADS = 200
"""Where maxThreads is not given: each takes some descriptors, and 1024 of these is the usual limit."""
THREADS_IN_LOOP = 64
"""Likewise with one event loop: threads that run the application, whatever number of connections there is."""
NEVER_ASKED = ("handler", "request_class", "cgirequest_class", "requestClass", "_connectionClass")
ERROR_PAGE = (
    b"Status: 500 Internal Server Error\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b"<!doctype html><html lang=en><meta charset=utf-8><title>500 Internal Server Error</title>"
    b"<h1>500 Internal Server Error</h1><p>The application failed. Its log tells why.\n"
)


class NoDefault:
    """An argument that was not given, where None means something."""


class Server:
    """A WSGI application, and how it is to be served. Subclasses say over which interface, and with which shape."""

    interface: ClassVar[str]
    handles_errors = False
    """Whether a subclass has an `error` of its own."""
    roles: Collection[int] = (1,)

    def __init__(
        self, application: Any, environ: Mapping[str, Any] | None, multithreaded: bool, multiprocess: bool,
        bindAddress: BindAddress, umask: int | None, debug: bool,
    ) -> None:  # fmt: skip
        self.application = application
        self.environ: Any = {} if environ is None else environ
        self.multithreaded = bool(multithreaded)
        self.multiprocess = bool(multiprocess)
        self.multiplexed = False
        self.debug = debug
        """Has no effect: a traceback is in the log in any case, and never goes to a client."""
        self.timeout: float | None = None
        self.allowed: Collection[str] | None = None
        """Whose connections are taken; None for everybody's."""
        self._bindAddress = bindAddress
        self._umask = umask
        self._hosted: Hosted | None = None
        self._ending = False
        self._hupReceived = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name in NEVER_ASKED:
            if name in vars(cls):
                raise TypeError(
                    f"{cls.__name__}.{name} would never be used: gateway.flup has its own way to handle a request. "
                    "What it does before or after the application, a WSGI application around that one can do"
                )
        if "error" in vars(cls) and not cls.__module__.startswith("gateway.flup."):
            cls.handles_errors = True

    # ------------------------------------------------------------------ to be overridden

    def _setupSocket(self) -> socket.socket:
        """The socket that listens. Raises OSError with what to do."""
        return listen(self._bindAddress, self._umask)

    def _cleanupSocket(self, sock: socket.socket) -> None:
        """No further connection will be taken."""
        sock.close()

    def _isClientAllowed(self, addr: tuple[str, int]) -> bool:
        """Whether a web server may connect, by its IP address; the port is not told."""
        return self.allowed is None or addr[0] in self.allowed

    def _sanitizeEnv(self, environ: Environ) -> None:
        """Set what the web server left out."""
        uri = environ.get("REQUEST_URI", "")
        path, mark, query = uri.partition("?")
        if not environ.get("QUERY_STRING"):
            environ["QUERY_STRING"] = query if mark else ""
        environ.setdefault("SCRIPT_NAME", "")
        if not environ.get("PATH_INFO"):
            environ["PATH_INFO"] = self._rest_of(path, environ["SCRIPT_NAME"])

    def _rest_of(self, path: str, script_name: str) -> str:
        """What of the request's path is not SCRIPT_NAME; "" if that is not its beginning."""
        whole = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        rest = whole.removeprefix(script_name) if path.startswith("/") and whole.startswith(script_name) else ""
        return rest if not script_name or rest.startswith("/") else ""

    def error(self, req: Request) -> None:
        """The application has failed before it wrote anything: write a whole CGI response to `req.stdout`.

        Called for subclasses that override it; else the answer is the house's own.
        """
        req.stdout.write(ERROR_PAGE)

    def _mainloopPeriodic(self) -> None:
        """Called several times in a second, in the process and the thread that called `run`."""

    def _installSignalHandlers(self) -> None:
        """SIGTERM, SIGINT and SIGHUP end serving. Overridden to do nothing, a server may run in any thread."""
        if self._hosted is not None:
            self._hosted.obey_usual_signals()

    def _restoreSignalHandlers(self) -> None:
        """Called when serving has ended, and the former handlers are back."""

    def told(self, environ: Environ) -> None:
        """A request is about to be handed to the application."""

    # ------------------------------------------------------------------ its life

    def _exit(self, reload: bool = False) -> None:
        """End serving; `run` returns `reload`. From any thread of the process that called `run`."""
        if not self._ending:
            self._hupReceived = reload
            self._keepGoing = False

    @property
    def _keepGoing(self) -> bool:
        return not self._ending

    @_keepGoing.setter
    def _keepGoing(self, value: bool) -> None:
        self._ending = not value
        hosted = self._hosted
        if hosted is not None and self._ending:
            hosted.driver.wake()

    def shutdown(self) -> None:
        """Nothing is left to wait for: `run` returns when all requests are answered."""

    def _once(self) -> int:
        """Answer the one request that is in the environment and on stdin (CGI); the exit code."""
        return run_once(Application(self), "wsgi")


def answer_once(server: Server) -> int:
    """As a CGI program; where not even a request is there, on a terminal, the page for / is shown."""
    if "REQUEST_METHOD" not in os.environ:
        print(
            f"{type(server).__name__}: descriptor 0 is no listening socket, and there is no request in the environment: "
            "this is what / is answered. To serve, give bindAddress, or have a web server, spawn-fcgi or gateway start it",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        for name, value in (("METHOD", "GET"), ("NAME", "localhost"), ("PORT", "80"), ("PROTOCOL", "HTTP/1.0")):
            os.environ.setdefault(("REQUEST_" if name == "METHOD" else "SERVER_") + name, value)
    return server._once()


def serve(server: object, sock: socket.socket, hosting: Hosting) -> bool:
    """Serve on a listening socket until a signal ends it; whether it was SIGHUP."""
    if not isinstance(server, Server):
        raise TypeError(
            f"{type(server).__name__} is neither a BaseFCGIServer nor a BaseSCGIServer, and nothing else is served here"
        )
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(errno.EINVAL, "the socket does not listen; whoever makes it (_setupSocket) has to call listen() on it")
    server._ending = server._hupReceived = False
    hosted = server._hosted = Hosted(server, sock, hosting)
    try:
        hosted.run(None)
    finally:
        server._hosted = None
        hosted.let_go()
    server._restoreSignalHandlers()
    return server._hupReceived


class Hosted(Worker):
    """A worker that a program runs in itself."""

    def __init__(self, server: Server, sock: socket.socket, hosting: Hosting) -> None:
        self.server = server
        self.sock: socket.socket | None = sock
        asked: Any = server._isClientAllowed
        ask = server.allowed is not None or getattr(asked, "__func__", None) is not Server._isClientAllowed
        clients = Clients(server._isClientAllowed) if ask else ()
        # ours is another descriptor of the same socket: it is closed here, and the program's where flup would
        super().__init__(
            Application(server), "wsgi", Settings(server.interface, hosting, (os.dup(sock.fileno()),), web_servers=clients)
        )

    @property
    def multithread(self) -> bool:
        return self.server.multithreaded

    @property
    def multiprocess(self) -> bool:
        return self.server.multiprocess

    def obey_signals(self) -> None:
        self.server._installSignalHandlers()

    def obey_usual_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError(
                "signals are those of the main thread: call run() there, or override _installSignalHandlers to do nothing"
            )
        self.driver.call_signals({signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self.hang_up})

    def hang_up(self) -> None:
        self.server._hupReceived = self.server._hupReceived or not self.stop_by
        self.stop()

    def stop(self) -> None:
        super().stop()
        self.server._ending = True
        self.let_go()

    def let_go(self) -> None:
        """No connection is taken any more: the socket is the program's again."""
        sock, self.sock = self.sock, None
        if sock is not None:
            self.server._cleanupSocket(sock)

    def forked(self, mine: Generation) -> int:
        lifeline = super().forked(mine)
        self.server._hosted = None
        if self.sock is not None:
            self.sock.close()
        return lifeline

    def _over(self) -> bool:
        if self.server._ending and not self.stop_by:
            self.stop()
        return super()._over()

    def _tick(self, now: float, wall: float) -> None:
        super()._tick(now, wall)
        self.server._mainloopPeriodic()


class Clients(Collection[str]):
    """The addresses that may connect, as a question to the program."""

    def __init__(self, allows: Callable[[tuple[str, int]], bool]) -> None:
        self.allows = allows

    def __contains__(self, host: object) -> bool:
        # a listener for both families tells an IPv4 address in this form
        return bool(self.allows((str(host).removeprefix("::ffff:"), 0)))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1


def hosting_for(concurrency: str, threads: int | None = None, **given: int) -> Hosting:
    """A shape with figures by flup's names for them in `given` (of `worker_hosting`). Raises ValueError."""
    try:
        return worker_hosting(concurrency, None, threads, given)
    except ModelError as error:
        raise ValueError(str(error)) from None

