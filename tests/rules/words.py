"""The words of workers in a playbook: FastCGI records as short lines, and back.

Promise: `records` reads exactly what stands on the wire, so that a test can tell every record.
Must never know: the gateway's side of the codec. Next: `playbook.py`.
"""

from __future__ import annotations

import struct

from protocols.fastcgi_records import (
    END_REQUEST,
    STDERR,
    STDOUT,
    RecordReader,
    RecordType,
    decode_pairs,
    encode_pair,
    record,
)
from tests.rules.playbook import Peer, Sign

__all__ = ["Fastcgi", "encode_pair", "end", "page", "records", "request", "stderr", "stdout"]


def stdout(request_id: int, octets: bytes = b"") -> bytes:
    return record(STDOUT, request_id, octets)


def stderr(request_id: int, octets: bytes = b"") -> bytes:
    return record(STDERR, request_id, octets)


def end(request_id: int, app_status: int = 0, protocol_status: int = 0) -> bytes:
    return record(END_REQUEST, request_id, struct.pack(">IB3x", app_status, protocol_status))


def page(request_id: int, text: bytes) -> bytes:
    """A whole answer."""
    return stdout(request_id, b"Content-Type: text/plain\n\n" + text) + stdout(request_id) + end(request_id)


def records(peer: Peer) -> list[str]:
    """What a FastCGI worker has got since it was last asked, a record a line."""
    lines: list[str] = []
    params: dict[int, bytes] = {}
    for kind, request_id, content in RecordReader().receive(peer.take()):
        name = RecordType(kind).name
        if name == "BEGIN_REQUEST":
            params[request_id] = b""
            lines.append(f"{name} {request_id}{' KEEP_CONN' if content[2] else ''}")
        elif name == "PARAMS":
            if content:
                params[request_id] += content
                continue
            pairs = dict(decode_pairs(params.pop(request_id)))
            lines.append(f"PARAMS {request_id} {pairs[b'REQUEST_METHOD'].decode()} {pairs[b'REQUEST_URI'].decode()}")
        elif name == "STDIN" and content:
            lines.append(f"STDIN {request_id} {content.decode('latin-1')}")
        else:
            lines.append(f"{name} {request_id}")
    lines += [item.name for item in peer.got if isinstance(item, Sign)]
    peer.got.clear()
    return lines


def request(request_id: int, line: str, content: str | None = "") -> list[str]:
    """The records of a request: all of them, or (None) those before its content."""
    lines = [f"BEGIN_REQUEST {request_id} KEEP_CONN", f"PARAMS {request_id} {line}"]
    if content is None:
        return lines
    return [*lines, *([f"STDIN {request_id} {content}"] if content else []), f"STDIN {request_id}"]


class Fastcgi:
    """`worker << [...]` for a FastCGI worker."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def __lshift__(self, expected: list[str]) -> Fastcgi:
        name = self.peer.name
        self.peer.compare([f"{name} << {line}" for line in expected], [f"{name} << {line}" for line in records(self.peer)])
        return self

    def __rshift__(self, said: bytes | Sign) -> Fastcgi:
        self.peer >> said
        return self
