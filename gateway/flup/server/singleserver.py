"""`flup.server.singleserver`, by its old name. Next: `gateway/flup/singleserver.py`."""

from gateway.flup.singleserver import SingleServer as SingleServer
