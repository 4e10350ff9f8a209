"""FastCGI, forking: `from gateway.flup.fcgi_fork import WSGIServer`; a pool of processes.

Promise: arguments, their order and their defaults are flup's.
Must never know: how it is served. Next: `preforkserver.py`, `fcgi_base.py`, the two halves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gateway.flup.fcgi_base import FCGI_RESPONDER, BaseFCGIServer
from gateway.flup.listening import BindAddress
from gateway.flup.preforkserver import PreforkServer

__all__ = ["WSGIServer"]
IGNORED = ("multithreaded", "multiprocess", "jobClass", "jobArgs")


class WSGIServer(BaseFCGIServer, PreforkServer):
    """One connection at a time in each of several processes."""

    def __init__(
        self, application: Any, environ: Mapping[str, Any] | None = None, bindAddress: BindAddress = None,
        umask: int | None = None, multiplexed: bool = False, debug: bool = False,
        roles: Collection[int] = (FCGI_RESPONDER,), forceCGI: bool = False, timeout: float | None = None, **kw: Any,
    ) -> None:  # fmt: skip
        """Further arguments: minSpare, maxSpare, maxChildren, maxRequests, sockTimeout."""
        BaseFCGIServer.__init__(
            self, application, environ, False, True, bindAddress, umask, multiplexed, debug, roles, forceCGI
        )
        self.timeout = timeout
        PreforkServer.__init__(self, **{name: kw[name] for name in kw if name not in IGNORED})

    def run(self) -> bool:  # type: ignore[override]
        """Serve until SIGTERM or SIGINT, and return False, or until SIGHUP, and return True."""
        return PreforkServer.run(self, self._setupSocket())
