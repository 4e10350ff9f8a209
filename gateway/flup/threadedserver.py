"""The threaded shape: a thread for each connection, in the process that called `run`.

Promise: what the program has in memory, and threads that it has started, are those that its requests see, and what
they leave behind it finds after `run`. Must never know: the interface. Next: `preforkserver.py`, the other one.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from gateway.flup.serving import THREADS, THREADS_IN_LOOP, hosting_for, serve
from gateway.models import Hosting


class ThreadPool:
    """The figures that were given. Threads are started when they are needed, so the spare ones are for the record."""

    def __init__(self, minSpare: int = 1, maxSpare: int = 5, maxThreads: int = sys.maxsize) -> None:
        self.minSpare = minSpare
        self.maxSpare = maxSpare
        self.maxThreads = max(minSpare, maxThreads)
        self._idleCount = 0


class ThreadedServer:
    """Serves a BaseFCGIServer or BaseSCGIServer whose subclass is this, too."""

    def __init__(self, jobClass: Any = None, jobArgs: Any = (), **kw: int) -> None:
        self._threadPool = ThreadPool(**kw)

    def hosting(self) -> Hosting:
        """The shape, as the arguments ask for it. Raises ValueError."""
        threads = self._threadPool.maxThreads
        given = threads if threads != sys.maxsize else 0
        if not getattr(self, "multithreaded", True):  # all connections are seen to, one call at a time
            return hosting_for("event", 1)
        if getattr(self, "multiplexed", False):  # which needs a loop
            return hosting_for("event", given or THREADS_IN_LOOP)
        return hosting_for("thread", max=given or THREADS)

    def run(self, sock: socket.socket, timeout: float = 1.0) -> bool:
        """Serve on a listening socket until a signal ends it; whether it was SIGHUP."""
        return serve(self, sock, self.hosting())

    def shutdown(self) -> None:
        """Nothing is left to wait for."""


