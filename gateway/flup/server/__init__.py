"""The modules of `flup.server` by their old names, so that `gateway.` before an import of flup is all that changes.

Next: `gateway/flup/fcgi.py`, what they stand for.
"""

from gateway.flup.serving import NoDefault as NoDefault
