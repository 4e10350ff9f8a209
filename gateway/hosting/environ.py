"""The environ of a WSGI application (PEP 3333), without what is there to read and write.

Promise: meta-variables that a web server sent are handed on as they came; for a client that speaks HTTP they are
what any other interface would have sent. Text stands for octets (latin-1), as the PEP has it.
Must never know: threads, how the application is called. Next: `protocols/cgi.py`, the maker of meta-variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.hosting.router import place_of, told_path
from protocols.cgi import connection_variables, field_variables, place_variables, route_variables, target_variables
from protocols.memory import Memo, Memory
from protocols.message import Peer, Request
from protocols.target import Place, Target

if TYPE_CHECKING:
    from gateway.exchange import Exchange

ENTRIES: Final = 1024
"""So many client connections are remembered."""
_names: Final = Memo(lambda name: name.decode("latin-1"))
_EMPTY: Final = ("", "0")


class Environs:
    """Makes them for one engine. Threads may share it."""

    def __init__(self, software: bytes, constant: Mapping[str, Any]) -> None:
        """`constant`: what each has besides."""
        self.constant = dict(constant)
        self._fixed = _text(route_variables(software=software, document_root=b"", environment=()))
        self._peers: Memory[Peer, dict[str, str]] = Memory(ENTRIES)

    def of(self, exchange: Exchange, length: int | None) -> dict[str, Any]:
        """A new one, which the application may change; `length`: octets of content."""
        told = exchange.client.variables
        environ: dict[str, Any] = dict(self.constant)
        if told is not None:
            environ.update(_text(told))
            self._complete(environ, exchange.request)
            environ["wsgi.url_scheme"] = "https" if exchange.client.peer.https else "http"
        else:
            self._from_http(environ, exchange)
        if length and environ.get("CONTENT_LENGTH", "") in _EMPTY:
            environ["CONTENT_LENGTH"] = str(length)
        return environ

    def _complete(self, environ: dict[str, Any], request: Request) -> None:
        """What a web server's config has left out, and the PEP asks for."""
        if "SCRIPT_NAME" not in environ and not environ.get("PATH_INFO"):
            environ["PATH_INFO"] = told_path(request).decode("latin-1")
        for name, usual in _ASKED:
            if name not in environ:
                environ[name] = usual
        if not environ["SERVER_NAME"]:
            environ["SERVER_NAME"] = "localhost"
        if environ["SCRIPT_NAME"] == "/":  # that of the root is empty
            environ["SCRIPT_NAME"] = ""

    def _from_http(self, environ: dict[str, Any], exchange: Exchange) -> None:
        peer, request, found = exchange.peer, exchange.request, exchange.found
        assert found is not None
        constant = self._peers.known.get(peer)
        if constant is None:
            constant = self._fixed | _text(connection_variables(peer))
            constant["wsgi.url_scheme"] = constant["REQUEST_SCHEME"]
            self._peers.note(peer, constant)
        environ.update(constant)
        derived = request.derived
        key = (Environs, peer.server_addr)
        fields: dict[str, str] | None = derived.get(key) if derived is not None else None
        if fields is None:
            report = exchange.site.report_dropped
            fields = _text(
                field_variables(request, peer, authorization=True, dropped=lambda name: report(exchange, name))
            )
            if not fields["SERVER_NAME"]:
                fields["SERVER_NAME"] = "localhost"
            if derived is not None:
                derived[key] = fields
        environ.update(fields)
        request_line(environ, request, found.target, place_of(exchange))


def request_line(environ: dict[str, Any], request: Request, target: Target, place: Place) -> None:
    """What the request-line says; PATH_INFO and all else that the PEP asks for is there, if only empty."""
    environ["PATH_INFO"] = ""
    environ.update(_text(place_variables(request.method, request.version, place)))
    environ.update(_text(target_variables(target)))


def _text(variables: Mapping[bytes, bytes]) -> dict[str, str]:
    return {_names[name]: value.decode("latin-1") for name, value in variables.items()}


_ASKED: Final = (
    ("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", ""), ("PATH_INFO", ""), ("QUERY_STRING", ""), ("SERVER_NAME", "localhost"),
    ("SERVER_PORT", "80"), ("SERVER_PROTOCOL", "HTTP/1.0"),
)  # fmt: skip
