"""CGI/1.1 from the application's side: meta-variables that become a request, a response that becomes a script's.

Promise: what a server of ours tells is understood, and so are the habits of others; what is written here,
the reader of the other side reads as it was meant.
Must never know: processes, records. Next: `test_cgi.py` and `test_cgi_response.py`, the server's side.
"""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.cgi import ScriptResponseReader, meta_variables
from protocols.cgi_application import (
    ScriptResponseWriter,
    content_length,
    peer_of,
    request_of,
    variables_of,
    variables_of_environment,
)
from protocols.message import Content, FieldLine, LocalProtocolError, Peer, RemoteProtocolError, Request, Response
from protocols.target import Place, parse

GET = {b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"/a?b", b"SERVER_PROTOCOL": b"HTTP/1.1"}

# ---------------------------------------------------------------------- the request


def test_a_request_as_a_server_tells_it() -> None:
    variables = {
        b"GATEWAY_INTERFACE": b"CGI/1.1", b"REQUEST_METHOD": b"POST", b"REQUEST_URI": b"/app/x%20y?q=%20",
        b"SCRIPT_NAME": b"/app", b"PATH_INFO": b"/x y", b"QUERY_STRING": b"q=%20", b"SERVER_PROTOCOL": b"HTTP/2.0",
        b"CONTENT_TYPE": b"text/plain", b"CONTENT_LENGTH": b"5", b"HTTP_HOST": b"example.org:81",
        b"HTTP_X_FORWARDED_FOR": b"192.0.2.1", b"HTTP_COOKIE": b"a=b",
    }  # fmt: skip
    assert request_of(variables, 5) == Request(
        b"POST", b"/app/x%20y?q=%20",
        [
            (b"Host", b"example.org:81"), (b"X-Forwarded-For", b"192.0.2.1"), (b"Cookie", b"a=b"),
            (b"Content-Type", b"text/plain"), (b"Content-Length", b"5"),
        ],
        b"HTTP/2.0", b"example.org:81", 5,
    )  # fmt: skip


@pytest.mark.parametrize("method", [None, b"", b"GE T", b"G\r\n", b"G\0"])
def test_without_a_method_there_is_no_request(method: bytes | None) -> None:
    variables = {} if method is None else {b"REQUEST_METHOD": method}
    with pytest.raises(RemoteProtocolError, match="REQUEST_METHOD"):
        request_of(variables, 0)


def test_what_a_server_leaves_out_is_made_up_for() -> None:
    assert request_of({b"REQUEST_METHOD": b"GET"}, 0) == Request(b"GET", b"/", [], b"HTTP/1.0", b"", 0)


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({b"REQUEST_URI": b"/a%2Fb?c", b"SCRIPT_NAME": b"/x"}, b"/a%2Fb?c"),
        ({b"SCRIPT_NAME": b"/x", b"PATH_INFO": b"/y z?", b"QUERY_STRING": b"a=%20"}, b"/x/y%20z%3F?a=%20"),
        ({b"SCRIPT_NAME": b"/x", b"QUERY_STRING": b""}, b"/x"),
        ({b"REQUEST_URI": b"/\xc3\xa4 \r\n?\xff"}, b"/%C3%A4%20%0D%0A?%FF"),
        ({b"REQUEST_URI": b"*"}, b"*"),
    ],
)
def test_the_target_is_the_one_of_the_client_or_rebuilt_and_always_visible_ascii(
    variables: dict[bytes, bytes], target: bytes
) -> None:
    assert request_of({b"REQUEST_METHOD": b"GET", **variables}, 0).target == target


@pytest.mark.parametrize(
    "name",
    [b"HTTP_PROXY", b"HTTP_CONNECTION", b"HTTP_KEEP_ALIVE", b"HTTP_TRANSFER_ENCODING", b"HTTP_UPGRADE", b"HTTP_TE",
     b"HTTP_PROXY_AUTHORIZATION", b"HTTP_CONTENT_LENGTH", b"HTTP_CONTENT_TYPE", b"HTTP_", b"HTTP_a", b"HTTPS",
     b"REMOTE_USER", b"HTTP_A B"],
)  # fmt: skip
def test_what_is_no_field_of_the_request(name: bytes) -> None:
    assert list(request_of({**GET, name: b"x"}, 0).fields) == []


@pytest.mark.parametrize("variables", [{}, {b"CONTENT_LENGTH": b""}])
def test_no_length_is_told(variables: dict[bytes, bytes]) -> None:
    assert content_length(variables) is None
    assert list(request_of({**GET, **variables}, 0).fields) == []
    assert request_of({**GET, **variables}, None).length is None


def test_an_empty_content_type_is_none() -> None:
    """A parameter of nginx is sent whether it has a value or not."""
    assert list(request_of({**GET, b"CONTENT_TYPE": b"", b"CONTENT_LENGTH": b""}, 0).fields) == []


