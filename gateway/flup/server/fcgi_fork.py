"""`flup.server.fcgi_fork`, by its old name. Next: `gateway/flup/fcgi_fork.py`."""

from gateway.flup.fcgi_fork import WSGIServer as WSGIServer
