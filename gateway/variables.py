"""The meta-variables of a route's requests, with what is constant encoded once.

Promise: one maker (`protocols/cgi.py`) for CGI, FastCGI and SCGI alike; here only caches.
Must never know: the wire format; it is given as a function of one pair. Next: `protocols/cgi.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocols.cgi import Peer, connection_variables, request_variables, route_variables

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
        self.route_wide: dict[bytes, bytes] = {}
        route_variables(
            self._sink(parts, self.route_wide), software=software,
            document_root=route.root or b"", environment=route.environment,
        )  # fmt: skip
        self._route_part = b"".join(parts)
        self._peers: dict[Peer, bytes] = {}

    def _sink(
        self, parts: list[bytes], seen: dict[bytes, bytes] | None = None
    ) -> Callable[[bytes, bytes], None]:
        encode, overridden = self.encode, self.overridden

        def sink(name: bytes, value: bytes) -> None:
            if seen is not None:
                seen[name] = value
            elif name in overridden:
                return
            parts.append(encode(name, value))

        return sink

    def encoded(self, exchange: Exchange) -> bytes:
        """All pairs of one request, joined."""
        peer = exchange.peer
        constant = self._peers.get(peer)
        if constant is None:
            if len(self._peers) >= _PEERS:
                self._peers.clear()
            parts: list[bytes] = []
            connection_variables(self._sink(parts), peer)
            constant = self._peers[peer] = self._route_part + b"".join(parts)
        encode = self.encode
        parts = [constant]
        append = parts.append
        found = exchange.found
        assert found is not None
        request_variables(
            lambda name, value: append(encode(name, value)),
            exchange.request, found.target, found.place, peer,
            content_length=exchange.content_length, authorization=self.authorization,
            overridden=self.overridden, exchange_id=exchange.id,
        )  # fmt: skip
        return b"".join(parts)