@pytest.mark.parametrize("value", [b"-1", b"+1", b" 1", b"1 ", b"0x1", b"1,1", b"x", "²".encode(), b"9" * 20])
def test_a_length_that_is_none(value: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="CONTENT_LENGTH"):
        content_length({b"CONTENT_LENGTH": value})


def test_a_length_is_a_number() -> None:
    assert content_length({b"CONTENT_LENGTH": b"0"}) == 0
    assert content_length({b"CONTENT_LENGTH": b"0015"}) == 15


@pytest.mark.parametrize(
    ("told", "https"),
    [
        ({}, False), ({b"HTTPS": b"on"}, True), ({b"HTTPS": b"On"}, True), ({b"HTTPS": b"1"}, True),
        ({b"HTTPS": b"off"}, False), ({b"HTTPS": b""}, False), ({b"HTTPS": b"0", b"REQUEST_SCHEME": b"https"}, False),
        ({b"REQUEST_SCHEME": b"https"}, True), ({b"HTTPS": b"", b"REQUEST_SCHEME": b"https"}, True),
    ],
)  # fmt: skip
def test_whether_the_client_used_tls(told: dict[bytes, bytes], https: bool) -> None:
    assert peer_of(told).https is https


def test_both_sides_of_the_clients_connection() -> None:
    told = {b"REMOTE_ADDR": b"::1", b"REMOTE_PORT": b"4711", b"SERVER_ADDR": b"::2", b"SERVER_PORT": b"8080"}
    assert peer_of(told) == Peer(b"::1", b"4711", b"::2", b"8080", https=False)
    assert peer_of({}) == Peer(b"", b"", b"", b"80", https=False)
    assert peer_of({b"HTTPS": b"on"}) == Peer(b"", b"", b"", b"443", https=True)


def test_a_field_that_comes_twice_is_joined_and_anything_else_replaced() -> None:
    pairs = [(b"HTTP_A", b"1"), (b"B", b"1"), (b"HTTP_COOKIE", b"x=1"), (b"HTTP_A", b"2"), (b"B", b"2"),
             (b"HTTP_COOKIE", b"y=2")]  # fmt: skip
    assert variables_of(pairs) == {b"HTTP_A": b"1, 2", b"B": b"2", b"HTTP_COOKIE": b"x=1; y=2"}


def test_the_environment_without_what_belongs_to_the_process() -> None:
    environment = {
        b"PATH": b"/bin", b"HOME": b"/", b"LC_ALL": b"C", b"LD_PRELOAD": b"x.so", b"PYTHONPATH": b"/x", b"_": b"/x",
        b"HTTP_PROXY": b"http://proxy/", b"LANG": b"C",
        b"REQUEST_METHOD": b"GET", b"PATH_INFO": b"/", b"PATH_TRANSLATED": b"/srv/", b"HTTP_PROXY_X": b"1",
        b"SITE": b"example", b"_X": b"1", b"HTTPS": b"on", b"REDIRECT_STATUS": b"200",
    }  # fmt: skip
    assert list(variables_of_environment(environment)) == [
        b"REQUEST_METHOD", b"PATH_INFO", b"PATH_TRANSLATED", b"HTTP_PROXY_X", b"SITE", b"_X", b"HTTPS", b"REDIRECT_STATUS",
    ]  # fmt: skip


# ---------------------------------------------------------------------- the response


def head(
    *fields: FieldLine, status: int = 200, length: int | None = None, method: bytes = b"GET", reason: bytes = b""
) -> bytes:
    return ScriptResponseWriter(method).head(Response(status, fields, reason, length))


def test_a_head_begins_with_its_status() -> None:
    assert head((b"Content-Type", b"text/plain")) == b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    assert head(status=404, reason=b"Gone fishing") == b"Status: 404 Gone fishing\r\n\r\n"
    assert head(status=599) == b"Status: 599 \r\n\r\n"


def test_a_known_length_is_told() -> None:
    assert head(length=5) == b"Status: 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert head(length=0) == b"Status: 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert head((b"content-length", b"5"), length=5) == b"Status: 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"method": b"HEAD", "length": 0}, b""),
        ({"method": b"HEAD", "length": 7}, b"Content-Length: 7\r\n"),
        ({"status": 304, "length": 0}, b""),
        ({"status": 304, "length": 7}, b""),
        ({"status": 204, "length": 0}, b""),
    ],
)
def test_where_there_is_no_content(options: dict, line: bytes) -> None:
    assert head(**options).partition(b"\r\n")[2] == line + b"\r\n"


def test_the_length_of_what_a_head_or_304_stands_for() -> None:
    line = (b"Content-Length", b"7")
    assert b"Content-Length: 7\r\n" in head(line, method=b"HEAD", length=0)
    assert b"Content-Length: 7\r\n" in head(line, status=304, length=0)
    assert b"Content-Length" not in head(line, status=204, length=0)


