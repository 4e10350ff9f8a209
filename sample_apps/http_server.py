"""Runs `application` as an HTTP server with the standard library: a thread a connection.

Promise: listens on 127.0.0.1 only; the first line of its output is the URL, once it listens.
Must never know: that a gateway stands in front of it.
Next: `cgi-bin/wsgi.py`, the same as a CGI script.
"""

from __future__ import annotations

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from application import application


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    """The gateway has an access log; a second one would only interleave with it."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def address_string(self) -> str:
        return self.client_address[0]  # the default looks the name up, which may take seconds


def main(port: int) -> None:
    """Serves until it is killed; port 0 lets the system choose one."""
    with Server(("127.0.0.1", port), Quiet) as server:
        server.set_app(application)
        server.base_environ["sample.interface"] = "HTTP"
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
