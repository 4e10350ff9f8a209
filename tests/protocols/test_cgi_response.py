"""The response of a script: every way in which one may answer, and how it may be cut.

Promise: SEMANTICS 22 to 28 and 83 to 88 hold for the codec; what is remembered of heads changes nothing.
Must never know: processes, records. Next: `test_cgi.py`, for the meta-variables.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols import cgi
from protocols.cgi import ScriptEvent, ScriptResponseReader, encode_head
from protocols.message import END, Content, FieldLine, LocalProtocolError, LocalRedirect, RemoteProtocolError, Response


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No head is remembered from another test, nor what was derived from it."""
    cgi._heads.clear()
    yield
    cgi._heads.clear()




def joined(events: list[ScriptEvent]) -> list[ScriptEvent]:
    """Adjacent pieces of content count as one."""
    result: list[ScriptEvent] = []
    for event in events:
        if type(event) is Content and result and type(result[-1]) is Content:
            result[-1] = Content(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def read(*pieces: bytes, nph: bool = False, method: bytes = b"GET") -> list[ScriptEvent]:
    """All events of an output, its end included."""
    reader = ScriptResponseReader(nph=nph, request_method=method)
    events: list[ScriptEvent] = []
    for piece in pieces:
        events += reader.receive(piece)
    return joined(events + reader.receive_eof())


def response(*pieces: bytes, nph: bool = False, method: bytes = b"GET") -> Response:
    event = read(*pieces, nph=nph, method=method)[0]
    assert isinstance(event, Response)
    return event


def content(*pieces: bytes, method: bytes = b"GET") -> bytes:
    return b"".join(event.data for event in read(*pieces, method=method) if isinstance(event, Content))


def broken(*pieces: bytes, nph: bool = False, method: bytes = b"GET") -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        read(*pieces, nph=nph, method=method)
    return caught.value.detail


def cuts(octets: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(octets) + 1) for place in places} | {0, len(octets)})
    return [octets[a:b] for a, b in itertools.pairwise(marks)]


def test_a_response_may_be_whole_before_the_output_ends() -> None:
    reader = ScriptResponseReader()
    reader.receive(b"Content-Type: text/plain\nContent-Length: 5\n\nhell")
    assert not reader.whole
    reader.receive(b"o")
    assert reader.whole
    for output, whole in ((b"Status: 204\n\n", True), (b"Content-Type: text/plain\n\nhello", False), (b"Status: 2", False)):
        reader = ScriptResponseReader()
        reader.receive(output)
        assert reader.whole is whole


def test_a_document() -> None:
    assert read(b"Content-Type: text/plain\n\nhello") == [
        Response(200, [(b"Content-Type", b"text/plain")], derived={}), Content(b"hello"), END,
    ]  # fmt: skip


def test_a_document_without_content() -> None:
    assert read(b"Content-Type: text/plain\r\n\r\n")[1:] == [END]


# 22, 84: redirects


@pytest.mark.parametrize(
    "head", [b"Location: /x?y", b"location:/x?y\r", b"Location: \t/x?y \t", b"Connection: close\nLocation: /x?y"]
)
def test_22_a_local_redirect(head: bytes) -> None:
    assert read(head + b"\n\n") == [LocalRedirect(b"/x?y"), END]


def test_22_what_follows_a_local_redirect_is_dropped() -> None:
    assert read(b"Location: /x\n\ncontent") == [LocalRedirect(b"/x"), END]


@pytest.mark.parametrize(
    "target", [b"/has space", b"/%zz", b"/x#part", b"/../..", b"/%00", "/\u00e4".encode()]
)
def test_22_a_local_redirect_to_no_path_of_ours(target: bytes) -> None:
    assert f"Location is {repr(target)[1:]}" in broken(b"Location: " + target + b"\n\n")


@pytest.mark.parametrize(
    "head",
    [b"Location: http://h/x", b"Location: //h/x", b"Location: x", b"Location: /x\nContent-Type: t",
     b"Location: /x\nX: y", b"Location: /x\nContent-Length: 0"],
)  # fmt: skip
def test_22_84_a_client_redirect_is_302(head: bytes) -> None:
    assert response(head + b"\n\n").status == 302


