"""`flup.server.threadpool`, by its old name. Next: `gateway/flup/threadedserver.py`."""

from gateway.flup.threadedserver import ThreadPool as ThreadPool
