"""An HTTP server that speaks CGI, FastCGI, SCGI or HTTP to what stands behind it, route by route.

Promise: one config file; changing the interface of a route is changing one word.
Next: `server.py` builds everything; the way of a request is told in docs/architecture.md.
"""

from importlib.util import find_spec

__version__ = "0.1.0"


def is_compiled() -> bool:
    """Whether requests go through C (gateway/compiling.py); the Python files behave alike, only slower."""
    found = find_spec("gateway.exchange")
    return found is not None and not (found.origin or "").endswith(".py")
