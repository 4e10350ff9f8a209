"""SCGI 1: a netstring of meta-variables, then the content; both roles.

Promise: a request that we encode is one that the strictest worker takes; one that we decode is refused
as soon as it is wrong, and never read for ever.
Must never know: sockets, HTTP, what a meta-variable means. Next: `cgi.py`, which reads the response.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from protocols.message import END, Content, EndOfMessage, LocalProtocolError, RemoteProtocolError

_DECIMAL: Final = re.compile(rb"0|[1-9][0-9]{0,18}")  # no sign, no leading zero; below 2**63


@dataclass(frozen=True, slots=True)
class Begin:
    """A request with all its meta-variables, in order: CONTENT_LENGTH is the first."""

    pairs: list[tuple[bytes, bytes]]
    content_length: int


Event: TypeAlias = Begin | Content | EndOfMessage

# ---------------------------------------------------------------------- the gateway's side


def encode_pair(name: bytes, value: bytes) -> bytes:
    """One meta-variable. Raises LocalProtocolError for an empty name or a NUL."""
    pair = name + b"\0" + value + b"\0"
    if not name or pair.count(b"\0") != 2:
        raise LocalProtocolError(f"SCGI can't carry the meta-variable {name!r}")
    return pair


def encode_request(pairs: bytes, content_length: int) -> bytes:
    """The netstring that stands before the content. `pairs` were made by `encode_pair` and joined.

    CONTENT_LENGTH and SCGI are written here, as the standard wants them first and present; those
    among the pairs are ignored. Raises LocalProtocolError for a name that is repeated.
    """
    flat = pairs.split(b"\0")
    names = flat[:-1:2]
    unique = set(names)
    if len(unique) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LocalProtocolError(f"SCGI can't carry the meta-variable {twice!r} twice")
    if b"CONTENT_LENGTH" in unique or b"SCGI" in unique:
        kept = zip(names, flat[1::2])
        pairs = b"".join([encode_pair(name, value) for name, value in kept if name not in (b"CONTENT_LENGTH", b"SCGI")])
    return head_of(pairs, content_length)


def head_of(pairs: bytes, content_length: int) -> bytes:
    """The same of pairs that are known to be right: no name twice, and neither CONTENT_LENGTH nor SCGI."""
    first = b"CONTENT_LENGTH\0%d\0SCGI\x001\0" % content_length
    return b"%d:%b%b," % (len(first) + len(pairs), first, pairs)


# ---------------------------------------------------------------------- the worker's side


class RequestReader:
    """Decodes the one request of a connection. Octets beyond CONTENT_LENGTH are ignored."""

    __slots__ = ("_head", "_head_bytes", "_rest", "limit_bytes")

    def __init__(self, limit_bytes: int = 64 * 1024) -> None:
        self.limit_bytes = limit_bytes
        """Octets of the netstring's content, at most."""
        self._head: bytearray | None = bytearray()
        self._head_bytes = -1  # with the length, the colon and the comma; -1 until they are known
        self._rest = 0

    def receive(self, octets: bytes) -> list[Event]:
        """Decode what came. Raises RemoteProtocolError as soon as it can't become a request."""
        events: list[Event] = []
        head = self._head
        if head is not None:
            head += octets
            if self._head_bytes < 0 and not self._length_known(head):
                return events
            if len(head) < self._head_bytes:
                return events
            octets = bytes(head[self._head_bytes :])
            begin = self._begin(bytes(head[: self._head_bytes]))
            self._head = None
            self._rest = begin.content_length
            events.append(begin)
            if not self._rest:
                events.append(END)
        if self._rest and octets:
            content = octets[: self._rest]
            self._rest -= len(content)
            events.append(Content(content))
            if not self._rest:
                events.append(END)
        return events

    def receive_eof(self) -> None:
        """The gateway has closed its side. Raises RemoteProtocolError if that came too early."""
        if self._head is not None:
            raise RemoteProtocolError("the connection ended inside the meta-variables")
        if self._rest:
            raise RemoteProtocolError(f"the connection ended {self._rest} octets before CONTENT_LENGTH")

    def _length_known(self, head: bytearray) -> bool:
        digits, colon, _ = head.partition(b":")
        if (digits or colon) and _DECIMAL.fullmatch(digits) is None:
            raise RemoteProtocolError(f"a netstring can't begin with {bytes(head[:24])!r}")
        length = int(digits or b"0")
        if length > self.limit_bytes:
            raise RemoteProtocolError(f"the meta-variables are longer than {self.limit_bytes} octets", 431)
        if colon:
            self._head_bytes = len(digits) + 1 + length + 1
        return bool(colon)

    def _begin(self, head: bytes) -> Begin:
        content = head.partition(b":")[2][:-1]
        if head[-1:] != b",":
            raise RemoteProtocolError("the netstring does not end with a comma")
        if content[-1:] != b"\0":
            raise RemoteProtocolError("the last meta-variable does not end with NUL")
        flat = content.split(b"\0")
        names = flat[:-1:2]
        pairs = list(zip(names, flat[1::2]))
        if len(flat) % 2 == 0 or b"" in names:
            raise RemoteProtocolError("a meta-variable has no name or no value")
        if len(set(names)) != len(names):
            # nginx before 1.23 repeats a variable with the field that the client has repeated: they are
            # joined later, since a request is worth more than the rule
            ours = [name for name in names if not name.startswith(b"HTTP_")]
            if len(set(ours)) != len(ours):
                raise RemoteProtocolError("a meta-variable is repeated")
        if names[0] != b"CONTENT_LENGTH" or _DECIMAL.fullmatch(flat[1]) is None:
            raise RemoteProtocolError("the first meta-variable is not CONTENT_LENGTH with a decimal number")
        if (b"SCGI", b"1") not in pairs:
            raise RemoteProtocolError("the meta-variable SCGI is not 1")
        return Begin(pairs, int(flat[1]))
