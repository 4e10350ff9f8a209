"""FastCGI, one connection at a time: `from gateway.flup.fcgi_single import WSGIServer`.

Promise: arguments, their order and their defaults are flup's.
Must never know: how it is served. Next: `singleserver.py`, `fcgi_base.py`, the two halves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gateway.flup.fcgi_base import FCGI_RESPONDER, BaseFCGIServer
from gateway.flup.listening import BindAddress
from gateway.flup.singleserver import SingleServer

__all__ = ["WSGIServer"]


class WSGIServer(BaseFCGIServer, SingleServer):
    """Neither threads nor processes."""

    def __init__(
        self, application: Any, environ: Mapping[str, Any] | None = None, bindAddress: BindAddress = None,
        umask: int | None = None, multiplexed: bool = False, debug: bool = False,
        roles: Collection[int] = (FCGI_RESPONDER,), forceCGI: bool = False, **kw: Any,
    ) -> None:  # fmt: skip
        BaseFCGIServer.__init__(
            self, application, environ, False, False, bindAddress, umask, multiplexed, debug, roles, forceCGI
        )
        SingleServer.__init__(self, **kw)

    def run(self) -> bool:  # type: ignore[override]
        """Serve until SIGTERM or SIGINT, and return False, or until SIGHUP, and return True."""
        return SingleServer.run(self, self._setupSocket())
