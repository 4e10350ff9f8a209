"""`flup.server.scgi_fork`, by its old name. Next: `gateway/flup/scgi_fork.py`."""

from gateway.flup.scgi_fork import WSGIServer as WSGIServer
