"""`flup.server.preforkserver`, by its old name. Next: `gateway/flup/preforkserver.py`."""

from gateway.flup.preforkserver import PreforkServer as PreforkServer
