"""CGI: `from gateway.flup.cgi import WSGIServer; WSGIServer(application).run()` answers one request.

Promise: as under FastCGI, without a server. Must never know: sockets.
Next: `gateway/worker.py`, which answers it.
"""

from __future__ import annotations

from typing import Any

from gateway.flup.serving import Server, answer_once

__all__ = ["WSGIServer"]


class WSGIServer(Server):
    """The request is in the environment and on stdin."""

    interface = "cgi"

    def __init__(self, application: Any) -> None:
        super().__init__(application, None, False, True, None, None, False)

    def run(self) -> None:
        answer_once(self)
