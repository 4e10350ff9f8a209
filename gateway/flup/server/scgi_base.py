"""`flup.server.scgi_base`, by its old name. Next: `gateway/flup/scgi_base.py`."""

from gateway.flup.scgi_base import BaseSCGIServer as BaseSCGIServer
from gateway.flup.scgi_base import LoggerName as LoggerName
from gateway.flup.scgi_base import NoDefault as NoDefault
from gateway.flup.scgi_base import Request as Request
from gateway.flup.scgi_base import TimeoutException as TimeoutException
