"""`flup.server.fcgi_single`, by its old name. Next: `gateway/flup/fcgi_single.py`."""

from gateway.flup.fcgi_single import WSGIServer as WSGIServer
