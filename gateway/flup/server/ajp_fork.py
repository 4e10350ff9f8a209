"""`flup.server.ajp_fork`: not served. Next: `gateway/flup/ajp.py`, which says why."""

import gateway.flup.ajp  # noqa: F401 (raises ImportError)
