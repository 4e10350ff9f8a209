"""The router of an application server: whatever is asked for, the application is asked.

Promise: where in the application a request landed is found in one way, whoever tells where it is mounted.
Must never know: connections, how an application is called. Next: `gateway/exchange.py`, which asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.errors import GatewayError, Side
from gateway.routing import Found
from protocols.fields import first
from protocols.memory import Memory
from protocols.message import RemoteProtocolError, Request
from protocols.target import Form, Place, Target, parse, split_prefix

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange

ENTRIES: Final = 4096
TARGET_BYTES: Final = 1024
"""So many request-targets, up to this length, are remembered; a memory that is full is emptied."""


class HostRouter:
    """Everything goes to one route."""

    def __init__(self, route: Route, prefix: bytes = b"", *, http: bool = True) -> None:
        """`prefix`: the decoded path at which the application is mounted; b"" for the root.

        `http`: whether requests come by HTTP. Else meta-variables tell their place, and what stands in the
        request-target is nobody's business here.
        """
        self.route = route
        self.prefix = prefix.rstrip(b"/")
        self.http = http
        self._told = Found(route, Target(b"", Form.ORIGIN, b"", b"", b""), Place())
        self._known: Memory[bytes, Found] = Memory(ENTRIES)

    def resolve(self, method: bytes, host: bytes, raw_target: bytes) -> Found:
        """Raises GatewayError 400 or 501."""
        if not self.http:
            return self._told
        found = self._known.known.get(raw_target)
        if found is not None and method != b"CONNECT":
            return found
        try:
            target = parse(method, raw_target)
        except RemoteProtocolError as error:
            raise GatewayError(400, "bad-target", error.detail, side=Side.CLIENT) from None
        if target.form is Form.AUTHORITY:  # 2xx would turn the connection into a tunnel, which no application can serve
            raise GatewayError(501, "connect", "CONNECT is for forward proxies", side=Side.CLIENT)
        found = Found(self.route, target, placed(target.path, self.prefix))
        if target.form is not Form.ASTERISK and len(raw_target) <= TARGET_BYTES:  # "*" depends on the method
            self._known.note(raw_target, found)
        return found


def placed(path: bytes, prefix: bytes) -> Place:
    """SCRIPT_NAME is `prefix`; the rest of the path, or all of it where a proxy has cut the prefix off, is PATH_INFO."""
    split = split_prefix(path, prefix) if prefix else None
    return Place(prefix, path if split is None else split[1])


def place_of(exchange: Exchange) -> Place:
    """Where in the application a request by HTTP landed: as a trusted proxy tells it, or the router."""
    found = exchange.found
    assert found is not None
    if exchange.site.forwarding.trusts(exchange.client.peer):
        given = first(exchange.request.fields, b"x-forwarded-prefix")
        if given:
            try:
                prefix = parse(b"GET", given).path.rstrip(b"/") if given.startswith(b"/") else b""
            except RemoteProtocolError:
                prefix = b""
            if prefix:
                return placed(found.target.path, prefix)
    return found.place


def told_path(request: Request) -> bytes:
    """The path of a request whose meta-variables tell none; b"" if there is none in its target either."""
    try:
        return parse(request.method, request.target).path
    except RemoteProtocolError:  # the web server has let it through
        return b""
