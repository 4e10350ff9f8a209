"""`flup.server.threadedserver`, by its old name. Next: `gateway/flup/threadedserver.py`."""

from gateway.flup.threadedserver import ThreadedServer as ThreadedServer
