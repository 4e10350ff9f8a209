"""The head of a response as an application gives it, checked once, and remembered if it comes again.

Promise: what is accepted breaks no line and frames nothing; what is not says which value, and why.
Must never know: exchanges, threads. Next: `gateway/interfaces/wsgi.py` and `asgi_call.py`, the users.
"""

from __future__ import annotations

import re
from typing import Any, Final

from protocols.fields import HOP_BY_HOP
from protocols.memory import Memory
from protocols.message import FieldLine, Response

ENTRIES: Final = 1024
"""So many heads are remembered."""
LENGTH_DIGITS: Final = 19
_STATUS: Final = re.compile(r"([2-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH: Final = b"content-length"


class Head:
    """Status and fields; all responses with them share what is encoded of them."""

    __slots__ = ("bare", "derived", "fields", "length", "reason", "status")

    def __init__(self, status: int, reason: bytes, fields: list[FieldLine], length: int | None) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.length = length
        """The value of Content-Length."""
        self.bare = status == 204 or status == 304
        """Whether no content may follow (RFC 9110 15.3.5, 15.4.5)."""
        self.derived: dict[Any, Any] = {}

    def response(self, length: int | None) -> Response:
        return Response(self.status, self.fields, self.reason, length, derived=self.derived)


class Heads:
    """The heads that one engine's application has given. Threads may share it."""

    def __init__(self) -> None:
        self._known: Memory[Any, Head] = Memory(ENTRIES)

    def wsgi(self, status: Any, fields: Any) -> Head:
        """What `start_response` gets. Raises TypeError or ValueError."""
        try:
            key = (status, *fields)
            known = self._known.known.get(key)
        except TypeError:  # it has what is no str in it, as the check below tells
            return wsgi_head(status, fields)
        if known is None or type(fields) is not list:
            known = wsgi_head(status, fields)
            self._known.note(key, known)
        return known

    def asgi(self, status: Any, fields: Any) -> Head:
        """What `http.response.start` holds. Raises TypeError or ValueError."""
        pairs = [tuple(line) for line in fields]
        key = (status, *pairs)
        try:
            known = self._known.known.get(key)
        except TypeError:
            return asgi_head(status, pairs)
        if known is None:
            known = asgi_head(status, pairs)
            self._known.note(key, known)
        return known


def wsgi_head(status: Any, fields: Any) -> Head:
    """PEP 3333, "The start_response() Callable"."""
    if type(status) is not str:
        raise TypeError(f"the status has to be a str such as '200 OK', not {_shown(status)}")
    match = _STATUS.fullmatch(status)
    if match is None:
        raise ValueError(f"the status has to be three digits and a reason, such as '200 OK', not {_shown(status)}")
    if not isinstance(fields, list):
        raise TypeError(f"the response headers have to be a list, not {_shown(fields)}")
    lines: list[FieldLine] = []
    for line in fields:
        if not isinstance(line, tuple) or len(line) != 2:
            raise TypeError(f"a response header has to be a tuple (name, value), not {_shown(line)}")
        name, value = line
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"name and value of a response header have to be str: {_shown(line)}")
        try:
            lines.append((name.encode("latin-1"), value.encode("latin-1")))
        except UnicodeEncodeError:
            raise ValueError(
                f"characters beyond latin-1 in a response header have to be encoded first: {_shown(line)}"
            ) from None
    for name_octets, _ in lines:
        if name_octets.lower() in HOP_BY_HOP:
            raise ValueError(
                f"{name_octets.decode('latin-1')} concerns one connection only, and is the server's to send (PEP 3333)"
            )
    return _head(int(match[1]), (match[2] or "").encode("latin-1"), lines)


def asgi_head(status: Any, fields: list[Any]) -> Head:
    """ASGI, "Response Start": fields that concern one connection only are not for applications, and left out."""
    if not isinstance(status, int):
        raise TypeError(f"the status has to be an int, not {_shown(status)}")
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is no status of a final response")
    lines: list[FieldLine] = []
    for line in fields:
        if len(line) != 2 or not isinstance(line[0], bytes) or not isinstance(line[1], bytes):
            raise TypeError(f"a header has to be (name, value), both of them bytes, not {_shown(line)}")
        if line[0].lower() not in HOP_BY_HOP:
            lines.append((bytes(line[0]), bytes(line[1])))
    return _head(int(status), b"", lines)


def _head(status: int, reason: bytes, lines: list[FieldLine]) -> Head:
    length: int | None = None
    fields: list[FieldLine] = []
    for name, value in lines:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{_shown(name)} is no name of a header")
        if _VALUE.fullmatch(value) is None:
            raise ValueError(f"a control character in the header {name.decode('latin-1')}: {_shown(value)}")
        value = value.strip(b" \t")
        if name.lower() == _LENGTH:
            if length is not None:
                raise ValueError("Content-Length is given twice")
            if not value.isdigit() or len(value) > LENGTH_DIGITS:
                raise ValueError(f"Content-Length has to be a number, not {_shown(value)}")
            length = int(value)
        fields.append((name, value))
    return Head(status, reason, fields, length)


def _shown(value: Any) -> str:
    """Of a value in an error, its beginning."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
