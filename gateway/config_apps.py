"""[apps.NAME]: a program that the gateway starts, or a Python application that it hosts.

Promise: a program is there and may be run; of an application the name is looked at, it is not imported.
Must never know: routes, sockets. Next: `models.py`, for what `workers` and `threads` come to.
"""

from __future__ import annotations

import sys

import msgspec

from gateway.models import Hosting


class App(msgspec.Struct, frozen=True):
    name: str
    command: tuple[bytes, ...] = ()
    """The program as an absolute path, then its arguments; empty for what we host."""
    interface: str = ""
    """What the program speaks; "" for what we host: the route says it."""
    workers: int = 1
    """Processes of a program, each with the same socket."""
    environment: tuple[tuple[bytes, bytes], ...] = ()
    directory: bytes = b"/"
    user: str | None = None
    wsgi: str | None = None
    asgi: str | None = None
    python: str = sys.executable
    """The interpreter that hosts it."""
    hosting: Hosting = Hosting()
    """Of what we host."""

    @property
    def kind(self) -> str:
        """ "command", "wsgi" or "asgi"."""
        return "wsgi" if self.wsgi is not None else "asgi" if self.asgi is not None else "command"

    @property
    def specifier(self) -> str:
        """ "module:callable" of what we host."""
        return self.wsgi or self.asgi or ""
