"""SCGI: the netstring byte by byte, both roles, and what either refuses.

Promise: SEMANTICS' points on SCGI (46 to 48, 99) hold for the codec.
Must never know: sockets. Next: `test_cgi.py`, for the response.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import END, Content, LocalProtocolError, RemoteProtocolError
from protocols.scgi import Begin, RequestReader, encode_pair, encode_request


def netstring(content: bytes) -> bytes:
    return b"%d:%b," % (len(content), content)


GOOD = netstring(b"CONTENT_LENGTH\x005\0SCGI\x001\0A\0b\0")


def cuts(octets: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(octets) + 1) for place in places} | {0, len(octets)})
    return [octets[a:b] for a, b in itertools.pairwise(marks)]


def receive_all(reader: RequestReader, pieces: list[bytes]) -> list:
    """Adjacent pieces of content count as one."""
    result: list = []
    for piece in pieces:
        for event in reader.receive(piece):
            if type(event) is Content and result and type(result[-1]) is Content:
                result[-1] = Content(result[-1].data + event.data)
            else:
                result.append(event)
    return result


# ---------------------------------------------------------------------- encoding


def test_content_length_stands_first_and_scgi_is_present() -> None:
    assert encode_request(encode_pair(b"A", b"b"), 5) == GOOD
    assert encode_request(b"", 0) == b"24:CONTENT_LENGTH\x000\0SCGI\x001\0,"


def test_what_the_caller_says_of_content_length_and_scgi_is_ignored() -> None:
    pairs = b"".join(
        encode_pair(*pair)
        for pair in [(b"CONTENT_LENGTH", b"9"), (b"A", b"CONTENT_LENGTH"), (b"SCGI", b"2"), (b"B", b"SCGI")]
    )
    assert encode_request(pairs, 5) == netstring(b"CONTENT_LENGTH\x005\0SCGI\x001\0A\0CONTENT_LENGTH\0B\0SCGI\0")


@pytest.mark.parametrize(("name", "value"), [(b"", b"x"), (b"A\0", b"x"), (b"A", b"x\0y"), (b"A", b"\0")])
def test_pair_that_scgi_cannot_carry_is_our_defect(name: bytes, value: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        encode_pair(name, value)


def test_repeated_name_is_our_defect() -> None:
    with pytest.raises(LocalProtocolError, match="'A' twice"):
        encode_request(encode_pair(b"A", b"1") + encode_pair(b"B", b"A") + encode_pair(b"A", b"2"), 0)


# ---------------------------------------------------------------------- decoding


def test_request_is_decoded_and_octets_beyond_its_length_are_ignored() -> None:
    reader = RequestReader()
    assert reader.receive(GOOD + b"helloXX") == [
        Begin([(b"CONTENT_LENGTH", b"5"), (b"SCGI", b"1"), (b"A", b"b")], 5),
        Content(b"hello"),
        END,
    ]
    assert reader.receive(b"more") == []
    reader.receive_eof()


def test_content_is_reported_as_it_arrives() -> None:
    reader = RequestReader()
    reader.receive(GOOD)
    assert reader.receive(b"he") == [Content(b"he")]
    assert reader.receive(b"llo") == [Content(b"llo"), END]


@pytest.mark.parametrize("octets", [b"", b"4", GOOD[:-1], GOOD, GOOD + b"hell"])
def test_end_of_the_stream_before_the_end_of_the_request_is_an_error(octets: bytes) -> None:
    reader = RequestReader()
    reader.receive(octets)
    with pytest.raises(RemoteProtocolError):
        reader.receive_eof()


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n",
        b":",
        b" 24:",
        b"+24:",
        b"-24:",
        b"024:",
        b"0x18:",
        b"24 :",
        b"24\n:",
        b"0:,",
        netstring(b"CONTENT_LENGTH\x005\0SCGI\x001\0")[:-1] + b";",
        netstring(b"CONTENT_LENGTH\x005\0SCGI\x001"),
        netstring(b"CONTENT_LENGTH\x005\0SCGI\x001\0A\0"),
        netstring(b"CONTENT_LENGTH\x005\0SCGI\x001\0\0b\0"),
        netstring(b"CONTENT_LENGTH\x005\0SCGI\x001\0A\0b\0A\0c\0"),
        netstring(b"CONTENT_LENGTH\x005\0CONTENT_LENGTH\x005\0SCGI\x001\0"),
        netstring(b"SCGI\x001\0CONTENT_LENGTH\x005\0"),
        netstring(b"A\0b\0"),
        netstring(b"CONTENT_LENGTH\x005\0"),
        netstring(b"CONTENT_LENGTH\x005\0SCGI\x002\0"),
        netstring(b"CONTENT_LENGTH\0\0SCGI\x001\0"),
        netstring(b"CONTENT_LENGTH\0+5\0SCGI\x001\0"),
        netstring(b"CONTENT_LENGTH\x0005\0SCGI\x001\0"),
        netstring(b"CONTENT_LENGTH\0-1\0SCGI\x001\0"),
        netstring(b"CONTENT_LENGTH\x005 \0SCGI\x001\0"),
        netstring(b"CONTENT_LENGTH\x00" + b"9" * 20 + b"\0SCGI\x001\0"),
    ],
)
def test_anything_else_is_refused(octets: bytes) -> None:
    for pieces in ([octets], [octets[i : i + 1] for i in range(len(octets))]):
        with pytest.raises(RemoteProtocolError):
            receive_all(RequestReader(), pieces)


def test_a_field_that_nginx_repeats_is_taken_as_it_comes() -> None:
    """Before 1.23 it sends a variable for each line of the client."""
    pairs = [(b"HTTP_A", b"1"), (b"HTTP_A", b"2")]
    [begin, end] = RequestReader().receive(netstring(b"CONTENT_LENGTH\x000\0SCGI\x001\0HTTP_A\x001\0HTTP_A\x002\0"))
    assert (begin, end) == (Begin([(b"CONTENT_LENGTH", b"0"), (b"SCGI", b"1"), *pairs], 0), END)


@pytest.mark.parametrize("octets", [b"101:", b"1000", b"9" * 30, b"x"])
def test_length_above_the_limit_is_refused_without_waiting_for_more(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        RequestReader(limit_bytes=100).receive(octets)
    RequestReader(limit_bytes=100).receive(b"100:")


# ---------------------------------------------------------------------- properties

text = st.binary(max_size=30).map(lambda octets: octets.replace(b"\0", b"0"))
names = text.filter(lambda name: name not in (b"", b"CONTENT_LENGTH", b"SCGI"))
variables = st.dictionaries(names, text, max_size=8)
places = st.lists(st.integers(0, 1 << 20), max_size=8)


@settings(max_examples=80)
@given(variables, st.binary(max_size=200), st.binary(max_size=5), places)
def test_request_survives_encoding_however_the_stream_is_cut(
    pairs: dict[bytes, bytes], content: bytes, rubbish: bytes, places: list[int]
) -> None:
    octets = encode_request(b"".join(encode_pair(*pair) for pair in pairs.items()), len(content))
    expected: list = [Begin([(b"CONTENT_LENGTH", b"%d" % len(content)), (b"SCGI", b"1"), *pairs.items()], len(content))]
    if content:
        expected.append(Content(content))
    assert receive_all(RequestReader(), cuts(octets + content + rubbish, places)) == [*expected, END]


@settings(max_examples=150)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(netstring), places)
def test_any_octets_are_a_request_or_an_error_and_memory_is_bounded(octets: bytes, places: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> object:
        reader = RequestReader(limit_bytes=30)
        try:
            return receive_all(reader, pieces)
        except RemoteProtocolError:
            return "refused"
        finally:
            assert reader._head is None or len(reader._head) < 40 + len(octets)

    assert outcome([octets]) == outcome(cuts(octets, places))
