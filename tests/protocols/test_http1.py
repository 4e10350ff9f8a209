"""HTTP/1.1 readers and writers against each other, against themselves cut up, and against h11.

Promise: each rule of SEMANTICS E and F that is the codec's has a test here or a file in the corpus.
Must never know: how readers and writers work inside.
Next: `test_http1_corpus.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import http1
from protocols.http1 import (
    HEAD_BYTES,
    HEADS,
    HeadLimits,
    Reading,
    RequestReader,
    RequestWriter,
    ResponseReader,
    ResponseWriter,
    Tokeniser,
    tokeniser,
)
from protocols.message import (
    END,
    Content,
    EndOfMessage,
    Event,
    FieldLine,
    LocalProtocolError,
    RemoteProtocolError,
    Request,
    Response,
)

ENGINES = [tokeniser("httptools"), tokeniser("h11")]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
quick = settings(max_examples=150, deadline=None)

HOST: FieldLine = (b"Host", b"example.org")
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

CORPUS = Path(__file__).parent.parent / "corpus" / "http1"
REQUEST_SEEDS = [path.read_bytes() for path in sorted(CORPUS.glob("*/*.http")) if "response" not in path.name]
RESPONSE_SEEDS = [path.read_bytes() for path in sorted(CORPUS.glob("*/response*.http"))]


# ---------------------------------------------------------------------- reading in one word


def merged(events: Iterable[Event]) -> list[Event]:
    """Events with adjacent content joined: what does not depend on how the stream was cut."""
    joined: list[Event] = []
    for event in events:
        if isinstance(event, Content) and joined and isinstance(joined[-1], Content):
            joined[-1] = Content(joined[-1].data + event.data)
        else:
            joined.append(event)
    return joined


def read_requests(pieces: Iterable[bytes], engine: Tokeniser = ENGINES[0]) -> list[Event]:
    """Events of all requests in the stream, and of the beginning of the last."""
    reader = RequestReader(engine)
    events: list[Event] = []
    for piece in pieces:
        events += reader.receive(piece)
        while reader.state is Reading.DONE and reader.held:
            events += reader.resume()
    return merged(events)


def read_response(pieces: Iterable[bytes], method: bytes = b"GET", engine: Tokeniser = ENGINES[0]) -> list[Event]:
    reader = ResponseReader(engine)
    reader.expect(method)
    events: list[Event] = []
    for piece in pieces:
        events += reader.receive(piece)
    return merged(events + reader.receive_eof())


def verdict(read: object, *arguments: object) -> object:
    """The events, or the status of the refusal."""
    try:
        return read(*arguments)  # type: ignore[operator]
    except RemoteProtocolError as error:
        return error.status


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(octets) + 1) for place in places} | {0, len(octets)})
    return [octets[start:stop] for start, stop in pairwise(at)]


# ---------------------------------------------------------------------- what hypothesis draws

TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FRAMING = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
FIELD_OCTETS = [9, *range(32, 127), *range(128, 256)]
tokens = st.text(TCHAR, min_size=1, max_size=12).map(str.encode)
names = tokens.filter(lambda name: name.lower() not in FRAMING)
values = st.lists(st.sampled_from(FIELD_OCTETS), max_size=20).map(lambda octets: bytes(octets).strip(b" \t"))
field_lines = st.lists(st.tuples(names, values), max_size=6)
contents = st.lists(st.binary(min_size=1, max_size=60), max_size=5)
places = st.lists(st.integers(0, 2000), max_size=12)
NASTY = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\x80", b":", b",", b";", b"0", b"1",
    b"\r\n\r\n", b"Content-Length: 1\r\n", b"content-length:1,1\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Host: y\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"CONNECT ", b"Content-Length:\r\n",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    octets = draw(st.sampled_from([seed for seed in seeds if len(seed) < 400]))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(octets)))
        stop = min(len(octets), start + draw(st.integers(0, 6)))
        octets = octets[:start] + draw(st.sampled_from([b"", *NASTY])) + octets[stop:]
    return octets


# ---------------------------------------------------------------------- what is written is read


@quick
@given(
    method=st.sampled_from([b"GET", b"POST", b"PUT", b"FROBNICATE"]),
    target=st.text("/abc%2F?=&.;~-[]|^\"'", max_size=20).map(lambda text: b"/" + text.encode()),
    fields=field_lines,
    pieces=contents,
    chunked=st.booleans(),
    trailers=field_lines,
    at=places,
)
def test_requests_survive_the_wire(
    method: bytes, target: bytes, fields: list[FieldLine], pieces: list[bytes], chunked: bool,
    trailers: list[FieldLine], at: list[int],
) -> None:  # fmt: skip
    content = b"".join(pieces)
    length = None if chunked else len(content)
    writer = RequestWriter()
    octets = writer.head(method, target, [HOST, *fields], length)
    octets += b"".join(octet for piece in pieces for octet in writer.content(piece)) + writer.end(trailers)
    for engine in ENGINES:
        events = read_requests(cut(octets, at), engine)
        request, end = events[0], events[-1]
        assert isinstance(request, Request)
        assert isinstance(end, EndOfMessage)
        assert (request.method, request.target, request.length) == (method, target, length)
        assert request.fields[: len(fields) + 1] == [HOST, *fields]
        assert events[1:-1] == ([Content(content)] if content else [])
        assert list(end.trailers) == (trailers if chunked else [])


@quick
@given(
    status=st.sampled_from([200, 204, 206, 304, 404, 599]),
    method=st.sampled_from([b"GET", b"HEAD", b"POST"]),
    version=st.sampled_from([b"HTTP/1.0", b"HTTP/1.1"]),
    keep_alive=st.booleans(),
    fields=field_lines,
    pieces=contents,
    known=st.booleans(),
    trailers=field_lines,
    at=places,
)
def test_responses_survive_the_wire(
    status: int, method: bytes, version: bytes, keep_alive: bool, fields: list[FieldLine],
    pieces: list[bytes], known: bool, trailers: list[FieldLine], at: list[int],
) -> None:  # fmt: skip
    content = b"".join(pieces)
    length = len(content) if known else None
    writer = ResponseWriter(method, version, keep_alive)
    octets = writer.head(Response(status, fields, b"Reason", length))
    octets += b"".join(octet for piece in pieces for octet in writer.content(piece)) + writer.end(trailers)
    bare = method == b"HEAD" or status in (204, 304)
    for engine in ENGINES:
        events = read_response(cut(octets, at), method, engine)
        response, end = events[0], events[-1]
        assert isinstance(response, Response)
        assert isinstance(end, EndOfMessage)
        assert (response.status, response.reason) == (status, b"Reason")
        # The writer speaks 1.1 to clients of 1.0 too; this reader then keeps what a 1.0 client keeps.
        assert response.keep_alive is writer.keep_alive
        assert response.fields[: len(fields)] == fields
        assert events[1:-1] == ([Content(content)] if content and not bare else [])
        if not bare and not known and version == b"HTTP/1.1":
            assert list(end.trailers) == trailers


# ---------------------------------------------------------------------- cutting, engines, h11


@settings(max_examples=300, deadline=None)
@given(octets=mutated(REQUEST_SEEDS), at=places)
def test_requests_are_the_same_however_cut_and_whoever_splits(octets: bytes, at: list[int]) -> None:
    whole = verdict(read_requests, [octets], ENGINES[0])
    assert verdict(read_requests, [octets], ENGINES[1]) == whole
    for pieces in (cut(octets, at), [octets[i : i + 1] for i in range(len(octets))]):
        in_pieces = verdict(read_requests, pieces, ENGINES[0])
        assert verdict(read_requests, pieces, ENGINES[1]) == in_pieces
        # which of two faults is seen first may depend on the cut, that there is one may not
        assert in_pieces == whole or (isinstance(in_pieces, int) and isinstance(whole, int))


@settings(max_examples=200, deadline=None)
@given(octets=mutated(RESPONSE_SEEDS), at=places, method=st.sampled_from([b"GET", b"HEAD"]))
def test_responses_are_the_same_however_cut_and_whoever_splits(octets: bytes, at: list[int], method: bytes) -> None:
    whole = verdict(read_response, [octets], method, ENGINES[0])
    assert verdict(read_response, [octets], method, ENGINES[1]) == whole
    for pieces in (cut(octets, at), [octets[i : i + 1] for i in range(len(octets))]):
        in_pieces = verdict(read_response, pieces, method, ENGINES[0])
        assert verdict(read_response, pieces, method, ENGINES[1]) == in_pieces
        assert in_pieces == whole or (isinstance(in_pieces, int) and isinstance(whole, int))


@quick
@given(octets=st.binary(max_size=200), at=places)
def test_any_octets_give_events_or_a_refusal(octets: bytes, at: list[int]) -> None:
    for engine in ENGINES:
        verdict(read_requests, cut(octets, at), engine)
        verdict(read_response, cut(octets, at), b"GET", engine)


def h11_refuses(connection: h11.Connection, octets: bytes) -> bool:
    connection.receive_data(octets)
    try:
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.EndOfMessage):
                return False
    except h11.RemoteProtocolError:
        return True
    return False


def first_message(events: object) -> list[Event]:
    """The first message if it is whole."""
    if isinstance(events, list):
        for number, event in enumerate(events):
            if isinstance(event, EndOfMessage):
                return events[: number + 1]
    return []


@settings(max_examples=300, deadline=None)
@given(octets=mutated(REQUEST_SEEDS))
def test_what_h11_refuses_as_a_request_is_refused(octets: bytes) -> None:
    if h11_refuses(h11.Connection(h11.SERVER), octets.removeprefix(b"\r\n").removeprefix(b"\r\n")):
        assert not first_message(verdict(read_requests, [octets]))


@settings(max_examples=200, deadline=None)
@given(octets=mutated([seed for seed in RESPONSE_SEEDS if b" 101 " not in seed]))
def test_what_h11_refuses_as_a_response_is_refused(octets: bytes) -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    if h11_refuses(connection, octets):
        answer = verdict(read_response, [octets])
        assert isinstance(answer, int) or answer[0].status == 101  # type: ignore[index]


# ---------------------------------------------------------------------- requests


@each_engine
def test_one_message_at_a_time(engine: Tokeniser) -> None:
    reader = RequestReader(engine)
    one = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
    two = b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    events = reader.receive(one + two[:10])
    assert [type(event) for event in events] == [Request, Content, EndOfMessage]
    assert reader.state is Reading.DONE
    assert reader.receive(two[10:]) == []
    assert reader.held == len(two)
    events = reader.resume()
    assert isinstance(events[0], Request)
    assert events[0].target == b"/2"
    assert reader.held == 0
    assert reader.resume() == []
    assert not reader.started
    reader.receive_eof()


@each_engine
def test_nothing_is_read_after_a_broken_rule(engine: Tokeniser) -> None:
    reader = RequestReader(engine)
    with pytest.raises(RemoteProtocolError):
        reader.receive(CHUNKED_POST + b"x\r\n")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            reader.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(RemoteProtocolError):
            reader.resume()


def test_a_connection_may_end_between_messages_only() -> None:
    reader = RequestReader(ENGINES[0])
    reader.receive_eof()
    reader.receive(b"\r\n")
    assert (reader.started, reader.held) == (False, 0)
    reader.receive_eof()
    reader.receive(b"G")
    assert (reader.started, reader.held) == (True, 0)
    with pytest.raises(RemoteProtocolError):
        reader.receive_eof()
    reader.receive(b"ET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
    with pytest.raises(RemoteProtocolError):
        reader.receive_eof()
    assert reader.receive(b"a") == [Content(b"a"), END]
    reader.receive_eof()


def test_resume_inside_a_message_is_our_own_mistake() -> None:
    reader = RequestReader(ENGINES[0])
    with pytest.raises(LocalProtocolError):
        reader.resume()


def test_octets_after_an_upgrade_are_handed_over() -> None:
    reader = RequestReader(ENGINES[0])
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: tunnel\r\n\r\n"
    events = reader.receive(head + b"first")
    assert isinstance(events[0], Request)
    assert events[0].upgrade == b"tunnel"
    assert reader.take_held() == b"first"
    with pytest.raises(RemoteProtocolError):
        reader.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def test_tiny_chunks_that_arrive_together_are_one_content() -> None:
    events = RequestReader(ENGINES[0]).receive(CHUNKED_POST + b"1\r\na\r\n" * 10_000)
    assert events[1:] == [Content(b"a" * 10_000)]


def test_content_comes_before_its_chunk_is_whole() -> None:
    reader = RequestReader(ENGINES[0])
    assert reader.receive(CHUNKED_POST + b"ff\r\nabc")[1:] == [Content(b"abc")]
    assert reader.receive(b"def") == [Content(b"def")]


def test_no_continue_is_expected_without_content() -> None:
    request = read_requests([b"GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n"])[0]
    assert isinstance(request, Request)
    assert not request.expects_continue


# ---------------------------------------------------------------------- limits

LIMITS = HeadLimits(start_line_bytes=40, section_bytes=100, count=4)
EXACT = b"GET /%b HTTP/1.1\r\nHost: x\r\nA: %b\r\n\r\n"


@each_engine
@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (EXACT % (b"a" * 26, b"b" * 86), None),
        (EXACT % (b"a" * 27, b"b" * 86), 414),
        (EXACT % (b"a" * 26, b"b" * 87), 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 3 + b"\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 4 + b"\r\n", 431),
        (CHUNKED_POST + b"0\r\nA: " + b"b" * 95 + b"\r\n\r\n", None),
        (CHUNKED_POST + b"0\r\nA: " + b"b" * 96 + b"\r\n\r\n", 431),
        (CHUNKED_POST + b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", None),
        (CHUNKED_POST + b"0\r\n" + b"A: b\r\n" * 5 + b"\r\n", 431),
    ],
)
def test_limits_hold_to_the_octet(octets: bytes, status: int | None, size: int, engine: Tokeniser) -> None:
    reader = RequestReader(engine, LIMITS)
    pieces = [octets[at : at + size] for at in range(0, len(octets), size)]

    def read() -> None:
        events = [event for piece in pieces for event in reader.receive(piece)]
        assert isinstance(events[-1], EndOfMessage)

    if status is None:
        read()
    else:
        with pytest.raises(RemoteProtocolError) as refusal:
            read()
        assert refusal.value.status == status


@pytest.mark.parametrize(
    ("begin", "forever"),
    [
        (b"", b"a"),
        (b"GET /", b"a"),
        (b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
        (b"GET / HTTP/1.1\r\nA: ", b"b"),
        (CHUNKED_POST, b"0"),
        (CHUNKED_POST + b"1;", b"x"),
        (CHUNKED_POST, b"1;" + b"x" * 90 + b"\r\na\r\n"),
        (CHUNKED_POST + b"0\r\n", b"A: b\r\n"),
        (CHUNKED_POST + b"0\r\nA: ", b"b"),
    ],
)
def test_what_never_ends_is_refused_before_it_costs_memory(begin: bytes, forever: bytes) -> None:
    limits = HeadLimits()
    reader = RequestReader(ENGINES[0], limits)
    reader.receive(begin)
    pieces = range((limits.section_bytes + 1024) // len(forever))

    with pytest.raises(RemoteProtocolError):
        [reader.receive(forever) for _ in pieces]


# ---------------------------------------------------------------------- responses


@each_engine
def test_responses_follow_each_other_on_one_connection(engine: Tokeniser) -> None:
    reader = ResponseReader(engine)
    for content in (b"one", b"two"):
        reader.expect(b"GET")
        events = reader.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + content)
        assert events[1:] == [Content(content), END]
    assert reader.receive_eof() == []


def test_octets_after_the_end_are_counted_and_bar_reuse() -> None:
    reader = ResponseReader(ENGINES[0])
    reader.expect(b"HEAD")
    assert reader.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")[1:] == [END]
    assert reader.held == 3
    with pytest.raises(LocalProtocolError):
        reader.expect(b"GET")


def test_a_response_that_nobody_asked_for_is_not_read() -> None:
    reader = ResponseReader(ENGINES[0])
    assert reader.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n") == []
    assert reader.held


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ],
)
def test_a_truncated_response_is_never_whole(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="ended"):
        read_response([octets])


def test_the_end_of_the_stream_ends_content_without_length() -> None:
    events = read_response([b"HTTP/1.1 200 OK\r\n\r\n", b"ab", b"c"])
    assert events[1:] == [Content(b"abc"), END]
    assert isinstance(events[0], Response)
    assert events[0].length is None
    assert not events[0].keep_alive


# ---------------------------------------------------------------------- writers


def test_a_small_response_on_the_wire() -> None:
    writer = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True)
    head = writer.head(Response(200, [(b"X-Case", b"kept")], length=2))
    assert head == b"HTTP/1.1 200 OK\r\nX-Case: kept\r\nContent-Length: 2\r\n\r\n"
    assert writer.content(b"hi") == [b"hi"]
    assert writer.end() == b""
    assert writer.keep_alive


def test_unknown_length_is_chunked_for_1_1_and_closes_for_1_0() -> None:
    modern = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True)
    assert modern.head(Response(200, [])) == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert modern.content(b"hi") == [b"2\r\nhi\r\n"]
    assert modern.content(b"") == []
    large = b"x" * 100_000
    assert modern.content(large) == [b"186a0\r\n", large, b"\r\n"]
    assert modern.end([(b"A", b"b")]) == b"0\r\nA: b\r\n\r\n"
    assert modern.keep_alive
    assert not modern.close_delimited
    old = ResponseWriter(b"GET", b"HTTP/1.0", keep_alive=True)
    assert old.head(Response(200, [])) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    assert old.content(b"hi") == [b"hi"]
    assert old.end([(b"A", b"b")]) == b""
    assert not old.keep_alive
    assert old.close_delimited


def test_1_0_clients_keep_alive_when_asked_and_get_nothing_interim() -> None:
    writer = ResponseWriter(b"GET", b"HTTP/1.0", keep_alive=True)
    assert writer.interim(Response(103, [(b"Link", b"</a>")])) == b""
    head = writer.head(Response(200, [], length=0))
    assert head == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    assert writer.keep_alive


def test_interim_responses_have_no_framing() -> None:
    writer = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True)
    octets = writer.interim(Response(103, [(b"Link", b"</a>"), (b"Content-Length", b"0")]))
    assert octets == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status", "fields", "length", "expected"),
    [
        (b"HEAD", 200, [(b"content-length", b"9")], 0, b"Content-Length: 9\r\n"),
        (b"HEAD", 200, [], 9, b"Content-Length: 9\r\n"),
        (b"HEAD", 200, [], 0, b""),
        (b"HEAD", 200, [], None, b""),
        (b"GET", 304, [(b"Content-Length", b"9")], 0, b"Content-Length: 9\r\n"),
        (b"GET", 304, [], 0, b""),
        (b"GET", 204, [(b"Content-Length", b"0")], 0, b""),
        (b"GET", 204, [], None, b""),
    ],
)
def test_responses_without_content(
    method: bytes, status: int, fields: list[FieldLine], length: int | None, expected: bytes
) -> None:
    writer = ResponseWriter(method, b"HTTP/1.1", keep_alive=True)
    head = writer.head(Response(status, fields, length=length))
    assert head.partition(b"\r\n")[2] == expected + b"\r\n"
    assert writer.content(b"dropped") == []
    assert not writer.count(7)
    assert writer.end() == b""


def test_after_switching_protocols_octets_pass_as_they_are() -> None:
    writer = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True)
    head = writer.head(Response(101, [(b"Connection", b"upgrade"), (b"Upgrade", b"websocket")]))
    assert head == b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert writer.content(b"\x81\x00") == [b"\x81\x00"]
    assert not writer.keep_alive


def test_the_declared_length_is_kept() -> None:
    writer = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True)
    writer.head(Response(200, [(b"Content-Length", b"5")], length=5))
    assert writer.count(3)
    assert writer.remaining == 2
    with pytest.raises(LocalProtocolError):
        writer.content(b"abc")
    writer = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True)
    writer.head(Response(200, [], length=5))
    writer.content(b"abc")
    with pytest.raises(LocalProtocolError):
        writer.end()


def test_content_needs_a_head_and_chunks_need_the_writer() -> None:
    writer = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True)
    with pytest.raises(LocalProtocolError):
        writer.content(b"a")
    with pytest.raises(LocalProtocolError):
        writer.end()
    writer.head(Response(200, []))
    with pytest.raises(LocalProtocolError):
        writer.count(1)


@pytest.mark.parametrize(
    "response",
    [
        Response(200, [(b"A", b"b\r\nSet-Cookie: x")], length=0),
        Response(200, [(b"A\r\nB", b"")], length=0),
        Response(200, [(b"A", b"b\n")], length=0),
        Response(200, [(b"A", b"b\r")], length=0),
        Response(200, [(b"A", b"\0")], length=0),
        Response(200, [], b"OK\r\nA: b", length=0),
        Response(200, [(b"Transfer-Encoding", b"chunked")], length=0),
        Response(200, [(b"Connection", b"close")], length=0),
        Response(200, [(b"Content-Length", b"5")], length=4),
        Response(200, [(b"Content-Length", b"5")], length=None),
        Response(200, [(b"Content-Length", b"5"), (b"Content-Length", b"5")], length=5),
        Response(1000, [], length=0),
    ],
)
def test_a_response_that_would_break_the_stream_is_not_written(response: Response) -> None:
    with pytest.raises(LocalProtocolError):
        ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True).head(response)


def test_request_heads_on_the_wire() -> None:
    writer = RequestWriter()
    assert writer.head(b"GET", b"/", [HOST], 0) == b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
    assert writer.end() == b""
    head = writer.head(b"POST", b"/", [HOST], 0)
    assert head == b"POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 0\r\n\r\n"
    assert writer.end() == b""
    head = writer.head(b"POST", b"/", [HOST], None)
    assert head == b"POST / HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert writer.content(b"hi") == [b"2\r\nhi\r\n"]
    assert writer.end() == b"0\r\n\r\n"
    writer.head(b"PUT", b"/", [HOST], 3)
    assert writer.remaining == 3
    with pytest.raises(LocalProtocolError):
        writer.end()


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        (b"GET", b"/a b", [HOST]),
        (b"GET", b"/\r\nA: b", [HOST]),
        (b"GET", b"", [HOST]),
        (b"GE T", b"/", [HOST]),
        (b"GET", b"/\xe9", [HOST]),
        (b"GET", b"/", [(b"Host", b"x\r\nA: b")]),
        (b"GET", b"/", [(b"content-length", b"1")]),
        (b"GET", b"/", [(b"Transfer-Encoding", b"chunked")]),
    ],
)
def test_a_request_that_would_break_the_stream_is_not_written(
    method: bytes, target: bytes, fields: list[FieldLine]
) -> None:
    with pytest.raises(LocalProtocolError):
        RequestWriter().head(method, target, fields, 0)


@pytest.mark.parametrize("trailer", [(b"A", b"b\r\nC: d"), (b"A b", b""), (b"", b"b"), (b"A", b"\0")])
def test_a_trailer_that_would_break_the_stream_is_not_written(trailer: FieldLine) -> None:
    writer = RequestWriter()
    writer.head(b"POST", b"/", [HOST], None)
    with pytest.raises(LocalProtocolError):
        writer.end([trailer])


def test_a_section_that_comes_again_does_not_tell_the_host_of_an_absolute_form_target() -> None:
    """What is derived from a section is shared, so a message with another host than the section's has no share."""
    section, engine = b" HTTP/1.1\r\nHost: shared\r\n\r\n", tokeniser()
    _, plain, absolute = (
        RequestReader(engine).receive(b"GET " + target + section)[0] for target in (b"/1", b"/2", b"http://other/")
    )
    assert isinstance(plain, Request) and isinstance(absolute, Request)
    assert (plain.host, absolute.host) == (b"shared", b"other")
    assert plain.derived is not None
    assert absolute.derived is None


