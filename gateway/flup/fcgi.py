"""FastCGI, threaded: `from gateway.flup.fcgi import WSGIServer; WSGIServer(application).run()`.

Promise: arguments, their order and their defaults are flup's.
Must never know: how it is served. Next: `threadedserver.py`, `fcgi_base.py`, the two halves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gateway.flup.fcgi_base import FCGI_RESPONDER, BaseFCGIServer
from gateway.flup.listening import BindAddress
from gateway.flup.threadedserver import ThreadedServer

__all__ = ["WSGIServer"]


class WSGIServer(BaseFCGIServer, ThreadedServer):
    """A thread for each connection; with `multiplexed`, an event loop and a pool of threads."""

    def __init__(
        self, application: Any, environ: Mapping[str, Any] | None = None, multithreaded: bool = True,
        multiprocess: bool = False, bindAddress: BindAddress = None, umask: int | None = None, multiplexed: bool = False,
        debug: bool = False, roles: Collection[int] = (FCGI_RESPONDER,), forceCGI: bool = False, **kw: Any,
    ) -> None:  # fmt: skip
        """Further arguments: minSpare, maxSpare, maxThreads."""
        BaseFCGIServer.__init__(
            self, application, environ, multithreaded, multiprocess, bindAddress, umask, multiplexed, debug, roles, forceCGI
        )
        ThreadedServer.__init__(self, **kw)

    def run(self) -> bool:  # type: ignore[override]
        """Serve until SIGTERM or SIGINT, and return False, or until SIGHUP, and return True."""
        return ThreadedServer.run(self, self._setupSocket())