def test_hop_by_hop_fields_and_a_field_called_status_end_here() -> None:
    written = head(
        (b"Transfer-Encoding", b"chunked"), (b"Connection", b"close, X-Named"), (b"X-Named", b"1"), (b"Keep-Alive", b"1"),
        (b"Upgrade", b"x"), (b"STATUS", b"500"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"),
    )  # fmt: skip
    assert written == b"Status: 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ([(b"X", b"a\r\nb")], {}),
        ([(b"X", b"a\nb")], {}),
        ([(b"X", b"a\0")], {}),
        ([(b"X\r\nY", b"a")], {}),
        ([], {"reason": b"OK\r\nX: y"}),
        ([], {"status": 101}),
        ([], {"status": 1000}),
        ([(b"Content-Length", b"5")], {"length": 6}),
        ([(b"Content-Length", b"x")], {"length": 6}),
        ([(b"Content-Length", b"5")], {}),
        ([(b"Content-Length", b"5"), (b"Content-Length", b"5")], {"length": 5}),
    ],
)
def test_a_head_that_would_break_is_our_defect(fields: list[FieldLine], options: dict) -> None:
    with pytest.raises(LocalProtocolError):
        head(*fields, **options)


def test_content_is_counted() -> None:
    writer = ScriptResponseWriter(b"GET")
    writer.head(Response(200, (), length=5))
    assert writer.count(3)
    with pytest.raises(LocalProtocolError, match="2 octets of content less"):
        writer.end()
    assert writer.count(2)
    writer.end()
    with pytest.raises(LocalProtocolError, match="1 octets of content more"):
        writer.count(1)


def test_content_of_unknown_length_is_not() -> None:
    writer = ScriptResponseWriter(b"GET")
    writer.head(Response(200, ()))
    assert writer.count(1 << 40)
    writer.end()


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_content_that_may_not_be_is_not_written(method: bytes, status: int) -> None:
    writer = ScriptResponseWriter(method)
    writer.head(Response(status, (), length=5))
    assert not writer.count(5)
    writer.end()


# ---------------------------------------------------------------------- both sides

names = st.sampled_from([b"X-A", b"Accept", b"Cookie", b"User-Agent", b"Set-Cookie", b"Etag"])
values = st.text(string.ascii_letters + ' ;="\u00e4', max_size=10).map(lambda text: text.strip().encode())
fields = st.lists(st.tuples(names, values), max_size=6)


@given(
    st.sampled_from([b"GET", b"HEAD"]),
    st.integers(200, 599).filter(lambda status: status not in (204, 205, 304)),
    st.sampled_from([b"", b"Fine", b"\xc3\xa4"]),
    fields,
    st.binary(max_size=30),
    st.booleans(),
    st.integers(0, 30),
)
def test_the_reader_of_a_server_reads_what_was_meant(
    method: bytes, status: int, reason: bytes, given: list[FieldLine], content: bytes, known: bool, cut: int
) -> None:
    writer = ScriptResponseWriter(method)
    length = len(content) if known else None
    octets = writer.head(Response(status, given, reason, length))
    if writer.count(len(content)):
        octets += content
    writer.end()
    reader = ScriptResponseReader(request_method=method)
    events = [*reader.receive(octets[:cut]), *(reader.receive(octets[cut:]) if octets[cut:] else []), *reader.receive_eof()]
    response = events[0]
    assert isinstance(response, Response)
    length_line = [(b"Content-Length", b"%d" % len(content))] if method == b"HEAD" and known and content else []
    assert (response.status, response.fields) == (status, [*given, *length_line])
    assert not reason or response.reason == reason
    found = b"".join(event.data for event in events if isinstance(event, Content))
    if method == b"HEAD":
        assert (response.length, found) == (0, b"")
    else:
        assert (response.length, found) == (length, content)
    assert not reader.overrun


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"get", b"PROPFIND"]),
    st.sampled_from([b"/", b"/a/b%20c?d=%20", b"/x?"]),
    fields,
    st.sampled_from([None, 0, 1, 12345]),
    st.booleans(),
)
def test_a_request_survives_the_way_through_meta_variables(
    method: bytes, target: bytes, given: list[FieldLine], length: int | None, https: bool
) -> None:
    peer = Peer(b"192.0.2.1", b"50000", b"192.0.2.2", b"443", https)
    sent = Request(method, target, [(b"Host", b"example.org"), *given], b"HTTP/1.1", b"example.org", length)
    variables = meta_variables(
        sent, parse(method, target), Place(b"", b"/a"), peer, software=b"x", content_length=length
    )  # fmt: skip
    told = content_length(variables)
    assert told == (length or None)
    got = request_of(variables, told or 0)
    assert (got.method, got.target, got.version, got.host) == (method, target, b"HTTP/1.1", b"example.org")
    assert got.length == (length or 0)
    expected = dict(variables_of([(b"HTTP_" + name.upper().replace(b"-", b"_"), value) for name, value in sent.fields]))
    assert {
        b"HTTP_" + name.upper().replace(b"-", b"_"): value for name, value in got.fields if name != b"Content-Length"
    } == expected
    assert peer_of(variables) == peer
