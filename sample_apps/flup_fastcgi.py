"""Runs `application` as a FastCGI worker with flup: one process, a thread a request.

Promise: serves the listening socket that it finds on descriptor 0, as FastCGI 2.2 wants it.
Must never know: the address of that socket; whoever started us made it.
Next: `flup_scgi.py`, the same over SCGI.
"""

from __future__ import annotations

from application import application
from flup.server.fcgi import WSGIServer

# flup also has a preforking server (`flup.server.fcgi_fork`). It does not work on Python 3: it hands
# text to a socket that takes bytes. For several processes let the gateway start several of these.

if __name__ == "__main__":
    # Without bindAddress, flup takes descriptor 0.
    WSGIServer(application, environ={"sample.interface": "FastCGI"}).run()
