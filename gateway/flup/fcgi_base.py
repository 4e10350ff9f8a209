"""FastCGI servers: what the threaded, the forking and the single one share.

Promise: without `bindAddress` the socket on descriptor 0 is served, and where there is none, one CGI request.
Must never know: shapes. Next: `fcgi.py`, and `serving.py` for everything that is not FastCGI's own.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Collection, Mapping
from typing import Any

from gateway.flup.application import Request as Request
from gateway.flup.listening import BindAddress, descriptor_0
from gateway.flup.serving import Server, answer_once
from gateway.flup.timeout import TimeoutException as TimeoutException
from gateway.worker import allowed_from

FCGI_LISTENSOCK_FILENO = 0
FCGI_RESPONDER = 1
FCGI_AUTHORIZER = 2
FCGI_FILTER = 3
FCGI_REQUEST_COMPLETE = 0
FCGI_CANT_MPX_CONN = 1
FCGI_OVERLOADED = 2
FCGI_UNKNOWN_ROLE = 3
FCGI_MAX_CONNS = "FCGI_MAX_CONNS"
FCGI_MAX_REQS = "FCGI_MAX_REQS"
FCGI_MPXS_CONNS = "FCGI_MPXS_CONNS"


class BaseFCGIServer(Server):
    """A WSGI application over FastCGI."""

    interface = "fastcgi"
    maxwrite = 8192
    """Has no effect: records are as long as the protocol allows."""
    inputStreamShrinkThreshold = 0
    """Has no effect: content that was read is not kept."""

    def __init__(
        self, application: Any, environ: Mapping[str, Any] | None = None, multithreaded: bool = True,
        multiprocess: bool = False, bindAddress: BindAddress = None, umask: int | None = None, multiplexed: bool = False,
        debug: bool = False, roles: Collection[int] = (FCGI_RESPONDER,), forceCGI: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(application, environ, multithreaded, multiprocess, bindAddress, umask, debug)
        self.multiplexed = multiplexed
        self.roles = roles
        self.forceCGI = forceCGI
        self._connectionClass: Any = None

    def _setupSocket(self) -> socket.socket:
        self.allowed = allowed_from(os.environ) or None
        if self._bindAddress is not None:
            return super()._setupSocket()
        forced = self.forceCGI or os.environ.get("FCGI_FORCE_CGI", "").upper().startswith("Y")
        sock = None if forced else descriptor_0()
        if sock is None:
            sys.exit(answer_once(self))
        return sock
