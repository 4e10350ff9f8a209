#!/usr/bin/env -S python3 -I
"""Takes the files of an upload form, and shows the name, size and SHA-256 of each.

Python 3.13 has no module `cgi` any more, so this parses multipart/form-data (RFC 7578) itself, piece
by piece: a file of any size needs no more memory than two pieces.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

PIECE_BYTES = 64 * 1024
HEAD_LIMIT_BYTES = 16 * 1024
PARTS_LIMIT = 1000

# RFC 2046 5.1.1: 1 to 70 characters, quoted or not. RFC 7578 4.2: name and filename are quoted strings;
# browsers write a quote within as %22.
BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.I)
NAME = re.compile(r'[;\s]name="([^"]*)"')
FILENAME = re.compile(r'[;\s]filename="([^"]*)"')


class Malformed(Exception):
    """The content is not what its Content-Type says; the text tells why."""


@dataclass
class Part:
    """One field of the form. `filename` is None where it is no file."""

    name: str
    filename: str | None
    size_bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


class Reader:
    """The content up to `length_bytes`, with the means to stop at a mark."""

    def __init__(self, stream: BinaryIO, length_bytes: int) -> None:
        self.stream = stream
        self.left_bytes = length_bytes
        self.buffer = b""

    def more(self) -> None:
        piece = self.stream.read(min(PIECE_BYTES, self.left_bytes))
        if not piece:
            raise Malformed("the content ends before its last boundary")
        self.left_bytes -= len(piece)
        self.buffer += piece

    def until(self, mark: bytes) -> Iterator[bytes]:
        """The octets before `mark`, in pieces; the mark itself is taken away."""
        while (at := self.buffer.find(mark)) < 0:
            # The mark may have begun in the last octets, so they stay.
            sure = len(self.buffer) - len(mark) + 1
            if sure > 0:
                yield self.buffer[:sure]
                self.buffer = self.buffer[sure:]
            self.more()
        yield self.buffer[:at]
        self.buffer = self.buffer[at + len(mark) :]

    def head(self) -> str:
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > HEAD_LIMIT_BYTES:
                raise Malformed("the head of a part is too long")
            self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head.decode("utf-8", "replace")

    def is_last(self) -> bool:
        """What follows a boundary: `--` after the last one, else white space and a line's end."""
        while len(self.buffer) < 2:
            self.more()
        if self.buffer.startswith(b"--"):
            return True
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > HEAD_LIMIT_BYTES:
                raise Malformed("a boundary's line does not end")
            self.more()
        padding, _, self.buffer = self.buffer.partition(b"\r\n")
        if padding.strip(b" \t"):
            raise Malformed("there is text after a boundary")
        return False


def parts(stream: BinaryIO, content_type: str, length_bytes: int) -> Iterator[Part]:
    """Each part once it is read. Raises Malformed."""
    found = BOUNDARY.match(content_type)
    if found is None:
        raise Malformed("this is no multipart/form-data with a boundary")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1", "replace")
    reader = Reader(stream, length_bytes)
    reader.buffer = b"\r\n"  # so that the first boundary looks like all others
    for _ in reader.until(delimiter):
        pass  # RFC 2046 5.1.1: what stands before the first boundary is to be ignored
    count = 0
    while not reader.is_last():
        count += 1
        if count > PARTS_LIMIT:
            raise Malformed(f"there are more than {PARTS_LIMIT} parts")
        lines = reader.head().split("\r\n")
        disposition = " ".join(line for line in lines if line.lower().startswith("content-disposition:"))
        name, filename = NAME.search(disposition), FILENAME.search(disposition)
        if name is None:
            raise Malformed("a part has no name")
        part = Part(name[1], filename[1] if filename else None)
        for piece in reader.until(delimiter):
            part.size_bytes += len(piece)
            part.digest.update(piece)
        yield part


def refuse(status: str, why: str) -> NoReturn:
    print(f"Status: {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{why}")
    sys.exit(0)


def main() -> None:
    if os.environ.get("REQUEST_METHOD") != "POST":
        print("Allow: POST\r")
        refuse("405 Method Not Allowed", "Send a form here, with POST.")
    try:
        # RFC 3875 4.2: no more than CONTENT_LENGTH octets are ours to read.
        length_bytes = int(os.environ.get("CONTENT_LENGTH") or 0)
        received = list(parts(sys.stdin.buffer, os.environ.get("CONTENT_TYPE", ""), length_bytes))
    except Malformed as error:
        refuse("400 Bad Request", f"This form cannot be read: {error}.")

    print("Content-Type: text/html; charset=utf-8\r\n\r")
    print("<!doctype html><html lang=en><meta charset=utf-8><meta name=color-scheme content='light dark'>")
    print("<title>Upload</title><style>body{font:15px/1.5 system-ui;margin:2rem auto;max-width:60rem;")
    print("padding:0 1rem}td,th{text-align:left;padding:.2rem 1rem .2rem 0;overflow-wrap:anywhere}</style>")
    print("<h1>Received</h1><table><tr><th>field<th>file<th>bytes<th>SHA-256")
    for part in received:
        print(f"<tr><td>{html.escape(part.name)}<td>{html.escape(part.filename or '')}<td>{part.size_bytes}")
        print(f"<td><code>{part.digest.hexdigest()}</code>")
    print("</table>")


if __name__ == "__main__":
    main()