def test_what_is_remembered_of_heads_is_bounded() -> None:
    """Each kind: whole heads, heads without their targets, heads of responses; and none that is long."""
    engine = tokeniser()
    for number in [n for n in range(HEADS + 10) for _ in range(3)]:
        request = b" / HTTP/1.1\r\nHost: h%d\r\n\r\n" % number
        RequestReader(engine).receive(b"GET" + request)
        RequestReader(engine).receive(b"PUT" + request)
        answered(engine, b"HTTP/1.1 200 Try %d\r\nContent-Length: 0\r\n\r\n" % number)
    (heads,) = [one for one in http1._known.values() if one.tokeniser is engine]
    assert all(0 < len(kind.known) <= HEADS for kind in (heads.requests, heads.tails, heads.responses))
    for kind in (heads.requests, heads.tails, heads.responses):
        kind.clear()
    for _ in range(3):
        RequestReader(engine).receive(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * HEAD_BYTES + b"\r\n\r\n")
        answered(engine, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + b"x" * HEAD_BYTES + b"\r\n\r\n")
    assert not any(kind.known for kind in (heads.requests, heads.tails, heads.responses))


def answered(engine: Tokeniser, octets: bytes) -> list[Event]:
    reader = ResponseReader(engine)
    reader.expect(b"GET")
    return reader.receive(octets)


