"""FastCGI 1.0: what each side of a connection reports, as values.

Promise: values are immutable and made of bytes and numbers; nothing here parses or encodes.
Must never know: records. Next: `fastcgi.py`, which makes them.

Sections quoted are those of the FastCGI Specification, version 1.0 (Open Market, 29 April 1996).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from protocols.fastcgi_records import ProtocolStatus, Role


class Stdout(msgspec.Struct, frozen=True, gc=False):
    """Octets of a response; small pieces are joined with what came before them. Never empty."""

    request_id: int
    octets: bytes


class StdoutEnd(msgspec.Struct, frozen=True, gc=False):
    """The worker has ended the response; END_REQUEST is still to come."""

    request_id: int


class Stderr(msgspec.Struct, frozen=True, gc=False):
    """Octets for the error log. Never empty."""

    request_id: int
    octets: bytes


class EndRequest(msgspec.Struct, frozen=True, gc=False):
    """The request is over, and its id is free (5.5)."""

    request_id: int
    app_status: int
    """As the exit status of a CGI program; unsigned, 32 bits."""
    protocol_status: ProtocolStatus


class Values(msgspec.Struct, frozen=True, gc=False):
    """The worker's answer to `get_values`: what it knows, by name (4.1)."""

    pairs: dict[bytes, bytes]


class UnknownType(msgspec.Struct, frozen=True, gc=False):
    """The worker does not know a management record of ours, by its type (4.2)."""

    type: int


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """A record was ignored: its request id is not active, or its management type is unknown (id 0)."""

    request_id: int
    type: int


class Begin(msgspec.Struct, frozen=True, gc=False):
    """A request with all its meta-variables, in order."""

    request_id: int
    role: Role
    keep_connection: bool
    params: list[tuple[bytes, bytes]]


class Stdin(msgspec.Struct, frozen=True, gc=False):
    """Octets of a request's content. Never empty."""

    request_id: int
    octets: bytes


class StdinEnd(msgspec.Struct, frozen=True, gc=False):
    """The request's content is complete."""

    request_id: int


class Abort(msgspec.Struct, frozen=True, gc=False):
    """The gateway has lost interest: `end` soon (5.4)."""

    request_id: int


GatewayEvent: TypeAlias = Stdout | StdoutEnd | Stderr | EndRequest | Values | UnknownType | Skipped
ApplicationEvent: TypeAlias = Begin | Stdin | StdinEnd | Abort