def test_22_84_with_a_status_it_is_a_client_redirect() -> None:
    assert response(b"Status: 301 Moved\nLocation: /x\n\n").status == 301
    assert response(b"HTTP/1.1 307 Temporary\nLocation: /x\n\n").status == 307
    assert response(b"Location: /x\nStatus: 201\n\n").status == 201


def test_22_a_client_redirect_with_a_document() -> None:
    events = read(b"Location: http://h/x\nContent-Type: text/plain\n\nthere")
    assert events[0] == Response(302, [(b"Location", b"http://h/x"), (b"Content-Type", b"text/plain")], derived={})
    assert events[1] == Content(b"there")


# 23: status


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"Status: 404", 404, b""),
        (b"Status: 404 Not Found", 404, b"Not Found"),
        (b"status:404\tGone away", 404, b"Gone away"),
        (b"Status: 299 \xc3\xa4", 299, b"\xc3\xa4"),
        (b"HTTP/1.1 404 Not Found", 404, b"Not Found"),
        (b"HTTP/1.0 200", 200, b""),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 200 OK\nStatus: 500 No", 500, b"No"),
    ],
)
def test_23_status(line: bytes, status: int, reason: bytes) -> None:
    for end in (b"\n", b"\r\n"):
        found = response(line.replace(b"\n", end) + end + end)
        assert (found.status, found.reason) == (status, reason)


@pytest.mark.parametrize(
    "value", [b"", b"0", b"99", b"100", b"103 Early Hints", b"199", b"600", b"1000", b"OK", b"20", b"+20", b"200OK", b"2e2"]
)  # fmt: skip
def test_23_a_status_that_is_none(value: bytes) -> None:
    assert "tatus" in broken(b"Status: " + value + b"\n\n")


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1", b"HTTP/1.1 20", b"HTTP/1.1  200 OK", b"HTTP/x 200 OK", b"HTTP/1.1 200OK", b"HTTP/1.1 100 Continue"]
)
def test_23_a_status_line_that_is_none(line: bytes) -> None:
    assert "status" in broken(line + b"\nContent-Type: t\n\n")


# 24, 86: lines


def test_24_line_ends_may_be_mixed() -> None:
    fields = [(b"Content-Type", b"t"), (b"X", b"1"), (b"Y", b"")]
    for ends in itertools.product([b"\n", b"\r\n"], repeat=4):
        output = b"Content-Type: t%bX:1%bY:%b%bbody" % ends
        assert read(output) == [Response(200, fields, derived={}), Content(b"body"), END]


@pytest.mark.parametrize(
    "line",
    [b" folded", b"\tfolded", b"X : y", b"X y", b": y", b"X\xe4: y", b"X[: y", b"<html>", b"X: a\0b", b"X: a\rb", b"X: \x7f",
     b"X: a\x1bb", b"X: y\r\r", b"HTTP/1.1 200 OK"],
)  # fmt: skip
def test_24_86_a_line_that_is_no_field(line: bytes) -> None:
    assert "malformed header field" in broken(b"Content-Type: t\n" + line + b"\n\nbody")
    broken(b"Content-Type: t\r\n" + line + b"\r\n\r\nbody")


def test_24_an_offending_line_is_quoted_shortened_and_escaped() -> None:
    detail = broken(b"Content-Type: t\nprint('\x1b[31m" + b"x" * 1000 + b"\n\n")
    assert r"print('\x1b[31mxxx" in detail
    assert len(detail) < 200


def test_24_values_keep_what_is_inside() -> None:
    assert response(b"Status: 200\nX: a  b\t\xff:c \n\n").fields == [(b"X", b"a  b\t\xff:c")]


def test_24_an_output_without_a_header() -> None:
    assert "printed nothing" in broken()
    assert "begins with '<html>'" in broken(b"<html>\nhello")
    assert "begins with 'Content-Type: t'" in broken(b"Content-Type: t\n")
    assert "empty line" in broken(b"\nhello")
    assert "empty line" in broken(b"\r", b"\nContent-Type: t\n\n")


