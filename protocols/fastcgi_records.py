"""FastCGI 1.0 records: their types, their cutting and their making, and name-value pairs.

Promise: memory held is one record at most; a record made here is padded to a multiple of 8 octets.
Must never know: which records answer which, requests and their state. Next: `fastcgi.py`, both sides.

Sections quoted are those of the FastCGI Specification, version 1.0 (Open Market, 29 April 1996).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from struct import Struct
from typing import Final

from protocols.message import RemoteProtocolError

# ---------------------------------------------------------------------- constants (FastCGI 8)

VERSION_1: Final = 1
KEEP_CONN: Final = 1
"""The flag of BEGIN_REQUEST that leaves closing to the gateway (5.1)."""
MAX_CONTENT_BYTES: Final = 65_535
"""What the 16-bit contentLength of a record can say (3.3)."""
LIMIT_NAMES: Final = (b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS")
"""What the standard lets a gateway ask for (4.1)."""


class RecordType(enum.IntEnum):
    """The field `type` of a record; the last three are management records, with request id 0."""

    BEGIN_REQUEST = 1
    ABORT_REQUEST = 2
    END_REQUEST = 3
    PARAMS = 4
    STDIN = 5
    STDOUT = 6
    STDERR = 7
    DATA = 8
    GET_VALUES = 9
    GET_VALUES_RESULT = 10
    UNKNOWN_TYPE = 11


class Role(enum.IntEnum):
    """What the application is asked to be (6)."""

    RESPONDER = 1
    AUTHORIZER = 2
    FILTER = 3


class ProtocolStatus(enum.IntEnum):
    """How a request ended for the protocol (5.5); all but the first mean: rejected, not processed."""

    REQUEST_COMPLETE = 0
    CANT_MPX_CONN = 1
    OVERLOADED = 2
    UNKNOWN_ROLE = 3


# Plain ints: comparing with a module's global is several times cheaper than with an enum's member.
BEGIN_REQUEST: Final = 1
ABORT_REQUEST: Final = 2
END_REQUEST: Final = 3
PARAMS: Final = 4
STDIN: Final = 5
STDOUT: Final = 6
STDERR: Final = 7
DATA: Final = 8
GET_VALUES: Final = 9
GET_VALUES_RESULT: Final = 10
UNKNOWN_TYPE: Final = 11

# ---------------------------------------------------------------------- name-value pairs (3.4)

LONG: Final = Struct(">I")
_LENGTHS: Final = tuple(bytes((length,)) for length in range(128))


def encode_pair(name: bytes, value: bytes) -> bytes:
    """One name-value pair, each length in its shortest form."""
    n = len(name)
    v = len(value)
    return (
        (_LENGTHS[n] if n < 128 else LONG.pack(n | 0x80000000))
        + (_LENGTHS[v] if v < 128 else LONG.pack(v | 0x80000000))
        + name
        + value
    )


def _pair_spans(octets: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each name starts, each value starts, each value ends; RemoteProtocolError if one is cut."""
    position = 0
    size = len(octets)
    while position < size:
        lengths = []
        for _ in (0, 1):
            if position < size and octets[position] < 128:
                lengths.append(octets[position])
                position += 1
            elif position + 4 <= size:
                lengths.append(LONG.unpack_from(octets, position)[0] & 0x7FFFFFFF)
                position += 4
            else:
                raise RemoteProtocolError("a name-value pair is cut in its lengths")
        value = position + lengths[0]
        end = value + lengths[1]
        if end > size:
            raise RemoteProtocolError(f"a name-value pair wants {end - size} octets more than there are")
        yield position, value, end
        position = end


def decode_pairs(octets: bytes) -> list[tuple[bytes, bytes]]:
    """All name-value pairs of a whole stream or record. Raises RemoteProtocolError if one is cut short."""
    return [(octets[name:value], octets[value:end]) for name, value, end in _pair_spans(octets)]


# ---------------------------------------------------------------------- records (3.3)

HEADER: Final = Struct(">BBHHBx")
"""version, type, request id, content length, padding length."""
PAIR_OF_HEADERS: Final = Struct(">BBHHBxBBHHBx")
BEGIN: Final = Struct(">BBHHBxHB5x")  # a BEGIN_REQUEST record
HEADER_BEGIN: Final = Struct(">BBH")
LENGTHS: Final = Struct(">HBx")
"""The two halves of a header."""
END: Final = Struct(">BBHHBxBBHHBxIB3x")  # an empty STDOUT, and an END_REQUEST record
PADDING: Final = tuple(bytes(length) for length in range(8))
_FULL: Final = MAX_CONTENT_BYTES & ~7  # long streams are cut where no padding is needed


