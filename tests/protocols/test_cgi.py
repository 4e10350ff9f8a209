"""CGI/1.1: the meta-variables of a request.

Promise: SEMANTICS 1 to 16, 71 and 72 hold for the codec.
Must never know: processes, records. Next: `test_cgi_response.py`, for what a script answers.
"""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.cgi import (
    Peer,
    connection_variables,
    field_variables,
    meta_variables,
    place_variables,
    route_variables,
    target_variables,
)
from protocols.message import FieldLine, Request
from protocols.target import Place, encode_path, parse

PEER = Peer(b"192.0.2.7", b"4711", b"203.0.113.1", b"8080", https=False)
SOFTWARE = b"gateway-suite/1"


def variables(
    *fields: FieldLine,
    target: bytes = b"/s/info?q",
    place: Place = Place(b"/s", b"/info"),  # noqa: B008 (frozen)
    method: bytes = b"GET",
    version: bytes = b"HTTP/1.1",
    host: bytes = b"",
    peer: Peer = PEER,
    **options: object,
) -> dict[bytes, bytes]:
    request = Request(method, target, fields, version, host)
    return meta_variables(
        request, parse(method, target), place, peer, software=SOFTWARE, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def field_names(*fields: FieldLine, authorization: bool = False) -> dict[bytes, bytes]:
    """What only the fields of a request give."""
    found = field_variables(Request(b"GET", b"/", fields), PEER, authorization=authorization)
    del found[b"SERVER_NAME"]
    return found


# ---------------------------------------------------------------------- meta-variables (SEMANTICS A)


def test_a_whole_request() -> None:
    place = Place(b"/cgi-bin/a.cgi", b"/x y", b"/srv/cgi-bin/a.cgi", b"/srv")
    found = variables(
        (b"Host", b"example.org:8080"), (b"Accept", b"*/*"), (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"5"),
        method=b"POST", target=b"/cgi-bin/a.cgi/x%20y?a=%20b", host=b"example.org:8080", place=place,
        content_length=5,
    )  # fmt: skip
    assert found == {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_SOFTWARE": SOFTWARE,
        b"SERVER_NAME": b"example.org",
        b"SERVER_PORT": b"8080",
        b"SERVER_ADDR": b"203.0.113.1",
        b"SERVER_PROTOCOL": b"HTTP/1.1",
        b"REMOTE_ADDR": b"192.0.2.7",
        b"REMOTE_PORT": b"4711",
        b"REQUEST_SCHEME": b"http",
        b"REQUEST_METHOD": b"POST",
        b"REQUEST_URI": b"/cgi-bin/a.cgi/x%20y?a=%20b",
        b"SCRIPT_NAME": b"/cgi-bin/a.cgi",
        b"PATH_INFO": b"/x y",
        b"PATH_TRANSLATED": b"/srv/x y",
        b"SCRIPT_FILENAME": b"/srv/cgi-bin/a.cgi",
        b"DOCUMENT_ROOT": b"/srv",
        b"QUERY_STRING": b"a=%20b",
        b"CONTENT_TYPE": b"text/plain",
        b"CONTENT_LENGTH": b"5",
        b"HTTP_HOST": b"example.org:8080",
        b"HTTP_ACCEPT": b"*/*",
        b"REDIRECT_STATUS": b"200",
    }


def test_1_who_the_user_is_never_comes_from_the_client() -> None:
    found = variables((b"Remote-User", b"root"), (b"Auth-Type", b"Basic"), (b"REMOTE_USER", b"root"))
    assert b"REMOTE_USER" not in found
    assert b"AUTH_TYPE" not in found
    assert b"REMOTE_HOST" not in found


@pytest.mark.parametrize(("length", "value"), [(None, None), (0, None), (1, b"1"), (1 << 40, b"1099511627776")])
def test_2_content_length_only_with_content(length: int | None, value: bytes | None) -> None:
    assert variables(content_length=length).get(b"CONTENT_LENGTH") == value


def test_2_the_clients_own_length_is_not_believed() -> None:
    assert b"CONTENT_LENGTH" not in variables((b"Content-Length", b"9"))
    assert variables((b"Content-Length", b"9"), content_length=5)[b"CONTENT_LENGTH"] == b"5"


def test_4_an_empty_content_type_is_not_absent() -> None:
    assert variables((b"content-type", b""))[b"CONTENT_TYPE"] == b""
    assert b"CONTENT_TYPE" not in variables(method=b"POST", content_length=5)  # nor is one invented (71)


def test_6_path_info_is_absent_where_there_is_none() -> None:
    assert b"PATH_INFO" not in variables(place=Place(b"/s"))
    assert variables(place=Place(b"", b"/\xff\xe4"))[b"PATH_INFO"] == b"/\xff\xe4"


def test_7_path_translated_needs_a_document_root() -> None:
    assert b"PATH_TRANSLATED" not in variables()
    assert b"PATH_TRANSLATED" not in variables(place=Place(b"/s", b"", b"", b"/srv"))
    assert variables(place=Place(b"/s", b"/i", b"", b"/srv/"))[b"PATH_TRANSLATED"] == b"/srv/i"


def test_8_query_string_is_always_there_and_undecoded() -> None:
    assert variables(target=b"/s")[b"QUERY_STRING"] == b""
    assert variables(target=b"/s?a+b%2")[b"QUERY_STRING"] == b"a+b%2"


def test_9_a_client_of_a_unix_socket_has_an_empty_address() -> None:
    found = variables(peer=Peer(b"", b"", b"", b"80", https=False))
    assert found[b"REMOTE_ADDR"] == b""
    assert b"REMOTE_PORT" not in found
    assert b"SERVER_ADDR" not in found
    assert found[b"SERVER_NAME"] == b""


def test_9_an_ipv6_client_has_no_brackets() -> None:
    assert variables(peer=Peer(b"::1", b"1", b"::1", b"80", https=False))[b"REMOTE_ADDR"] == b"::1"


def test_10_the_method_keeps_its_case() -> None:
    assert variables(method=b"pRoPfInD")[b"REQUEST_METHOD"] == b"pRoPfInD"


def test_10_https_is_on_or_absent() -> None:
    assert b"HTTPS" not in variables()
    found = variables(peer=Peer(b"::1", b"1", b"::1", b"443", https=True))
    assert (found[b"HTTPS"], found[b"REQUEST_SCHEME"]) == (b"on", b"https")


def test_11_a_route_at_the_root_has_an_empty_script_name() -> None:
    assert variables(place=Place(b"", b"/a"))[b"SCRIPT_NAME"] == b""


@pytest.mark.parametrize(
    ("host", "name"),
    [(b"example.org", b"example.org"), (b"example.org:81", b"example.org"), (b"[::1]:81", b"[::1]"), (b"[::1]", b"[::1]"),
     (b"192.0.2.1:1", b"192.0.2.1"), (b"", b"203.0.113.1")],
)  # fmt: skip
def test_12_server_name_is_the_host_asked_for(host: bytes, name: bytes) -> None:
    found = variables(host=host)
    assert found[b"SERVER_NAME"] == name
    assert found[b"SERVER_PORT"] == b"8080"


def test_12_the_version_is_the_clients() -> None:
    assert variables(version=b"HTTP/1.0")[b"SERVER_PROTOCOL"] == b"HTTP/1.0"


def test_12_the_host_of_an_absolute_form_target_wins_everywhere() -> None:
    found = variables((b"Host", b"other"), target=b"http://example.org/s", host=b"example.org")
    assert found[b"SERVER_NAME"] == found[b"HTTP_HOST"] == b"example.org"


def test_13_field_names_are_in_upper_case_with_underscores() -> None:
    assert field_names((b"x-Forwarded-FOR", b"1"), (b"Q2", b"2")) == {b"HTTP_X_FORWARDED_FOR": b"1", b"HTTP_Q2": b"2"}


def test_13_repeated_fields_are_joined() -> None:
    assert field_names(
        (b"Accept", b"a"), (b"Cookie", b"x=1"), (b"accept", b"b"), (b"COOKIE", b"y=2"), (b"Accept", b"")
    ) == {b"HTTP_ACCEPT": b"a, b, ", b"HTTP_COOKIE": b"x=1; y=2"}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [b"Proxy", b"PROXY", b"Content-Length", b"Authorization", b"Connection", b"Keep-Alive", b"Proxy-Connection",
     b"Proxy-Authorization", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade", b"Expect"],
)  # fmt: skip
def test_13_what_no_script_ever_sees(name: bytes) -> None:
    assert field_names((name, b"x"), (name.swapcase(), b"y")) == {}


def test_13_authorization_where_the_route_says_so() -> None:
    assert field_names((b"Authorization", b"Basic eDp5"), authorization=True) == {b"HTTP_AUTHORIZATION": b"Basic eDp5"}


def test_13_what_connection_names_ends_here() -> None:
    assert field_names((b"X-Hop", b"1"), (b"Connection", b"close, x-hop"), (b"Y", b"2")) == {b"HTTP_Y": b"2"}
    assert field_names((b"Connection", b"X-Hop"), (b"Connection", b"x-other,"), (b"X-Hop", b"1")) == {}
    assert field_names((b"Connection", b"a_b, , connection, content-length"), (b"A", b"1")) == {b"HTTP_A": b"1"}


@pytest.mark.parametrize(
    "name", [b"X_A", b"X.A", b"X A", b"X[A", b"X!", b"_", b"X-A\n", b"X\xc4", b"CONTENT_LENGTH", b"X_FORWARDED_FOR"]
)
def test_13_72_an_odd_name_never_poses_as_another(name: bytes) -> None:
    assert field_names((name, b"odd"), (b"X-A", b"mine")) == {b"HTTP_X_A": b"mine"}


def test_14_values_pass_as_octets() -> None:
    assert field_names((b"X", b"\xff\xc3\xa4 \t\x01")) == {b"HTTP_X": b"\xff\xc3\xa4 \t\x01"}


def test_15_72_what_the_route_sets_wins() -> None:
    environment = [(b"SERVER_NAME", b"mine"), (b"HTTP_X", b"mine"), (b"SCRIPT_NAME", b"/m"), (b"REMOTE_ADDR", b"m"),
                   (b"GATEWAY_INTERFACE", b"m"), (b"OWN", b"o"), (b"CONTENT_LENGTH", b"0")]  # fmt: skip
    found = variables((b"X", b"theirs"), (b"Host", b"h"), host=b"h", environment=environment, content_length=7)
    assert dict(environment).items() <= found.items()


def test_16_php_finds_what_it_needs() -> None:
    found = variables(place=Place(b"/a.php", b"", b"/srv/a.php", b"/srv"))
    assert (found[b"REDIRECT_STATUS"], found[b"SCRIPT_FILENAME"]) == (b"200", b"/srv/a.php")


def test_70_a_name_is_not_made_from_an_exchange_id() -> None:
    assert b"EXCHANGE_ID" not in variables((b"Exchange-Id", b"theirs"))


names = st.text(string.ascii_letters + string.digits + "-_.!", min_size=1, max_size=12).map(str.encode)
known_names = st.sampled_from(
    [b"Host", b"Cookie", b"Proxy", b"Content-Type", b"Content-Length", b"Connection", b"Authorization", b"Script-Name",
     b"X-A", b"X_A", b"x-a", b"Https", b"Path-Info", b"Server-Name", b"Remote-Addr", b"Te", b"Expect", b"Upgrade"]
)  # fmt: skip
values = st.one_of(
    st.binary(max_size=8).filter(lambda value: not set(value) & set(b"\0\r\n")), known_names, st.just(b"close, x-a")
)
sections = st.lists(st.tuples(st.one_of(names, known_names), values), max_size=8)
environments = st.lists(
    st.tuples(st.sampled_from([b"HTTP_X_A", b"SERVER_NAME", b"PATH_INFO", b"REMOTE_ADDR", b"OWN"]), values),
    max_size=4,
    unique_by=lambda pair: pair[0],
)  # fmt: skip


@settings(max_examples=200)
@given(sections, environments)
def test_no_variable_comes_twice_and_no_field_sets_what_is_not_its_own(
    fields: list[FieldLine], environment: list[FieldLine]
) -> None:
    request = Request(b"POST", b"/s/i?q", fields, host=b"h")
    target, place = parse(b"POST", b"/s/i?q"), Place(b"/s", b"/i", b"/f", b"/r")
    overridden = {name for name, _ in environment}
    pairs = [*route_variables(software=SOFTWARE, document_root=b"/r", environment=environment).items()]
    pairs += connection_variables(PEER, overridden=overridden).items()
    pairs += place_variables(request.method, request.version, place, overridden=overridden).items()
    pairs += target_variables(target, overridden=overridden).items()
    ours = {name for name, _ in pairs}
    pairs += field_variables(request, PEER, overridden=overridden).items()
    assert len({name for name, _ in pairs}) == len(pairs)
    theirs = [name for name, _ in pairs if name not in ours]
    assert all(name.startswith(b"HTTP_") or name in (b"CONTENT_TYPE", b"SERVER_NAME") for name in theirs)
    assert not {b"HTTP_PROXY", b"HTTP_CONTENT_LENGTH", b"HTTP_CONTENT_TYPE", b"HTTP_AUTHORIZATION"} & set(theirs)
    assert dict(environment).items() <= dict(pairs).items()
    # all at once is the same
    assert dict(pairs) == meta_variables(request, target, place, PEER, software=SOFTWARE, environment=environment)


path_octets = st.lists(st.binary(min_size=1, max_size=4).filter(lambda s: not set(s) & set(b"\0/")), max_size=4).map(
    lambda parts: b"".join(b"/" + part for part in parts if part not in (b".", b".."))
)
queries = st.text(string.ascii_letters + "%&=+/?.", max_size=8).map(str.encode)


@settings(max_examples=200)
@given(path_octets, path_octets, queries)
def test_71_the_script_uri_can_be_rebuilt(name: bytes, info: bytes, query: bytes) -> None:
    if not name + info:
        name = b"/"
    raw = encode_path(name + info) + (b"?" + query if query else b"")
    found = variables(target=raw, place=Place(name, info))
    rebuilt = encode_path(found[b"SCRIPT_NAME"] + found.get(b"PATH_INFO", b""))
    if found[b"QUERY_STRING"]:
        rebuilt += b"?" + found[b"QUERY_STRING"]
    assert rebuilt == raw == found[b"REQUEST_URI"]