# 25: content and its length


def test_25_a_length_that_is_kept() -> None:
    events = read(b"Content-Type: t\nContent-Length: 5\n\nhello")
    assert events == [Response(200, [(b"Content-Type", b"t")], length=5, derived={}), Content(b"hello"), END]


def test_25_less_than_was_said() -> None:
    assert "ended 3 octets before" in broken(b"Content-Type: t\nContent-Length: 5\n\n", b"he")


@pytest.mark.parametrize("pieces", [(b"hello!",), (b"hello", b"!"), (b"he", b"llo!!", b"!")])
def test_25_more_than_was_said_is_cut(pieces: tuple[bytes, ...]) -> None:
    reader = ScriptResponseReader()
    events = reader.receive(b"Status: 200\nContent-Length: 5\n\n")
    for piece in pieces:
        events += reader.receive(piece)
    assert joined(events + reader.receive_eof())[1:] == [Content(b"hello"), END]
    assert reader.overrun


def test_25_no_more_than_was_said() -> None:
    reader = ScriptResponseReader()
    reader.receive(b"Status: 200\nContent-Length: 5\n\nhello")
    assert not reader.overrun


@pytest.mark.parametrize("value", [b"", b"-1", b"+5", b"5 5", b"5, 5", b"0x5", b"1" * 20, b"\xb2"])
def test_25_a_length_that_is_none(value: bytes) -> None:
    assert "Content-Length" in broken(b"Status: 200\nContent-Length: " + value + b"\n\nhello")


# 26: fields


def test_26_hop_by_hop_fields_end_here() -> None:
    output = (
        b"Status: 200\nConnection: x\nKeep-Alive: 5\nX: 1\nUpgrade: y\nTrailer: z\nTE: trailers\n"
        b"Proxy-Authenticate: a\nproxy-connection: b\n\n"
    )
    assert response(output).fields == [(b"X", b"1")]


def test_26_several_set_cookie_keep_their_order() -> None:
    cookies = [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"set-cookie", b"a=3")]
    assert response(b"Status: 200\nSet-Cookie: a=1\nSet-Cookie: b=2\nset-cookie: a=3\n\n").fields == cookies


def test_88_validators_and_ranges_pass_untouched() -> None:
    found = response(b'Status: 206 Partial Content\nETag: W/"x"\nContent-Range: bytes 0-4/9\nContent-Length: 5\n\nhello')
    assert (found.status, found.length) == (206, 5)
    assert found.fields == [(b"ETag", b'W/"x"'), (b"Content-Range", b"bytes 0-4/9")]


# 27: no content


def test_27_head_keeps_the_fields_and_drops_the_content() -> None:
    events = read(b"Content-Type: t\nContent-Length: 5\n\nhello", method=b"HEAD")
    assert events == [Response(200, [(b"Content-Type", b"t"), (b"Content-Length", b"5")], length=0), END]
    assert read(b"Content-Type: t\n\n", method=b"HEAD")[1:] == [END]


def test_27_head_may_be_answered_without_the_content_it_tells_of() -> None:
    assert read(b"Content-Type: t\nContent-Length: 5\n\n", method=b"HEAD")[1:] == [END]
    assert read(b"Content-Type: t\nTransfer-Encoding: chunked\n\n", method=b"HEAD")[1:] == [END]


@pytest.mark.parametrize("status", [b"204", b"205", b"304"])
def test_27_204_205_and_304_have_no_content(status: bytes) -> None:
    reader = ScriptResponseReader()
    events = reader.receive(b"Status: " + status + b"\n\nhello") + reader.receive_eof()
    assert events == [Response(int(status), [], length=0), END]
    assert reader.overrun


def test_27_88_304_tells_the_length_of_what_it_stands_for() -> None:
    found = response(b'Status: 304\nContent-Length: 5\nETag: "x"\n\n')
    assert found.fields == [(b"ETag", b'"x"'), (b"Content-Length", b"5")]
    for status in (b"204", b"205"):
        for method in (b"GET", b"HEAD"):
            assert response(b"Status: " + status + b"\nContent-Length: 5\n\n", method=method).fields == []


