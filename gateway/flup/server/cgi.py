"""`flup.server.cgi`, by its old name. Next: `gateway/flup/cgi.py`."""

from gateway.flup.cgi import WSGIServer as WSGIServer
