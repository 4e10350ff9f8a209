"""The two sides of an exchange, as it sees them: the front that asks, and one attempt at a worker.

Promise: words only. Must never know: who speaks them. Next: `exchange.py`, who listens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.ends import Outgoing
from protocols.message import FieldLines, Peer, Response


class Client(Protocol):
    """What an exchange needs of a front."""

    deadline: float
    peer: Peer
    """The direct peer; `Exchange.peer` is the client as trusted proxies tell it."""
    variables: Mapping[bytes, bytes] | None
    """The meta-variables that a web server sent, None for a client that speaks HTTP."""

    def interim(self, response: Response) -> None: ...
    def respond(self, response: Response) -> None: ...
    def content(self, octets: Outgoing) -> None: ...
    def finished(self, trailers: FieldLines) -> None:
        """The response is complete."""

    def tunnel(self, response: Response) -> bytes:
        """Switch to opaque octets; what came beyond the request is returned."""

    def close_after(self) -> None:
        """The connection ends after this response: its framing is uncertain."""

    def cut(self) -> None:
        """The response will never be complete: break off so that the client can tell."""

    def read_content(self, wanted: bool) -> None:
        """Whether request content may come (True asks for it: 100 Continue)."""


class Call(Protocol):
    """What an exchange needs of an interface: one attempt at one worker."""

    def content(self, octets: bytes) -> None: ...
    def content_end(self) -> None: ...
    def abort(self, *, client_left: bool = False) -> None:
        """The exchange wants nothing more of it."""

    def read(self, wanted: bool) -> None:
        """Whether the response may come (back-pressure from the client)."""

    @property
    def full(self) -> bool:
        """Whether request content has to wait for the worker."""

    def room(self) -> None:
        """Call `exchange.pump()` when there is room for more content."""

    @property
    def upstream(self) -> str:
        """For the logs: which worker."""
