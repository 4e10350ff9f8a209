"""The words that all wire formats share: messages, content, and what may be wrong with them.

Promise: values are immutable and made of bytes; nothing here parses or encodes.
Must never know: which wire format a message came from.
Next: `fields.py` for what field lines mean, `http1.py` for the first codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

FieldLine: TypeAlias = tuple[bytes, bytes]
"""(field name as it was sent, field value without surrounding white space): RFC 9110 5."""

Derived: TypeAlias = dict[Any, Any]
"""What was computed from a header section, by whoever computed it: the same section comes again and
again (that is why HPACK exists), and messages that share it share this: requests with the same host, version and
section, responses with the same head. Never changes what is in it."""

FieldLines: TypeAlias = Sequence[FieldLine]
"""A header or trailer section, in order. Never changed in place once it is in a message."""


class ProtocolError(Exception):
    """A rule of a wire format is broken. `detail` is a short sentence for the log."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        """The HTTP status that fits where the peer is a client (400, 413, 414, 417, 431, 501, 505).
        For a peer that is a worker the caller answers 502, whatever stands here."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rule."""


class LocalProtocolError(ProtocolError):
    """We were about to break the rule: a defect of the caller."""


class Peer(msgspec.Struct, frozen=True, gc=False):
    """The two sides of a client's connection."""

    remote_addr: bytes
    """IPv6 without brackets; b"" for a client of a unix socket."""
    remote_port: bytes
    server_addr: bytes
    server_port: bytes
    https: bool


class Request(msgspec.Struct, frozen=True, gc=False):
    """The head of a request (RFC 9110 3.4, RFC 9112 3)."""

    method: bytes
    target: bytes
    """The request-target exactly as sent, e.g. b"/a%20b?x=1" (RFC 9112 3.2)."""
    fields: FieldLines
    version: bytes = b"HTTP/1.1"
    """As the client sent it; what is above 1.1 is handled as 1.1."""
    host: bytes = b""
    """The validated authority: from an absolute-form target, else from Host; b"" if none (HTTP/1.0)."""
    length: int | None = 0
    """Octets of content: 0 for none, None where only its end will tell (chunked)."""
    keep_alive: bool = True
    """Whether the client lets the connection persist (RFC 9112 9.3)."""
    expects_continue: bool = False
    upgrade: bytes = b""
    """Value of Upgrade where Connection names it, else b"" (RFC 9110 7.8)."""
    derived: Derived | None = None
    """None where the section is not shared."""


class Response(msgspec.Struct, frozen=True, gc=False):
    """The head of a response; a status below 200 is an interim one (RFC 9110 15)."""

    status: int
    fields: FieldLines
    reason: bytes = b""
    length: int | None = None
    """Octets of content that will follow: 0 for none, None where only its end will tell."""
    keep_alive: bool = False
    """Whether the sender lets the connection persist (HTTP only)."""
    derived: Derived | None = None
    """None where the section is not shared."""


class LocalRedirect(msgspec.Struct, frozen=True, gc=False):
    """The script wants another path of this server to answer instead (RFC 3875 6.2.2)."""

    target: bytes
    """Path and query, as the script gave them."""


class Content(msgspec.Struct, frozen=True, gc=False):
    """Some octets of content, framing removed (RFC 9110 6.4). Never empty."""

    data: bytes


class EndOfMessage(msgspec.Struct, frozen=True, gc=False):
    """The message is complete. `trailers` is its trailer section (RFC 9110 6.5)."""

    trailers: FieldLines = ()


END = EndOfMessage()
"""The end of a message without trailers: nearly all of them."""

Event: TypeAlias = Request | Response | Content | EndOfMessage
