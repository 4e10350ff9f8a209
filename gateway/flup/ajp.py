"""AJP: not served. Importing this module is an ImportError that says what to do.

Next: `fcgi.py`, which is to be used in its place.
"""

raise ImportError(
    "gateway.flup serves FastCGI and SCGI, not AJP: import WSGIServer of gateway.flup.fcgi in its place, and have the "
    'web server speak FastCGI (Apache httpd: ProxyPass "/" "fcgi://127.0.0.1:9000/" in place of ajp://)',
    name=__name__,
)
