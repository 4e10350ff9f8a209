"""Hosting Python applications, WSGI and ASGI: finding one, and what the interfaces `wsgi` and `asgi` have in common.

Next: `loading.py`, from a name to an application; `gateway/interfaces/wsgi.py` and `asgi.py`, which call it.
"""

from gateway.errors import HostingError as HostingError
from gateway.hosting.loading import load_application as load_application
from gateway.hosting.router import HostRouter as HostRouter
