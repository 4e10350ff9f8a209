"""The forking shape: a pool of processes, each of which serves one connection at a time.

Promise: as many processes as are needed, between the bounds given; one that has served `maxRequests` is replaced.
Must never know: the interface. Next: `serving.py`, which runs it.
"""

from __future__ import annotations

import socket
from typing import Any

from gateway.flup.serving import hosting_for, serve
from gateway.models import Hosting


class PreforkServer:
    """Serves a BaseFCGIServer or BaseSCGIServer whose subclass is this, too."""

    def __init__(
        self, minSpare: int = 1, maxSpare: int = 5, maxChildren: int = 50, maxRequests: int = 0, sockTimeout: float = 0,
        jobClass: Any = None, jobArgs: Any = (),
    ) -> None:  # fmt: skip
        """`sockTimeout` has no effect: no process waits for a slow connection without a deadline."""
        if minSpare < 1:
            raise ValueError(f"minSpare={minSpare}: at least one process has to be ready for the next connection")
        if maxSpare < minSpare:
            raise ValueError(f"maxSpare={maxSpare} is less than minSpare={minSpare}")
        self._minSpare = minSpare
        self._maxSpare = maxSpare
        self._maxChildren = max(maxSpare, maxChildren)
        self._maxRequests = maxRequests

    def hosting(self) -> Hosting:
        """The shape, as the arguments ask for it. Raises ValueError."""
        return hosting_for(
            "prefork", max=self._maxChildren, min_spare=self._minSpare, max_spare=self._maxSpare,
            requests=max(0, self._maxRequests),
        )  # fmt: skip

    def run(self, sock: socket.socket) -> bool:
        """Serve on a listening socket until a signal ends it; whether it was SIGHUP."""
        return serve(self, sock, self.hosting())
