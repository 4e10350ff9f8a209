"""Where a head ends: taken whole or in pieces, and refused as early as can be.

Promise: the same head is found however it arrives.
Must never know: what becomes of the head.
Next: `test_http1.py`, which has the limits to the octet.
"""

from __future__ import annotations

import pytest

from protocols.http1_head import REQUEST, RESPONSE, HeadBuffer, HeadLimits
from protocols.message import RemoteProtocolError

HEAD = b"GET / HTTP/1.1\r\nHost: x \t\r\nA:\r\n\r\n"
PARTS = (b"GET", b"/", b"HTTP/1.1", b"Host: x\r\nA:\r\n")


def take(*pieces: bytes) -> None:
    buffer = HeadBuffer(REQUEST, HeadLimits())
    for piece in pieces:
        buffer.take(piece)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_head_and_what_follows_it(size: int) -> None:
    buffer = HeadBuffer(REQUEST, HeadLimits())
    octets = b"\r\n" + HEAD
    for at in range(0, len(octets), size):
        piece = octets[at : at + size]
        match = buffer.take(piece + b"rest" if at + size >= len(octets) else piece)
    assert match is not None
    assert match.groups() == PARTS
    assert match.string[match.end() :] == b"rest"
    assert not buffer.arrived


@pytest.mark.parametrize(
    "begun",
    [b"\x16\x03\x01", b"GET /\n", b"GET /\r\n", b"GET /\rx", b"GET / HTTP/1.1\r\nA: b\n", b"\r\n\r\n\r\n",
     b"GET / HTTP/2.0\r\n"],
)  # fmt: skip
def test_what_can_never_be_a_request_is_refused_at_once(begun: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        take(begun)
    with pytest.raises(RemoteProtocolError):
        take(*(begun[at : at + 1] for at in range(len(begun))))


def test_a_refusal_names_the_line() -> None:
    with pytest.raises(RemoteProtocolError, match=r"field line 2 is malformed: b'B : c'"):
        HeadBuffer(REQUEST, HeadLimits()).take(b"GET / HTTP/1.1\r\nHost: x\r\nB : c\r\n\r\n")
    with pytest.raises(RemoteProtocolError, match=r"start-line is malformed: b'HTTP/1\.1 2000 OK"):
        HeadBuffer(RESPONSE, HeadLimits()).take(b"HTTP/1.1 2000 OK\r\n\r\n")