def frame(request_id: int, role: int, flags: int) -> tuple[bytes, bytes, bytes]:
    """What all requests with this id have in common: BEGIN_REQUEST, the first half of the header of PARAMS, and the two
    empty records that end PARAMS and STDIN."""
    return (
        BEGIN.pack(VERSION_1, BEGIN_REQUEST, request_id, 8, 0, role, flags),
        HEADER_BEGIN.pack(VERSION_1, PARAMS, request_id),
        PAIR_OF_HEADERS.pack(VERSION_1, PARAMS, request_id, 0, 0, VERSION_1, STDIN, request_id, 0, 0),
    )


def record(kind: int, request_id: int, content: bytes) -> bytes:
    """One record, padded so that its length is a multiple of 8 (3.3 recommends it)."""
    length = len(content)
    padding = -length & 7
    return HEADER.pack(VERSION_1, kind, request_id, length, padding) + content + PADDING[padding]


def stream(kind: int, request_id: int, content: bytes) -> bytes:
    """Content of any length as records of a stream, without the empty one that ends it."""
    if len(content) <= _FULL:
        return record(kind, request_id, content) if content else b""
    return b"".join(
        [record(kind, request_id, content[start : start + _FULL]) for start in range(0, len(content), _FULL)]
    )


def long_params(request_id: int, params: bytes) -> bytes:
    """PARAMS beyond one record, cut between pairs where that can be.

    A pair may span records, but php-fpm decodes each record for itself and drops the connection.
    """
    records = []
    start = stop = 0
    for _, _, end in _pair_spans(params):
        if end - start > MAX_CONTENT_BYTES:
            records.append(stream(PARAMS, request_id, params[start:stop]))
            start = stop
        stop = end
    records.append(stream(PARAMS, request_id, params[start:]))
    return b"".join(records)


class RecordReader:
    """Cuts a stream of octets into records.

    Content of stream records is handed on as it arrives, in pieces; that of others when it is whole.
    """

    __slots__ = ("_content", "_header", "_kind", "_padding", "_request_id", "_rest")

    def __init__(self) -> None:
        self._header = b""
        self._kind = 0
        self._request_id = 0
        self._rest = 0
        self._padding = 0
        self._content: list[bytes] = []

    @property
    def idle(self) -> bool:
        """Whether the last record is complete, padding included."""
        return not (self._header or self._rest or self._padding)

    def receive(self, octets: bytes) -> list[tuple[int, int, bytes]]:
        """(type, request id, content) of what arrived; empty content only for an empty record.

        Raises RemoteProtocolError for a version other than 1.
        """
        records: list[tuple[int, int, bytes]] = []
        position = 0
        size = len(octets)
        if self._header:
            octets = self._header + octets
            size = len(octets)
            self._header = b""
        elif self._rest or self._padding:
            position = self._resumed(octets, records)
        while size - position >= 8:
            # octet by octet, which costs nothing once it is compiled; a Struct makes a tuple of objects
            kind = octets[position + 1]
            request_id = octets[position + 2] << 8 | octets[position + 3]
            length = octets[position + 4] << 8 | octets[position + 5]
            padding = octets[position + 6]
            if octets[position] != VERSION_1:
                raise RemoteProtocolError(
                    f"a record begins with {octets[position : position + 8]!r} and not with version 1"
                )
            start = position + 8
            position = start + length
            if position > size:
                self._kind = kind
                self._request_id = request_id
                self._rest = position - size
                self._padding = padding
                if start < size:
                    self._piece(records, octets[start:])
                return records
            records.append((kind, request_id, octets[start:position]))
            position += padding
        if position < size:
            self._header = octets[position:]
        elif position > size:
            self._padding = position - size
        return records

    def _resumed(self, octets: bytes, records: list[tuple[int, int, bytes]]) -> int:
        """Go on inside a record; how many octets belonged to it."""
        size = len(octets)
        position = min(self._rest, size)
        if position:
            self._rest -= position
            self._piece(records, octets[:position])
        skipped = 0 if self._rest else min(self._padding, size - position)
        self._padding -= skipped
        return position + skipped

    def _piece(self, records: list[tuple[int, int, bytes]], octets: bytes) -> None:
        if PARAMS <= self._kind <= DATA and self._request_id:
            records.append((self._kind, self._request_id, octets))
            return
        self._content.append(octets)
        if not self._rest:
            records.append((self._kind, self._request_id, b"".join(self._content)))
            self._content = []


def misplaced(kind: int, request_id: int, sender: str) -> RemoteProtocolError:
    """The error for a record that its sender may not send."""
    name = RecordType(kind).name if kind in RecordType._value2member_map_ else f"type {kind}"
    return RemoteProtocolError(f"a {sender} never sends {name} with request id {request_id}")
