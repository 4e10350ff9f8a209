"""Writing heads: what decides framing, and what may never get into a line. (Round trips: test_http1.py.)"""

from __future__ import annotations

import pytest

from protocols.http1_writing import RequestWriter, ResponseWriter, encode_lines
from protocols.message import LocalProtocolError, Response

DATE, SERVER = b"Date: now\r\n", b"Server: us\r\n"


def writer(version: bytes = b"HTTP/1.1", *, keep_alive: bool = True) -> ResponseWriter:
    return ResponseWriter(b"GET", version, keep_alive)


def test_date_and_server_where_the_origin_gave_none() -> None:
    assert writer().head(Response(200, [], length=0), DATE, SERVER) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: now\r\nServer: us\r\n\r\n"
    )
    own = [(b"date", b"then"), (b"SERVER", b"them")]
    assert writer().head(Response(200, own, length=0), DATE, SERVER) == (
        b"HTTP/1.1 200 OK\r\ndate: then\r\nSERVER: them\r\nContent-Length: 0\r\n\r\n"
    )


def test_what_is_shared_does_not_mix_statuses_and_lengths() -> None:
    fields, derived = [(b"A", b"b")], {}  # type: ignore[var-annotated]
    for status, length, line in (
        (200, 0, b"200 OK"), (404, 0, b"404 Not Found"), (200, 0, b"200 OK"), (200, 7, b"200 OK"), (200, 0, b"200 OK"),
    ):  # fmt: skip
        head = writer().head(Response(status, fields, length=length, derived=derived))
        assert head.startswith(b"HTTP/1.1 %b\r\nA: b\r\nContent-Length: %d\r\n" % (line, length))


def test_http_1_0_is_told_by_the_end_of_the_connection() -> None:
    old = writer(b"HTTP/1.0")
    assert old.head(Response(200, [])).endswith(b"Connection: close\r\n\r\n")
    assert old.close_delimited
    assert not old.keep_alive


@pytest.mark.parametrize("octets", [b"a\r\nb", b"a\nb", b"a\rb", b"a\0b"])
def test_nothing_breaks_a_line(octets: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        encode_lines([(b"A", octets)])
    with pytest.raises(LocalProtocolError):
        writer().head(Response(200, [], octets, length=0))
    with pytest.raises(LocalProtocolError):
        RequestWriter().head(b"GET", b"/" + octets, [], 0)
