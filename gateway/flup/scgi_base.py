"""SCGI servers: what the threaded and the forking one share.

Promise: `scriptName` and `allowedServers` mean what they mean to flup; requests are told to the logger "scgi-wsgi".
Must never know: shapes. Next: `scgi.py`, and `serving.py` for everything that is not SCGI's own.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any

from gateway.flup.application import Environ
from gateway.flup.application import Request as Request
from gateway.flup.listening import BindAddress, descriptor_0
from gateway.flup.serving import NoDefault as NoDefault
from gateway.flup.serving import Server
from gateway.flup.timeout import TimeoutException as TimeoutException

LoggerName = "scgi-wsgi"
_console = logging.StreamHandler()
_console.setFormatter(logging.Formatter("%(asctime)s : %(message)s", "%Y-%m-%d %H:%M:%S"))
logging.getLogger(LoggerName).addHandler(_console)


class BaseSCGIServer(Server):
    """A WSGI application over SCGI."""

    interface = "scgi"

    def __init__(
        self, application: Any, scriptName: Any = NoDefault, environ: Mapping[str, Any] | None = None,
        multithreaded: bool = True, multiprocess: bool = False, bindAddress: BindAddress = ("localhost", 4000),
        umask: int | None = None, allowedServers: Any = NoDefault, loggingLevel: int = logging.INFO, debug: bool = False,
    ) -> None:  # fmt: skip
        """`allowedServers`: IP addresses, None for any; if not given, those of this machine may connect.
        `bindAddress=None`, which flup does not know: the socket on descriptor 0, as `gateway` hands it over.
        """
        super().__init__(application, environ, multithreaded, multiprocess, bindAddress, umask, debug)
        self.scriptName = scriptName
        self.allowed: Collection[str] | None = ["127.0.0.1"] if allowedServers is NoDefault else allowedServers
        self.logger = logging.getLogger(LoggerName)
        self.logger.setLevel(loggingLevel)

    def _setupSocket(self) -> socket.socket:
        if self._bindAddress is not None:
            return super()._setupSocket()
        sock = descriptor_0()
        if sock is None:
            raise OSError("descriptor 0 is no listening socket; give bindAddress, or have gateway start this program")
        return sock

    def _sanitizeEnv(self, environ: Environ) -> None:
        name = environ.get("WSGI_SCRIPT_NAME", self.scriptName)
        if isinstance(name, str) and name.lower() == "none":
            name = None
        if name is NoDefault or name is None:
            super()._sanitizeEnv(environ)
            return
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        super()._sanitizeEnv(environ)
        if path.startswith(name) and path[len(name) : len(name) + 1] in ("", "/"):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = name, path[len(name) :]
        else:
            self.logger.warning("scriptName %r is not the beginning of %r, and is left out of account", name, path)

    def _isClientAllowed(self, addr: tuple[str, int]) -> bool:
        allowed = super()._isClientAllowed(addr)
        if not allowed:
            self.logger.warning("Server connection from %s disallowed", addr[0])
        return allowed

    def told(self, environ: Environ) -> None:
        self.logger.info("%s %s%s", environ["REQUEST_METHOD"], environ["SCRIPT_NAME"], environ["PATH_INFO"])

    def _logged(self, run: Callable[[socket.socket], bool]) -> bool:
        """Serve, with a line at the beginning and at the end; False where no socket is to be had."""
        name = type(self).__name__
        self.logger.info("%s starting up", name)
        try:
            sock = self._setupSocket()
        except OSError as error:
            self.logger.error("%s can't serve: %s", name, error.strerror or error)
            return False
        again = run(sock)
        self.logger.info("%s shutting down%s", name, " (reload requested)" * again)
        return again