@pytest.mark.parametrize("name", ["httptools", "h11"])
@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from([b"GET", b"POST"]), st.sampled_from([b"/", b"/b", b"http://o/", b"*", b"%"]),
    st.sampled_from([b"0", b"1"]), st.lists(st.sampled_from([b"Host: h", b"Host: i", b"Connection: close", b"Expect: x",
    b"Content-Length: 0", b"Content-Length: 2", b"Transfer-Encoding: chunked", b"Upgrade: u"]), max_size=3)),
    min_size=2, max_size=12))  # fmt: skip
def test_what_is_remembered_changes_no_request(name: str, heads: list[tuple[bytes, bytes, bytes, list[bytes]]]) -> None:
    def outcome(engine: Tokeniser, octets: bytes) -> object:
        try:
            return RequestReader(engine).receive(octets)
        except RemoteProtocolError as error:
            return error.detail, error.status

    octets = [
        b"%b %b HTTP/1.%b\r\n%b\r\n" % (method, target, minor, b"".join(line + b"\r\n" for line in lines))
        for method, target, minor, lines in heads
    ]
    shared = tokeniser(name)
    expected = [outcome(tokeniser(name), one) for one in octets]
    for _ in range(3):
        assert [outcome(shared, one) for one in octets] == expected


def test_a_head_that_came_before_excuses_no_empty_lines() -> None:
    """Two empty lines may come before a request-line, however the stream is cut."""
    head = b"\r\n\r\nGET /remembered HTTP/1.1\r\nHost: h\r\n\r\n"
    assert len(RequestReader(ENGINES[0]).receive(head)) == 2
    reader = RequestReader(ENGINES[0])
    assert reader.receive(b"\r\n") == []
    with pytest.raises(RemoteProtocolError):
        reader.receive(head)
