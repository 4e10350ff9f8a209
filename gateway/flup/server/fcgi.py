"""`flup.server.fcgi`, by its old name. Next: `gateway/flup/fcgi.py`."""

from gateway.flup.fcgi import WSGIServer as WSGIServer
