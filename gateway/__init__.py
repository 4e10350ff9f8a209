"""An HTTP server that speaks CGI, FastCGI, SCGI or HTTP to what stands behind it, route by route.

Promise: one config file; changing the interface of a route is changing one word.
Next: `server.py` builds everything; the way of a request is told in docs/architecture.md.
"""

__version__ = "0.1.0"
