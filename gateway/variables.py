"""The meta-variables of a route's requests, with what is constant encoded once.

Promise: one maker (`protocols/cgi.py`) for CGI, FastCGI and SCGI alike; here only caches.
Must never know: the wire format; it is given as a function of one pair. Next: `protocols/cgi.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from protocols.cgi import connection_variables, field_variables, place_variables, route_variables, target_variables
from protocols.memory import Memory
from protocols.message import Peer, Request
from protocols.target import Place

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange
    from gateway.routing import Found

ENTRIES: Final = 2048
PATH_BYTES: Final = 512
"""So many client connections are remembered, and places up to this length."""
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
        root = route.root or b""
        self._route_part = self._joined(route_variables(software=software, document_root=root, environment=environment))
        self._peers: Memory[Peer, bytes] = Memory(ENTRIES)
        self._places: Memory[tuple[bytes, ...], bytes] = Memory(ENTRIES)

    def _joined(self, variables: dict[bytes, bytes]) -> bytes:
        encode = self.encode
        return b"".join([encode(name, value) for name, value in variables.items()])

    def encoded(self, exchange: Exchange) -> bytes:
        """All pairs of one request, joined."""
        found = exchange.found
        assert found is not None
        request, peer = exchange.request, exchange.peer
        encoded = b"%b%b%b%b" % (
            self._of_peer(peer), self._of_fields(exchange, request, peer), self._of_place(request, found.place),
            self._of_target(found),
        )  # fmt: skip
        length = exchange.content_length
        if length and CONTENT_LENGTH not in self.overridden:
            encoded += self.encode(CONTENT_LENGTH, b"%d" % length)
        return encoded + self.encode(EXCHANGE_ID, exchange.id) if EXCHANGE_ID not in self.overridden else encoded

    def _of_peer(self, peer: Peer) -> bytes:
        """Of its connection, and of the route."""
        known = self._peers.known.get(peer)
        if known is None:
            known = self._route_part + self._joined(connection_variables(peer, overridden=self.overridden))
            self._peers.note(peer, known)
        return known

    def _of_fields(self, exchange: Exchange, request: Request, peer: Peer) -> bytes:
        derived = request.derived
        known: bytes | None = None
        if derived is not None:
            key = (self, peer.server_addr)
            known = derived.get(key)
        if known is None:
            report = exchange.site.report_dropped
            variables = field_variables(
                request, peer, authorization=self.authorization, overridden=self.overridden,
                dropped=lambda name: report(exchange, name),
            )  # fmt: skip
            known = self._joined(variables)
            if derived is not None:
                derived[key] = known
        return known

    def _of_target(self, found: Found) -> bytes:
        derived = found.derived
        known: bytes | None = derived.get(self) if derived is not None else None
        if known is None:
            known = self._joined(target_variables(found.target, overridden=self.overridden))
            if derived is not None:
                derived[self] = known
        return known

    def _of_place(self, request: Request, place: Place) -> bytes:
        """What many targets have in common."""
        key = (request.method, request.version, place.script_name, place.script_filename, place.path_info)
        known = self._places.known.get(key)
        if known is None:
            variables = place_variables(request.method, request.version, place, overridden=self.overridden)
            known = self._joined(variables)
            if sum(map(len, key)) <= PATH_BYTES:
                self._places.note(key, known)
        return known