# 28: NPH


def test_28_nph_has_a_status_line() -> None:
    events = read(b"HTTP/1.0 200 Fine\r\nServer: mine\r\nConnection: close\r\n\r\nhello", nph=True)
    assert events == [Response(200, [(b"Server", b"mine")], b"Fine", derived={}), Content(b"hello"), END]
    assert not events[0].keep_alive  # type: ignore[union-attr]


def test_28_nph_needs_neither_content_type_nor_anything_else() -> None:
    assert response(b"HTTP/1.1 404 Gone\n\n", nph=True).status == 404


@pytest.mark.parametrize(
    "output", [b"Content-Type: t\n\n", b"Status: 200\n\n", b"HTTP/1.1 100 Continue\n\n", b"HTTP/2 200\nX Y\n\n"]
)
def test_28_nph_without_one(output: bytes) -> None:
    broken(output, nph=True)


def test_28_nph_keeps_its_framing() -> None:
    assert "before its Content-Length" in broken(b"HTTP/1.1 200 OK\nContent-Length: 9\n\nhello", nph=True)
    chunked = b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\r\nx\r\n0\r\n\r\n"
    assert read(chunked, nph=True)[1:] == [Content(b"x"), END]


# 83, 85, 86


def test_83_one_of_three_is_needed() -> None:
    assert "none of" in broken(b"X-Powered-By: y\n\nhello")
    assert response(b"Content-Type:\n\n").status == 200


@pytest.mark.parametrize("name", [b"Content-Type", b"Status", b"Location", b"Content-Length", b"Transfer-Encoding"])
def test_83_each_at_most_once(name: bytes) -> None:
    value = {b"Status": b"200", b"Content-Length": b"5", b"Transfer-Encoding": b"chunked"}.get(name, b"/x")
    assert "twice" in broken(b"%b: %b\nX: y\n%b: %b\n\n" % (name, value, name.lower(), value))


def test_85_chunked_content_is_decoded() -> None:
    assert content(b"Status: 200\nTransfer-Encoding: chunked\n\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: z\r\n\r\n") == b"hello"
    # RFC 9112 6.3: the length that stands beside it means nothing
    assert content(b"Content-Type: t\nTransfer-Encoding: Chunked\nContent-Length: 2\n\n5\r\nhello\r\n0\r\n\r\n") == b"hello"


def test_85_octets_after_the_last_chunk_are_cut() -> None:
    reader = ScriptResponseReader()
    head = b"Status: 200\nTransfer-Encoding: chunked\n\n"
    events = reader.receive(head + b"1\r\nx\r\n0\r\n\r\nmore") + reader.receive(b"and more") + reader.receive_eof()
    assert events[1:] == [Content(b"x"), END]
    assert reader.overrun


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b""])
def test_85_other_codings_are_refused(coding: bytes) -> None:
    assert "Transfer-Encoding" in broken(b"Status: 200\nTransfer-Encoding: " + coding + b"\n\n")


@pytest.mark.parametrize("rest", [b"", b"5\r\nhel", b"5\r\nhello\r\n", b"zz\r\n", b"5\r\nhello0\r\n\r\n"])
def test_85_bad_chunks_are_refused(rest: bytes) -> None:
    broken(b"Status: 200\nTransfer-Encoding: chunked\n\n" + rest)


def test_86_the_header_is_bounded() -> None:
    line = b"Content-Type: "
    for end in (b"\n\n", b"\r\n\r\n", b"\r\n\n", b"\n\r\n"):
        # all before the last line feed but one counts
        exact = line + b"x" * (cgi.HEAD_LIMIT_BYTES - len(line) - end.startswith(b"\r"))
        assert response(exact + end).status == 200
        for cut in range(1, len(end)):
            assert response(exact + end[:cut], end[cut:]).status == 200
        assert "no end of the header" in broken(exact + b"x" + end)
        assert "no end of the header" in broken(exact, b"x", end)


