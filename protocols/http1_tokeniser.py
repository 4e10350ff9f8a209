"""The engines that split a header section into field lines: httptools (llhttp) and h11, as adapters.

Promise: they are given only what `http1_grammar.py` matched, and only split it; both answer alike.
Must never know: start-lines, framing, limits, keep-alive: `http1.py` decides these, for both alike.
Next: `http1.py`, the only user.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Protocol

from protocols.message import FieldLine, RemoteProtocolError


class Tokeniser(Protocol):
    """Splits a header section: its lines, each with its CRLF, without the empty line after them.

    No line has white space after its value: engines differ in whether they take it off.

    Raises RemoteProtocolError where the engine refuses the section.
    """

    name: str

    def split_request(self, section: bytes) -> list[FieldLine]: ...
    def split_response(self, section: bytes) -> list[FieldLine]: ...


class _Collector:
    """Field lines as llhttp reports them."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[FieldLine] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


class HttptoolsTokeniser:
    """llhttp, in C. A parser serves for one section, since a refusal spoils it."""

    name = "httptools"

    # The engine sees a start-line that it knows, whatever the method is. After the section comes the
    # beginning of one more line instead of the empty line: it makes llhttp report the last line, and
    # keeps it from ending the head, where it would judge framing and go over to Upgrade.
    _REQUEST_LINE = b"GET / HTTP/1.1\r\n"
    _STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
    _AFTER = b"x:"

    def __init__(self) -> None:
        httptools = import_module("httptools")  # looked for each time: compiled, an import statement remembers
        self._request_parser = httptools.HttpRequestParser
        self._response_parser = httptools.HttpResponseParser
        self._error = httptools.HttpParserError

    def split_request(self, section: bytes) -> list[FieldLine]:
        collector = _Collector()
        try:
            self._request_parser(collector).feed_data(self._REQUEST_LINE + section + self._AFTER)
        except self._error as error:
            raise RemoteProtocolError(f"httptools refuses the header section: {error}") from None
        return collector.fields

    def split_response(self, section: bytes) -> list[FieldLine]:
        collector = _Collector()
        try:
            self._response_parser(collector).feed_data(self._STATUS_LINE + section + self._AFTER)
        except self._error as error:
            raise RemoteProtocolError(f"httptools refuses the header section: {error}") from None
        return collector.fields


_LENGTHS = re.compile(rb"(?:\A|\n)content-length:[^\r]*,", re.IGNORECASE)


class H11Tokeniser:
    """h11, in pure Python: strict, portable, slower."""

    name = "h11"

    # Version 1.0 keeps h11 from asking for a Host: `http1.py` does, for both engines.
    _REQUEST_LINE = b"GET / HTTP/1.0\r\n"
    _STATUS_LINE = b"HTTP/1.1 200 OK\r\n"

    def __init__(self) -> None:
        h11 = import_module("h11")
        self._connection = h11.Connection
        self._roles = {self._REQUEST_LINE: h11.SERVER, self._STATUS_LINE: h11.CLIENT}
        self._heads = (h11.Request, h11.Response)
        self._error = h11.RemoteProtocolError

    def split_request(self, section: bytes) -> list[FieldLine]:
        return self._split(self._REQUEST_LINE, section)

    def split_response(self, section: bytes) -> list[FieldLine]:
        return self._split(self._STATUS_LINE, section)

    def _split(self, start_line: bytes, section: bytes) -> list[FieldLine]:
        connection = self._connection(self._roles[start_line])
        connection.receive_data(start_line + section + b"\r\n")
        try:
            head = connection.next_event()
        except self._error as error:
            raise RemoteProtocolError(f"h11 refuses the header section: {error}") from None
        assert isinstance(head, self._heads), head
        fields: list[FieldLine] = head.headers.raw_items()
        # h11 takes equal lengths, in several lines or in a list, for one; llhttp refuses them
        if len(fields) != section.count(b"\r\n") or _LENGTHS.search(section):
            raise RemoteProtocolError("more than one Content-Length")
        return fields


def tokeniser(name: str = "auto") -> Tokeniser:
    """The engine of that name; `auto` is httptools where it is installed, else h11.

    Raises ImportError where the engine named is not installed, ValueError for an unknown name.
    """
    if name == "h11":
        return H11Tokeniser()
    if name not in ("auto", "httptools"):
        raise ValueError(f"no tokeniser is called {name!r}: choose auto, httptools or h11")
    try:
        return HttptoolsTokeniser()
    except ImportError:
        if name == "httptools":
            raise
        return H11Tokeniser()
