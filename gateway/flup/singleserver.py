"""The simplest shape: one connection at a time, in the process and the thread that called `run`.

Promise: the application runs in the main thread, and never twice at the same time.
Must never know: the interface. Next: `serving.py`, which runs it.
"""

from __future__ import annotations

import socket
from typing import Any

from gateway.flup.serving import hosting_for, serve
from gateway.models import Hosting


class SingleServer:
    """Serves a BaseFCGIServer or BaseSCGIServer whose subclass is this, too."""

    def __init__(self, jobClass: Any = None, jobArgs: Any = (), **kw: Any) -> None:
        """Further arguments have no effect, as ever."""

    def hosting(self) -> Hosting:
        return hosting_for("single")

    def run(self, sock: socket.socket, timeout: float = 1.0) -> bool:
        """Serve on a listening socket until a signal ends it; whether it was SIGHUP."""
        return serve(self, sock, self.hosting())
