"""`flup.server.ajp_fork`: not served. Next: `ajp.py`, which says why."""

import gateway.flup.ajp  # noqa: F401 (raises ImportError)
