"""flup's clients, WSGI applications that ask a worker: not here. Importing them is an ImportError that says what to do.

Next: `gateway/client.py`, which asks a worker.
"""

raise ImportError(
    "gateway.flup has flup's servers, not its clients: to pass requests on to a worker, serve with `gateway` "
    'and a route with interface = "fastcgi" or "scgi"; to ask a worker from a program, use gateway.client.call',
    name=__name__,
)
