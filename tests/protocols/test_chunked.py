"""The chunked coding by itself; as part of a message it is tested in `test_http1.py`.

Promise: reader and writer agree, however the octets are cut; what is kept is bounded.
Must never know: heads.
Next: `tests/corpus/http1/invalid`, which holds the malformed ones.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.chunked import (
    CHUNK_LINE_BYTES,
    EXTENSION_BYTES,
    ChunkedReader,
    encode_chunk,
    encode_last_chunk,
)
from protocols.message import RemoteProtocolError


def read(reader: ChunkedReader, octets: bytes, size: int = 1 << 20) -> tuple[bytes, bool, bytes]:
    """(content, whether it has ended, what follows), fed in pieces of `size`."""
    content, rest, end = b"", b"", False
    for at in range(0, len(octets), size):
        if end:
            rest += octets[at : at + size]
            continue
        pieces, end, rest = reader.receive(octets[at : at + size])
        content += b"".join(pieces)
    return content, end, rest


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=300), max_size=6),
    size=st.integers(1, 40),
    trailers=st.lists(st.sampled_from([(b"A", b"b"), (b"Long-Name", b""), (b"X", b"y z")]), max_size=3),
)
def test_what_is_written_is_read(pieces: list[bytes], size: int, trailers: list[tuple[bytes, bytes]]) -> None:
    octets = b"".join(part for piece in pieces for part in encode_chunk(piece)) + encode_last_chunk(trailers)
    reader = ChunkedReader()
    assert read(reader, octets + b"NEXT", size) == (b"".join(pieces), True, b"NEXT")
    assert list(reader.trailers) == trailers


def test_large_content_is_not_copied() -> None:
    content = b"x" * 100_000
    assert encode_chunk(content)[1] is content


def test_a_chunk_of_nothing_is_not_written() -> None:
    assert encode_chunk(b"") == []


def test_a_long_extension_is_let_through_and_a_longer_one_is_not() -> None:
    octets = b"1;" + b"x" * (CHUNK_LINE_BYTES - 4) + b"\r\na\r\n"
    assert read(ChunkedReader(), octets) == (b"a", False, b"")
    assert read(ChunkedReader(), octets, 1) == (b"a", False, b"")
    for size in (1, 1 << 20):
        with pytest.raises(RemoteProtocolError, match="longer"):
            read(ChunkedReader(), octets.replace(b";", b";x"), size)


def test_extensions_are_bounded_in_all() -> None:
    octets = b"1;" + b"x" * 99 + b"\r\na\r\n"
    allowed = EXTENSION_BYTES // 100
    reader = ChunkedReader()
    assert read(reader, octets * allowed) == (b"a" * allowed, False, b"")
    with pytest.raises(RemoteProtocolError, match="extensions"):
        read(reader, octets)


def test_a_wrong_octet_is_refused_when_it_comes() -> None:
    for begun in (b"x", b"1\n", b"1 ", b"1;\0", b"1\r\na\rb", b"1\r\nab", b"0\r\nA\0", b"1" * 17):
        with pytest.raises(RemoteProtocolError):
            read(ChunkedReader(), begun, 1)
