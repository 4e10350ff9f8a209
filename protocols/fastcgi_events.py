"""FastCGI 1.0: what each side of a connection reports, as values.

Promise: values are immutable and made of bytes and numbers; nothing here parses or encodes.
Must never know: records. Next: `fastcgi.py`, which makes them.

Sections quoted are those of the FastCGI Specification, version 1.0 (Open Market, 29 April 1996).
"""

from __future__ import annotations

from typing import Final, TypeAlias

from protocols.fastcgi_records import ProtocolStatus, Role
from protocols.message import Value


class OfRequest(Value):
    """What is about one request."""

    __slots__ = ("request_id",)

    def __init__(self, request_id: int) -> None:
        self.request_id: Final = request_id

    def parts(self) -> tuple[object, ...]:
        return (self.request_id,)


class Piece(OfRequest):
    """Some octets of one of its streams. Never empty."""

    __slots__ = ("octets",)

    def __init__(self, request_id: int, octets: bytes) -> None:
        super().__init__(request_id)
        self.octets: Final = octets

    def parts(self) -> tuple[object, ...]:
        return self.request_id, self.octets


class Stdout(Piece):
    """Octets of a response; small pieces are joined with what came before them. Never empty."""

    __slots__ = ()


class StdoutEnd(OfRequest):
    """The worker has ended the response; END_REQUEST is still to come."""

    __slots__ = ()


class Stderr(Piece):
    """Octets for the error log. Never empty."""

    __slots__ = ()


class EndRequest(Value):
    """The request is over, and its id is free (5.5)."""

    __slots__ = ("app_status", "protocol_status", "request_id")

    def __init__(self, request_id: int, app_status: int, protocol_status: ProtocolStatus) -> None:
        self.request_id: Final = request_id
        self.app_status: Final = app_status
        """As the exit status of a CGI program; unsigned, 32 bits."""
        self.protocol_status: Final = protocol_status

    def parts(self) -> tuple[object, ...]:
        return self.request_id, self.app_status, self.protocol_status


class Values(Value):
    """The worker's answer to `get_values`: what it knows, by name (4.1)."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: dict[bytes, bytes]) -> None:
        self.pairs: Final = pairs

    def parts(self) -> tuple[object, ...]:
        return (self.pairs,)


class UnknownType(Value):
    """The worker does not know a management record of ours, by its type (4.2)."""

    __slots__ = ("type",)

    def __init__(self, type: int) -> None:
        self.type: Final = type

    def parts(self) -> tuple[object, ...]:
        return (self.type,)


class Skipped(Value):
    """A record was ignored: its request id is not active, or its management type is unknown (id 0)."""

    __slots__ = ("request_id", "type")

    def __init__(self, request_id: int, type: int) -> None:
        self.request_id: Final = request_id
        self.type: Final = type

    def parts(self) -> tuple[object, ...]:
        return self.request_id, self.type


class Begin(Value):
    """A request with all its meta-variables, in order."""

    __slots__ = ("keep_connection", "params", "request_id", "role")

    def __init__(self, request_id: int, role: Role, keep_connection: bool, params: list[tuple[bytes, bytes]]) -> None:
        self.request_id: Final = request_id
        self.role: Final = role
        self.keep_connection: Final = keep_connection
        self.params: Final = params

    def parts(self) -> tuple[object, ...]:
        return self.request_id, self.role, self.keep_connection, self.params


class Stdin(Piece):
    """Octets of a request's content. Never empty."""

    __slots__ = ()


class StdinEnd(OfRequest):
    """The request's content is complete."""

    __slots__ = ()


class Abort(OfRequest):
    """The gateway has lost interest: `end` soon (5.4)."""

    __slots__ = ()


GatewayEvent: TypeAlias = Stdout | StdoutEnd | Stderr | EndRequest | Values | UnknownType | Skipped
ApplicationEvent: TypeAlias = Begin | Stdin | StdinEnd | Abort
