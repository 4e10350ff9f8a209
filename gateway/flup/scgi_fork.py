"""SCGI, forking: `from gateway.flup.scgi_fork import WSGIServer`; a pool of processes.

Promise: arguments, their order and their defaults are flup's.
Must never know: how it is served. Next: `preforkserver.py`, `scgi_base.py`, the two halves.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from gateway.flup.fcgi_fork import IGNORED
from gateway.flup.listening import BindAddress
from gateway.flup.preforkserver import PreforkServer
from gateway.flup.scgi_base import BaseSCGIServer, NoDefault

__all__ = ["WSGIServer"]


class WSGIServer(BaseSCGIServer, PreforkServer):
    """One connection at a time in each of several processes."""

    def __init__(
        self, application: Any, scriptName: Any = NoDefault, environ: Mapping[str, Any] | None = None,
        bindAddress: BindAddress = ("localhost", 4000), umask: int | None = None,
        allowedServers: Collection[str] | None = None, loggingLevel: int = logging.INFO, debug: bool = False,
        timeout: float | None = None, **kw: Any,
    ) -> None:  # fmt: skip
        """Further arguments: minSpare, maxSpare, maxChildren, maxRequests, sockTimeout."""
        BaseSCGIServer.__init__(
            self, application, scriptName, environ, False, True, bindAddress, umask, allowedServers, loggingLevel, debug
        )
        self.timeout = timeout
        PreforkServer.__init__(self, **{name: kw[name] for name in kw if name not in IGNORED})

    def run(self) -> bool:  # type: ignore[override]
        """Serve until SIGTERM or SIGINT, and return False, or until SIGHUP, and return True."""
        return self._logged(lambda sock: PreforkServer.run(self, sock))
