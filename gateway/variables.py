"""The meta-variables of a route's requests, with what is constant encoded once.

Promise: one maker (`protocols/cgi.py`) for CGI, FastCGI and SCGI alike; here only caches.
Must never know: the wire format; it is given as a function of one pair. Next: `protocols/cgi.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocols.cgi import Peer, connection_variables, field_variables, request_variables, route_variables

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange

_PEERS = 1024
"""Client connections whose constant variables are remembered; the cache is emptied when full."""


class Variables:
    """Encodes the meta-variables of one route."""

    def __init__(self, route: Route, software: bytes, encode: Callable[[bytes, bytes], bytes]) -> None:
        self.encode = encode
        self.authorization = route.authorization
        self.overridden = frozenset(name for name, _ in route.environment)
        parts: list[bytes] = []
        route_variables(
            self._sink(parts), software=software, document_root=route.root or b"", environment=route.environment
        )
        self._route_part = b"".join(parts)
        self._peers: dict[Peer, bytes] = {}

    def _sink(self, parts: list[bytes]) -> Callable[[bytes, bytes], None]:
        encode = self.encode
        return lambda name, value: parts.append(encode(name, value))

    def encoded(self, exchange: Exchange) -> bytes:
        """All pairs of one request, joined."""
        peer = exchange.peer
        constant = self._peers.get(peer)
        if constant is None:
            if len(self._peers) >= _PEERS:
                self._peers.clear()
            parts: list[bytes] = []
            variables: dict[bytes, bytes] = {}
            connection_variables(variables.__setitem__, peer)
            parts += [self.encode(*pair) for pair in variables.items() if pair[0] not in self.overridden]
            constant = self._peers[peer] = self._route_part + b"".join(parts)
        request = exchange.request
        derived = request.derived
        fields: bytes | None = derived.get((self, peer.server_addr)) if derived is not None else None
        if fields is None:
            parts = []
            field_variables(
                self._sink(parts), request, peer, authorization=self.authorization, overridden=self.overridden
            )
            fields = b"".join(parts)
            if derived is not None:
                derived[self, peer.server_addr] = fields
        found = exchange.found
        assert found is not None
        parts = [constant, fields]
        append, encode = parts.append, self.encode
        request_variables(
            lambda name, value: append(encode(name, value)), request, found.target, found.place,
            content_length=exchange.content_length, overridden=self.overridden, exchange_id=exchange.id,
        )  # fmt: skip
        return b"".join(parts)
