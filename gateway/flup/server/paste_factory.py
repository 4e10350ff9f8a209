"""`flup.server.paste_factory`, by its old name. Next: `gateway/flup/paste_factory.py`."""

from gateway.flup.paste_factory import run_fcgi_fork as run_fcgi_fork
from gateway.flup.paste_factory import run_fcgi_thread as run_fcgi_thread
from gateway.flup.paste_factory import run_scgi_fork as run_scgi_fork
from gateway.flup.paste_factory import run_scgi_thread as run_scgi_thread
