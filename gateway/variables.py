"""The meta-variables of a route's requests, with what is constant encoded once.

Promise: one maker (`protocols/cgi.py`) for CGI, FastCGI and SCGI alike; here only caches.
Must never know: the wire format; it is given as a function of one pair. Next: `protocols/cgi.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from protocols.cgi import connection_variables, field_variables, request_variables, route_variables
from protocols.message import Peer

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange

ENTRIES: Final = 2048
TARGET_BYTES: Final = 512
"""So many client connections, and request-lines with targets up to this length, are remembered; a memory
that is full is emptied."""
CONTENT_LENGTH: Final = b"CONTENT_LENGTH"
EXCHANGE_ID: Final = b"EXCHANGE_ID"
"""The exchange id, as in the logs and on error pages."""


class Variables:
    """Encodes the meta-variables of one route."""

    def __init__(
        self,
        route: Route,
        software: bytes,
        encode: Callable[[bytes, bytes], bytes],
        *,
        ours: Collection[bytes] = (),
    ) -> None:
        """`ours`: names that the wire format writes itself, and that never come from here."""
        self.encode = encode
        self.authorization = route.authorization
        environment = [pair for pair in route.environment if pair[0] not in ours]
        self.overridden = frozenset([*ours, *(name for name, _ in environment)])
        parts: list[bytes] = []
        route_variables(
            self._sink(parts), software=software, document_root=route.root or b"", environment=environment
        )
        self._route_part = b"".join(parts)
        self._peers: dict[Peer, bytes] = {}
        self._lines: dict[tuple[bytes, ...], bytes] = {}

    def _sink(self, parts: list[bytes]) -> Callable[[bytes, bytes], None]:
        encode = self.encode
        return lambda name, value: parts.append(encode(name, value))

    def encoded(self, exchange: Exchange) -> bytes:
        """All pairs of one request, joined."""
        peer = exchange.peer
        constant = self._peers.get(peer)
        if constant is None:
            if len(self._peers) >= ENTRIES:
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
                self._sink(parts), request, peer, authorization=self.authorization, overridden=self.overridden,
                dropped=lambda name: exchange.site.report_dropped(exchange, name),
            )  # fmt: skip
            fields = b"".join(parts)
            if derived is not None:
                derived[self, peer.server_addr] = fields
        found = exchange.found
        assert found is not None
        place = found.place
        key = (request.method, request.target, request.version, place.script_filename, place.path_info)
        line = self._lines.get(key)
        if line is None:
            parts = []
            request_variables(self._sink(parts), request, found.target, place, overridden=self.overridden)
            line = b"".join(parts)
            if len(request.target) <= TARGET_BYTES:
                if len(self._lines) >= ENTRIES:
                    self._lines.clear()
                self._lines[key] = line
        encoded = constant + fields + line
        length = exchange.content_length
        if length and CONTENT_LENGTH not in self.overridden:
            encoded += self.encode(CONTENT_LENGTH, b"%d" % length)
        return encoded + self.encode(EXCHANGE_ID, exchange.id) if EXCHANGE_ID not in self.overridden else encoded
