"""The scope of an ASGI application's call: what a request says, in the application's words.

Promise: the same keys whoever tells of the request; `path` is the whole path, `root_path` the part of it where the
application is mounted. Must never know: coroutines. Next: `asgi_call.py` and `asgi_websocket.py`, the users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.hosting.router import place_of, told_path
from protocols.fields import lower
from protocols.target import encode_path

if TYPE_CHECKING:
    from gateway.exchange import Exchange

VERSION: Final = "3.0"
SPEC_VERSION: Final = "2.4"
"""Of the formats `http` and `websocket`: `send` raises an OSError once the client has left."""
LIFESPAN_VERSION: Final = "2.0"
Scope = dict[str, Any]


def scope_of(exchange: Exchange, kind: str, state: dict[str, Any]) -> Scope:
    """A new one; `kind` is "http" or "websocket"."""
    request, told = exchange.request, exchange.client.variables
    if told is None:
        peer = exchange.peer
        found = exchange.found
        assert found is not None
        place = place_of(exchange)
        root, info, query = place.script_name, place.path_info, found.target.query
        origin = found.target.raw if found.target.raw.startswith(b"/") else found.target.raw_path
        server = peer.server_addr
    else:
        peer = exchange.client.peer
        root, info, query = told.get(b"SCRIPT_NAME", b""), told.get(b"PATH_INFO", b""), told.get(b"QUERY_STRING", b"")
        if not info and b"SCRIPT_NAME" not in told:
            info = told_path(request)
        root = root.rstrip(b"/")
        origin = request.target
        server = peer.server_addr or told.get(b"SERVER_NAME", b"")
    path = root + info
    scope: Scope = {
        "type": kind,
        "asgi": {"version": VERSION, "spec_version": SPEC_VERSION},
        "http_version": _version(request.version),
        "scheme": ("https" if peer.https else "http") if kind == "http" else ("wss" if peer.https else "ws"),
        "path": path.decode("utf-8", "replace"),
        "raw_path": origin.partition(b"?")[0] if origin.startswith(b"/") else encode_path(path),
        "query_string": query,
        "root_path": root.decode("utf-8", "replace"),
        "headers": [(lower(name), value) for name, value in request.fields],
        "client": _address(peer.remote_addr, peer.remote_port),
        "server": _address(server, peer.server_port),
        "state": state.copy(),
    }
    if kind == "http":
        scope["method"] = request.method.decode("latin-1").upper()
    return scope


def _version(version: bytes) -> str:
    """Of SERVER_PROTOCOL: "1.0", "1.1", "2" or "3"."""
    text = version.removeprefix(b"HTTP/").decode("latin-1")
    return text[:-2] if text in ("2.0", "3.0") else text


def _address(host: bytes, port: bytes) -> tuple[str, int] | None:
    return (host.decode("latin-1"), int(port) if port.isdigit() else 0) if host else None
