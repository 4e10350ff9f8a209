"""Runs `application` as an SCGI worker with flup: one process, a thread a request.

Promise: serves the listening socket that it finds on descriptor 0, which flup alone does not do.
Must never know: the address of that socket; whoever started us made it.
Next: `http_server.py`, the same over HTTP.
"""

from __future__ import annotations

import logging
import os
import socket

from application import application
from flup.server.scgi import WSGIServer


class OnDescriptor0(WSGIServer):
    """SCGI has no rule for how a worker finds its socket, so flup binds one; we are given ours."""

    def _setupSocket(self) -> socket.socket:
        return socket.socket(fileno=os.dup(0))


if __name__ == "__main__":
    OnDescriptor0(
        application,
        environ={"sample.interface": "SCGI"},
        allowedServers=None,  # who may connect was decided when the socket was made
        loggingLevel=logging.WARNING,
    ).run()