def test_86_the_lines_are_counted() -> None:
    lines = b"X: y\n" * (cgi.COUNT_LIMIT - 1)
    assert len(response(b"Status: 200\n" + lines + b"\n").fields) == cgi.COUNT_LIMIT - 1
    assert "more than" in broken(b"Status: 200\nX: y\n" + lines + b"\n")


def test_86_memory_is_bounded_while_no_header_ends() -> None:
    line = b"X: " + b"y" * 4092 + b"\n"
    reader = ScriptResponseReader()
    for _ in range(cgi.HEAD_LIMIT_BYTES // len(line)):
        assert reader.receive(line) == []
    with pytest.raises(RemoteProtocolError):
        reader.receive(line)


# 87: every cut

OUTPUTS = [
    b"Content-Type: text/plain\n\nhello",
    b"Content-Type: text/plain\r\nSet-Cookie: a=b\r\n\r\n\r\nhello\n\n",
    b"Status: 404 Not Found\r\nX: y\n\r\nhello",
    b"Status: 404 Not Found\nX: y\r\n\nhello",
    b"HTTP/1.1 201 Made\nContent-Length: 5\n\nhello",
    b"Status: 200\nContent-Length: 3\n\nhello",
    b"Location: /local\r\n\r\nx",
    b"Status: 200\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n0\r\n\r\n",
    b"Content-Type: t\n\n",
]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_87_cut_at_every_octet(output: bytes, method: bytes) -> None:
    whole = read(output, method=method)
    assert read(*[output[i : i + 1] for i in range(len(output))], method=method) == whole
    for cut in range(len(output) + 1):
        assert read(*filter(None, (output[:cut], output[cut:])), method=method) == whole


lines = st.one_of(
    st.sampled_from(
        [b"Content-Type: t", b"Status: 200", b"Status: 204", b"Location: /x", b"Location: http://h/", b"X: y",
         b"X : y", b"HTTP/1.1 200 OK", b"Content-Length: 3",
         b"Transfer-Encoding: chunked", b"Connection: close", b" folded", b"", b"\r", b"nonsense"]
    ),
    st.binary(max_size=12),
)  # fmt: skip
outputs = st.builds(
    lambda head, end, rest: end.join(head) + end + end + rest,
    st.lists(lines, max_size=4),
    st.sampled_from([b"\n", b"\r\n"]),
    st.one_of(st.binary(max_size=12), st.sampled_from([b"abc", b"3\r\nabc\r\n0\r\n\r\n"])),
)


def outcome(pieces: list[bytes], nph: bool, method: bytes) -> object:
    """The response, its content as far as it went, and how it ended."""
    reader = ScriptResponseReader(nph=nph, request_method=method)
    events: list[ScriptEvent] = []
    try:
        for piece in pieces:
            events += reader.receive(piece)
        events += reader.receive_eof()
    except RemoteProtocolError as error:
        assert not reader.whole
        head = [event for event in events if not isinstance(event, Content)]
        return head, (error.detail if not head else "")
    return joined(events), reader.overrun


@settings(max_examples=300)
@given(outputs, st.lists(st.integers(0, 60), max_size=6), st.booleans(), st.sampled_from([b"GET", b"HEAD"]))
@example(b"\n\n", [1], False, b"GET")
def test_87_arbitrary_output_is_events_or_refused_however_it_is_cut(
    output: bytes, places: list[int], nph: bool, method: bytes
) -> None:
    if not output:
        return
    whole, cut = outcome([output], nph, method), outcome(cuts(output, places), nph, method)
    if isinstance(whole[1], str) or isinstance(cut[1], str):  # type: ignore[index]
        # what was broken is broken however it is cut; how much was told before it may differ
        assert isinstance(whole[1], str) and isinstance(cut[1], str)  # type: ignore[index]
        return
    assert cut == whole


# ---------------------------------------------------------------------- heads that come again


def test_a_remembered_head_reads_the_same() -> None:
    for output in OUTPUTS:
        assert read(output) == read(output) == read(output)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_head_is_remembered_with_either_line_end(end: bytes) -> None:
    output = b"Content-Type: t" + end + b"Content-Length: 5" + end + end + b"hello"
    read(output)  # who comes once is not remembered
    assert read(output)[0] is read(output)[0]


def test_a_remembered_head_does_not_know_the_method() -> None:
    output = b"Content-Type: t\nContent-Length: 5\n\nhello"
    get = read(output)
    head = read(output, method=b"HEAD")
    assert (read(output), read(output, method=b"HEAD")) == (get, head)
    cgi._heads.clear()
    assert (read(output, method=b"HEAD"), read(output)) == (head, get)


def test_a_remembered_head_does_not_make_an_nph_script_of_another() -> None:
    assert response(b"Status: 200\n\n").status == 200
    broken(b"Status: 200\n\n", nph=True)
    assert read(b"HTTP/1.1 200 OK\n\nx", nph=True)[1:] == read(b"HTTP/1.1 200 OK\n\nx")[1:]


def test_a_remembered_head_carries_no_state_of_an_earlier_response() -> None:
    for _ in range(2):
        assert content(b"Status: 200\nContent-Length: 5\n\nhello") == b"hello"
        assert "octets before" in broken(b"Status: 200\nContent-Length: 5\n\nhell")
        assert read(b"Location: /x\n\nignored") == [LocalRedirect(b"/x"), END]
        assert content(b"Status: 204\n\nignored") == b""
        assert content(b"Status: 200\nTransfer-Encoding: chunked\n\n1\r\nx\r\n0\r\n\r\n") == b"x"
        with pytest.raises(RemoteProtocolError):
            read(b"Status: 200\nTransfer-Encoding: chunked\n\n1\r\n")


def test_the_memory_of_heads_is_bounded() -> None:
    for number in range(cgi.HEADS + 10):
        for _ in range(2):
            read(b"Status: 200\nX: %d\n\n" % number)
        assert len(cgi._heads.known) <= cgi.HEADS
    cgi._heads.clear()
    for _ in range(2):
        read(b"Status: 200\nX: " + b"y" * cgi.HEAD_BYTES + b"\n\n")
    assert not cgi._heads.known


@settings(max_examples=100)
@given(st.lists(st.tuples(outputs, st.booleans(), st.sampled_from([b"GET", b"HEAD"])), max_size=6))
def test_what_is_remembered_changes_no_answer(conversations: list[tuple[bytes, bool, bytes]]) -> None:
    cgi._heads.clear()
    together = [outcome([output] if output else [], nph, method) for output, nph, method in conversations]
    alone = []
    for output, nph, method in conversations:
        cgi._heads.clear()
        alone.append(outcome([output] if output else [], nph, method))
    assert together == alone


# ---------------------------------------------------------------------- what an application prints


def test_an_encoded_head_begins_with_its_status() -> None:
    assert encode_head(404, b"", [(b"X", b"y")]) == b"Status: 404 Not Found\r\nX: y\r\n\r\n"
    assert encode_head(299, b"", []) == b"Status: 299 \r\n\r\n"
    assert encode_head(200, b"Fine", []) == b"Status: 200 Fine\r\n\r\n"


@pytest.mark.parametrize(
    "line", [(b"X", b"a\nb"), (b"X", b"a\rb"), (b"X", b"a\0b"), (b"X\n", b""), (b"X", b"\r\nStatus: 200")]
)
def test_86_a_line_that_would_break_the_head_is_our_defect(line: FieldLine) -> None:
    with pytest.raises(LocalProtocolError):
        encode_head(200, b"", [line])
    with pytest.raises(LocalProtocolError):
        encode_head(200, line[0] + line[1], [])


field_values = st.text(string.ascii_letters + ' \t;="\u00e4', max_size=10).map(lambda value: value.strip(" \t").encode())


@given(
    st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    st.sampled_from([b"", b"Fine", b"\xc3\xa4"]),
    st.lists(st.tuples(st.sampled_from([b"X", b"Set-Cookie", b"etag"]), field_values), max_size=4),
)
def test_an_encoded_head_reads_as_what_it_was_made_from(status: int, reason: bytes, fields: list[FieldLine]) -> None:
    found = response(encode_head(status, reason, fields))
    assert (found.status, found.fields) == (status, fields)
    if reason:
        assert found.reason == reason
