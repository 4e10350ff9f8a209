#!/usr/bin/env python3
"""Runs the WSGI application of ../application.py as a CGI script: one process for one request."""

from __future__ import annotations

import sys
from pathlib import Path
from wsgiref.handlers import BaseCGIHandler, read_environ

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from application import application  # noqa: E402  (a neighbour of this folder, not of this file)

environ = dict(read_environ(), **{"sample.interface": "CGI"})
# The last two arguments: other requests run in other processes, never in another thread of this one.
BaseCGIHandler(sys.stdin.buffer, sys.stdout.buffer, sys.stderr, environ, False, True).run(application)
