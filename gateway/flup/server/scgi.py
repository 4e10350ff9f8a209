"""`flup.server.scgi`, by its old name. Next: `gateway/flup/scgi.py`."""

from gateway.flup.scgi import WSGIServer as WSGIServer
