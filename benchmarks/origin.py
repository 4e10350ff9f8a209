"""The origin behind every server: HTTP/1.1, FastCGI and SCGI on one event loop, in few octets.

Promise: 13 octets for any path, 16 KiB where it contains `/medium`, 1 MiB where it contains `/big`, and once all
content of the request is here; as fast as Python gets, so that the server in front is what is measured. It reads
requests just far enough: it is no general origin.
Must never know: who asks. Next: `servers.py`, the servers in front of it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from pathlib import Path
from struct import Struct

import uvloop

SMALL = b"Hello, world!"
MEDIUM = bytes(range(256)) * 64
BIG = bytes(range(256)) * 4096
CONTENTS = {"small": SMALL, "medium": MEDIUM, "big": BIG}
INTERFACES = ("http", "fastcgi", "multiplexed", "scgi")
"""`multiplexed` is FastCGI from an application that says that it takes many requests on one connection."""

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT = 1, 2, 3, 4, 5, 6  # FastCGI 8
GET_VALUES, GET_VALUES_RESULT = 9, 10
KEEP_CONN = 1
RECORD = Struct(">BBHHBx")  # FastCGI 3.3: version, type, request id, content length, padding length
KEPT_BYTES = 1024
"""Answers below this are kept for each request id."""
STDOUT_BYTES = 65528  # the most that a record holds at a multiple of eight


def response(status_line: bytes, content: bytes) -> bytes:
    fields = b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(content)
    return status_line + fields + content


HTTP_RESPONSES = {size: response(b"HTTP/1.1 200 OK\r\n", content) for size, content in CONTENTS.items()}
SCRIPT_RESPONSES = {size: response(b"Status: 200 OK\r\n", content) for size, content in CONTENTS.items()}


def size_asked(octets: bytes) -> str:
    """Of a request line, or of meta-variables."""
    return "big" if b"/big" in octets else "medium" if b"/medium" in octets else "small"


class Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]


class Http(Connection):
    """Requests with a Content-Length or without content, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = b""
        self.missing = 0
        """Octets of content that are still to come before `answer` is sent."""
        self.keep = True

    def data_received(self, data: bytes) -> None:
        if self.missing:
            self.missing -= len(data)
            if self.missing > 0:
                return
            data = data[len(data) + self.missing :]
            self.respond()
        self.buffer += data
        while not self.missing:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                break
            line, _, fields = head.partition(b"\r\n")
            fields = fields.lower()
            self.answer = HTTP_RESPONSES[size_asked(line)]
            self.keep = not (line.endswith(b"/1.0") or b"connection: close" in fields)
            length = content_length(fields)
            self.buffer = rest[length:]
            self.missing = max(0, length - len(rest))
            if not self.missing:
                self.respond()

    def respond(self) -> None:
        self.missing = 0
        self.transport.write(self.answer)
        if not self.keep:
            self.transport.close()


def content_length(fields: bytes) -> int:
    """Of a head's fields in lower case."""
    _, named, value = fields.partition(b"content-length:")
    return int(value.partition(b"\r")[0]) if named else 0


class FastCgi(Connection):
    """FastCGI 3: a request is over with its empty STDIN record; connections are kept, and it says: not multiplexed."""

    multiplexes = b"0"
    answers: dict[tuple[int, str], bytes] = {}

    def __init__(self) -> None:
        super().__init__()
        self.params: dict[int, bytes] = {}
        self.keep = True

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data
        at = 0
        while len(buffer) - at >= 8:
            _, kind, request_id, length, padding = RECORD.unpack_from(buffer, at)
            end = at + 8 + length + padding
            if end > len(buffer):
                break
            if kind == PARAMS:
                self.params[request_id] += buffer[at + 8 : at + 8 + length]
            elif kind == BEGIN_REQUEST:
                self.params[request_id] = b""
                self.keep = buffer[at + 10] & KEEP_CONN != 0
            elif (kind == STDIN and not length) or kind == ABORT_REQUEST:
                self.answer(request_id, size_asked(self.params.pop(request_id, b"")))
            elif kind == GET_VALUES:
                values = b"\x0f\x01FCGI_MPXS_CONNS" + self.multiplexes  # FastCGI 3.4, 4.1
                self.transport.write(RECORD.pack(1, GET_VALUES_RESULT, 0, len(values), 0) + values)
            at = end
        self.buffer = buffer[at:]

    def answer(self, request_id: int, size: str) -> None:
        octets = self.answers.get((request_id, size))
        if octets is not None:
            self.transport.write(octets)
        elif len(SCRIPT_RESPONSES[size]) < KEPT_BYTES:
            octets = self.answers[request_id, size] = b"".join(records(request_id, SCRIPT_RESPONSES[size]))
            self.transport.write(octets)
        else:  # there are thousands of ids, and only the headers of their records differ
            self.transport.writelines(records(request_id, SCRIPT_RESPONSES[size]))
        if not self.keep:
            self.transport.close()


class Multiplexed(FastCgi):
    multiplexes = b"1"


def records(request_id: int, script_response: bytes) -> list[bytes]:
    """In pieces: STDOUT records with `script_response`, their end, and END_REQUEST with REQUEST_COMPLETE."""
    out: list[bytes] = []
    for content in cut(script_response):
        padding = -len(content) % 8
        out += [RECORD.pack(1, STDOUT, request_id, len(content), padding), content, bytes(padding)]
    out += [RECORD.pack(1, STDOUT, request_id, 0, 0), RECORD.pack(1, END_REQUEST, request_id, 8, 0), bytes(8)]
    return out


@functools.lru_cache
def cut(script_response: bytes) -> list[bytes]:
    """What goes into each record."""
    return [script_response[start : start + STDOUT_BYTES] for start in range(0, len(script_response), STDOUT_BYTES)]


class Scgi(Connection):
    """One netstring of meta-variables and the content, then the response until the connection's end."""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        length, colon, rest = self.buffer.partition(b":")
        if not colon or len(rest) <= int(length):
            return
        params = rest[: int(length)]
        _, content, _ = params.split(b"\0", 2)  # CONTENT_LENGTH comes first
        if len(rest) > len(params) + int(content):
            self.transport.write(SCRIPT_RESPONSES[size_asked(params)])
            self.transport.close()


async def serve(directory: Path) -> None:
    """Listens, prints as JSON where (a port and a unix socket for each interface), and serves for ever."""
    loop = asyncio.get_running_loop()
    addresses = {}
    servers = []  # uvloop closes a server that nobody refers to
    for interface, factory in zip(INTERFACES, (Http, FastCgi, Multiplexed, Scgi), strict=True):
        path = str(directory / f"{interface}.sock")
        server = await loop.create_server(factory, "127.0.0.1", 0, backlog=1024)
        servers += [server, await loop.create_unix_server(factory, path, backlog=1024)]
        Path(path).chmod(0o666)  # for servers that do not serve as root
        addresses[interface] = {"port": server.sockets[0].getsockname()[1], "path": path}
    print(json.dumps(addresses), flush=True)
    await loop.create_future()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
