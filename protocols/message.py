"""The words that all wire formats share: messages, content, and what may be wrong with them.

Promise: values are immutable and made of bytes; nothing here parses or encodes.
Must never know: which wire format a message came from.
Next: `fields.py` for what field lines mean, `http1.py` for the first codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

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


class Value:
    """Equal to another of its class whose parts are equal; never changed once it is made."""

    __slots__ = ()

    def parts(self) -> tuple[object, ...]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Value) and other.parts() == self.parts()

    def __hash__(self) -> int:
        return hash(self.parts())

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.parts()}"


_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE", b"PROPFIND", b"REPORT"))


class Peer(Value):
    """The two sides of a client's connection."""

    __slots__ = ("_hash", "https", "remote_addr", "remote_port", "server_addr", "server_port")

    def __init__(
        self, remote_addr: bytes, remote_port: bytes, server_addr: bytes, server_port: bytes, https: bool
    ) -> None:
        self.remote_addr: Final = remote_addr
        """IPv6 without brackets; b"" for a client of a unix socket."""
        self.remote_port: Final = remote_port
        self.server_addr: Final = server_addr
        self.server_port: Final = server_port
        self.https: Final = https
        self._hash: Final = hash((remote_addr, remote_port, server_addr, server_port, https))

    def __hash__(self) -> int:
        """Kept: what is said of a peer is looked up for each of its requests."""
        return self._hash

    def parts(self) -> tuple[object, ...]:
        return self.remote_addr, self.remote_port, self.server_addr, self.server_port, self.https


class Request(Value):
    """The head of a request (RFC 9110 3.4, RFC 9112 3)."""

    __slots__ = (
        "derived", "expects_continue", "fields", "host", "keep_alive", "length", "method", "target", "upgrade", "version",
    )  # fmt: skip

    def __init__(
        self,
        method: bytes,
        target: bytes,
        fields: FieldLines,
        version: bytes = b"HTTP/1.1",
        host: bytes = b"",
        length: int | None = 0,
        keep_alive: bool = True,
        expects_continue: bool = False,
        upgrade: bytes = b"",
        derived: Derived | None = None,
    ) -> None:
        self.method: Final = method
        self.target: Final = target
        """The request-target exactly as sent, e.g. b"/a%20b?x=1" (RFC 9112 3.2)."""
        self.fields: Final = fields
        self.version: Final = version
        """As the client sent it; what is above 1.1 is handled as 1.1."""
        self.host: Final = host
        """The validated authority: from an absolute-form target, else from Host; b"" if none (HTTP/1.0)."""
        self.length: Final = length
        """Octets of content: 0 for none, None where only its end will tell (chunked)."""
        self.keep_alive: Final = keep_alive
        """Whether the client lets the connection persist (RFC 9112 9.3)."""
        self.expects_continue: Final = expects_continue
        self.upgrade: Final = upgrade
        """Value of Upgrade where Connection names it, else b"" (RFC 9110 7.8)."""
        self.derived: Final = derived
        """None where the section is not shared."""

    def parts(self) -> tuple[object, ...]:
        return (
            self.method, self.target, self.fields, self.version, self.host, self.length, self.keep_alive,
            self.expects_continue, self.upgrade,
        )  # fmt: skip

    @property
    def idempotent(self) -> bool:
        """Whether to send it twice does no more than to send it once (RFC 9110 9.2.2, 4918, 3253)."""
        return self.method in _IDEMPOTENT


class Response(Value):
    """The head of a response; a status below 200 is an interim one (RFC 9110 15)."""

    __slots__ = ("derived", "fields", "keep_alive", "length", "reason", "status")

    def __init__(
        self,
        status: int,
        fields: FieldLines,
        reason: bytes = b"",
        length: int | None = None,
        keep_alive: bool = False,
        derived: Derived | None = None,
    ) -> None:
        self.status: Final = status
        self.fields: Final = fields
        self.reason: Final = reason
        self.length: Final = length
        """Octets of content that will follow: 0 for none, None where only its end will tell."""
        self.keep_alive: Final = keep_alive
        """Whether the sender lets the connection persist (HTTP only)."""
        self.derived: Final = derived
        """None where the head is not shared."""

    def parts(self) -> tuple[object, ...]:
        return self.status, self.fields, self.reason, self.length, self.keep_alive


class LocalRedirect(Value):
    """The script wants another path of this server to answer instead (RFC 3875 6.2.2)."""

    __slots__ = ("target",)

    def __init__(self, target: bytes) -> None:
        self.target: Final = target
        """Path and query, as the script gave them."""

    def parts(self) -> tuple[object, ...]:
        return (self.target,)


class Content(Value):
    """Some octets of content, framing removed (RFC 9110 6.4). Never empty."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data: Final = data

    def parts(self) -> tuple[object, ...]:
        return (self.data,)


class EndOfMessage(Value):
    """The message is complete. `trailers` is its trailer section (RFC 9110 6.5)."""

    __slots__ = ("trailers",)

    def __init__(self, trailers: FieldLines = ()) -> None:
        self.trailers: Final = trailers

    def parts(self) -> tuple[object, ...]:
        return (self.trailers,)


END: Final = EndOfMessage()
"""The end of a message without trailers: nearly all of them."""

Event: TypeAlias = Request | Response | Content | EndOfMessage
