"""SCGI, threaded: `from gateway.flup.scgi import WSGIServer; WSGIServer(application, bindAddress=...).run()`.

Promise: arguments, their order and their defaults are flup's.
Must never know: how it is served. Next: `threadedserver.py`, `scgi_base.py`, the two halves.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from gateway.flup.listening import BindAddress
from gateway.flup.scgi_base import BaseSCGIServer, NoDefault
from gateway.flup.threadedserver import ThreadedServer

__all__ = ["WSGIServer"]


class WSGIServer(BaseSCGIServer, ThreadedServer):
    """A thread for each connection."""

    def __init__(
        self, application: Any, scriptName: Any = NoDefault, environ: Mapping[str, Any] | None = None,
        multithreaded: bool = True, multiprocess: bool = False, bindAddress: BindAddress = ("localhost", 4000),
        umask: int | None = None, allowedServers: Collection[str] | None = None, loggingLevel: int = logging.INFO,
        debug: bool = False, **kw: Any,
    ) -> None:  # fmt: skip
        """Further arguments: minSpare, maxSpare, maxThreads."""
        BaseSCGIServer.__init__(
            self, application, scriptName, environ, multithreaded, multiprocess, bindAddress, umask, allowedServers,
            loggingLevel, debug,
        )  # fmt: skip
        ThreadedServer.__init__(self, **kw)

    def run(self) -> bool:  # type: ignore[override]
        """Serve until SIGTERM or SIGINT, and return False, or until SIGHUP, and return True."""
        return self._logged(lambda sock: ThreadedServer.run(self, sock))
