"""`flup.server.fcgi_base`, by its old name. Next: `gateway/flup/fcgi_base.py`."""

from gateway.flup.fcgi_base import FCGI_AUTHORIZER as FCGI_AUTHORIZER
from gateway.flup.fcgi_base import FCGI_CANT_MPX_CONN as FCGI_CANT_MPX_CONN
from gateway.flup.fcgi_base import FCGI_FILTER as FCGI_FILTER
from gateway.flup.fcgi_base import FCGI_LISTENSOCK_FILENO as FCGI_LISTENSOCK_FILENO
from gateway.flup.fcgi_base import FCGI_MAX_CONNS as FCGI_MAX_CONNS
from gateway.flup.fcgi_base import FCGI_MAX_REQS as FCGI_MAX_REQS
from gateway.flup.fcgi_base import FCGI_MPXS_CONNS as FCGI_MPXS_CONNS
from gateway.flup.fcgi_base import FCGI_OVERLOADED as FCGI_OVERLOADED
from gateway.flup.fcgi_base import FCGI_REQUEST_COMPLETE as FCGI_REQUEST_COMPLETE
from gateway.flup.fcgi_base import FCGI_RESPONDER as FCGI_RESPONDER
from gateway.flup.fcgi_base import FCGI_UNKNOWN_ROLE as FCGI_UNKNOWN_ROLE
from gateway.flup.fcgi_base import BaseFCGIServer as BaseFCGIServer
from gateway.flup.fcgi_base import Request as Request
from gateway.flup.fcgi_base import TimeoutException as TimeoutException
