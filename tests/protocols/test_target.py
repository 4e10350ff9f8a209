"""The request-target: its four forms, the one normalisation, and where a path is cut.

Promise: SEMANTICS 6, 11, 59, 71 and 74 hold for the codec; nobody behind it sees another path.
Must never know: routes, files. Next: `test_cgi.py`, which rebuilds the script-URI.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import RemoteProtocolError
from protocols.target import Form, Place, encode_path, parse, split_prefix, split_suffix


def path_of(raw: bytes) -> bytes:
    return parse(b"GET", raw).path


def refused(raw: bytes, method: bytes = b"GET") -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        parse(method, raw)
    assert caught.value.status == 400
    return caught.value.detail


# ---------------------------------------------------------------------- the four forms (RFC 9112 3.2)


def test_origin_form() -> None:
    target = parse(b"GET", b"/hello/world?x=1&y=%20")
    assert (target.form, target.path, target.query) == (Form.ORIGIN, b"/hello/world", b"x=1&y=%20")
    assert target.raw == target.raw_path == b"/hello/world?x=1&y=%20"
    assert target.authority == b""


def test_absolute_form() -> None:
    target = parse(b"GET", b"http://example.org:8080/a/../b?q")
    assert (target.form, target.path, target.query) == (Form.ABSOLUTE, b"/b", b"q")
    assert (target.authority, target.raw_path) == (b"example.org:8080", b"/b?q")


@pytest.mark.parametrize(("raw", "raw_path"), [(b"http://h", b"/"), (b"HTTP://h?q", b"/?q"), (b"https://[::1]:1/x", b"/x")])
def test_absolute_form_has_a_path_for_upstreams(raw: bytes, raw_path: bytes) -> None:
    assert parse(b"GET", raw).raw_path == raw_path


def test_authority_form_belongs_to_connect() -> None:
    assert parse(b"CONNECT", b"example.org:443").form is Form.AUTHORITY
    assert "none of the four forms" in refused(b"example.org:443")


def test_asterisk_form_belongs_to_options() -> None:
    assert parse(b"OPTIONS", b"*").form is Form.ASTERISK
    assert "OPTIONS" in refused(b"*")


@pytest.mark.parametrize(
    "raw",
    [b"", b"a", b"?q", b"/a b", b"/\t", b"/a\r\n", b"/\x7f", b"/\xc3\xa4", b"/a?\xff", b"/#", b"/a?b#c",
     b"http://", b"http:///x", b"http://u@h/", b"http:/x", b"mailto:x"],
)  # fmt: skip
def test_what_is_no_request_target(raw: bytes) -> None:
    refused(raw)


# ---------------------------------------------------------------------- one normalisation (SEMANTICS 6, 59)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", b"/"),
        (b"/a", b"/a"),
        (b"/a/", b"/a/"),
        (b"//", b"/"),
        (b"//a///b//", b"/a/b/"),
        (b"/.", b"/"),
        (b"/./a/./b/.", b"/a/b/"),
        (b"/a/..", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/../c", b"/a/c"),
        (b"/a/../b/../c/", b"/c/"),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/a/%2E./b", b"/b"),
        (b"/%2e/b", b"/b"),
        (b"/...", b"/..."),
        (b"/.a", b"/.a"),
        (b"/..a/a../.a.", b"/..a/a../.a."),
        (b"/%41%62", b"/Ab"),
        (b"/%2541", b"/%41"),
        (b"/%252e%252e/x", b"/%2e%2e/x"),
        (b"/a+b", b"/a+b"),
        (b"/a%3Fb?c", b"/a?b"),
        (b"/a%23b", b"/a#b"),
    ],
)
def test_a_path_is_decoded_and_normalised_once(raw: bytes, path: bytes) -> None:
    assert path_of(raw) == path


@pytest.mark.parametrize("raw", [b"/..", b"/../a", b"/a/../..", b"/%2e%2e", b"//..", b"/a/%2e./../b", b"/..?q", b"/..%2fa"])
def test_a_path_above_the_root_is_refused(raw: bytes) -> None:
    assert "above the root" in refused(raw)


@pytest.mark.parametrize("raw", [b"/%00", b"/a%00.php", b"/%0", b"/%", b"/%zz", b"/%4", b"/%u0041", b"/% 41", b"/%+1"])
def test_bad_escapes_and_nul_are_refused(raw: bytes) -> None:
    refused(raw)


def test_escapes_in_a_query_are_the_applications_own() -> None:
    assert parse(b"GET", b"/?%00%zz%").query == b"%00%zz%"


def test_an_overlong_dot_is_no_dot() -> None:
    assert path_of(b"/a/%c0%ae%c0%ae/b") == b"/a/\xc0\xae\xc0\xae/b"
    assert path_of(b"/a/%e0%80%af/b") == b"/a/\xe0\x80\xaf/b"


def test_a_backslash_separates_nothing() -> None:
    assert path_of(b"/a/..%5cb") == path_of(b"/a/..\\b") == b"/a/..\\b"


@pytest.mark.parametrize("raw", [b"/a%2Fb", b"/a%2fb", b"/%2F", b"/a/%2fb?x"])
def test_an_encoded_slash_is_told(raw: bytes) -> None:
    assert parse(b"GET", raw).encoded_slash


@pytest.mark.parametrize("raw", [b"/a/b", b"/a?%2F", b"/%252F", b"/%5c"])
def test_other_things_are_no_encoded_slash(raw: bytes) -> None:
    assert not parse(b"GET", raw).encoded_slash


def test_what_is_not_utf_8_passes_as_it_is() -> None:
    assert path_of(b"/%ff%e4") == b"/\xff\xe4"


# ---------------------------------------------------------------------- what an upstream sees (SEMANTICS 59)


@pytest.mark.parametrize("raw", [b"/a%20b", b"/%7Euser/?%2e", b"/a%2Fb", b"/%ff", b"/a;b=1,2"])
def test_what_needs_no_normalising_goes_on_as_it_was_spelt(raw: bytes) -> None:
    assert parse(b"GET", raw).raw_path == raw


@pytest.mark.parametrize(
    ("raw", "raw_path"),
    [(b"//a%20b/?q=//", b"/a%20b/?q=//"), (b"/x/../%C3%A4", b"/%C3%A4"), (b"/./a%3Fb", b"/a%3Fb"),
     (b"/./a%25b", b"/a%25b"), (b"/x/%2e%2e/a?", b"/a?")],
)  # fmt: skip
def test_what_was_normalised_is_encoded_again(raw: bytes, raw_path: bytes) -> None:
    assert parse(b"GET", raw).raw_path == raw_path


segments = st.sampled_from(
    [b"", b".", b"..", b"a", b"b.php", b"%2e", b"%2E%2e", b"%20", b"%ff", b"...", b".x", b"\\", b"%5c", b"%25", b"~;=,"]
)
targets = st.builds(
    lambda parts, query: b"/" + b"/".join(parts) + query,
    st.lists(segments, max_size=8),
    st.sampled_from([b"", b"?", b"?a=b", b"?/../%2e", b"??"]),
)


@settings(max_examples=300)
@given(targets)
def test_an_upstream_that_decodes_by_itself_finds_the_routers_path(raw: bytes) -> None:
    try:
        target = parse(b"GET", raw)
    except RemoteProtocolError:
        return
    encoded = target.raw_path.partition(b"?")[0]
    assert unquote_to_bytes(encoded) == target.path
    again = parse(b"GET", target.raw_path)
    assert (again.path, again.query) == (target.path, target.query)


@settings(max_examples=300)
@given(targets)
def test_a_normalised_path_has_nothing_left_to_normalise(raw: bytes) -> None:
    try:
        path = path_of(raw)
    except RemoteProtocolError:
        return
    assert path.startswith(b"/")
    assert not {b".", b".."} & set(path.split(b"/"))
    assert b"//" not in path


@settings(max_examples=200)
@given(targets)
def test_the_fast_path_and_the_slow_path_agree(raw: bytes) -> None:
    """Absolute-form always takes the slow one."""
    try:
        target = parse(b"GET", raw)
    except RemoteProtocolError:
        refused(b"http://h" + raw)
        return
    slow = parse(b"GET", b"http://h" + raw)
    assert (slow.path, slow.raw_path, slow.query) == (target.path, target.raw_path, target.query)


@settings(max_examples=300)
@given(st.binary(max_size=30), st.sampled_from([b"GET", b"OPTIONS", b"CONNECT"]))
def test_arbitrary_octets_are_a_target_or_refused(raw: bytes, method: bytes) -> None:
    for octets in (raw, b"/" + raw, b"http://h/" + raw):
        try:
            target = parse(method, octets)
        except RemoteProtocolError:
            assert refused(octets, method)
        else:
            assert b"\0" not in target.path


@given(st.binary(max_size=30).filter(lambda path: b"\0" not in path))
def test_an_encoded_path_decodes_to_itself(path: bytes) -> None:
    encoded = encode_path(path)
    assert unquote_to_bytes(encoded) == path
    assert encoded.isascii()
    assert not any(octet in encoded for octet in b" ?#\r\n")


# ---------------------------------------------------------------------- where a path is cut


@pytest.mark.parametrize("prefix", [b"/hg", b"/hg/"])
@pytest.mark.parametrize(
    ("path", "split"),
    [(b"/hg", (b"/hg", b"")), (b"/hg/", (b"/hg", b"/")), (b"/hg/a/b", (b"/hg", b"/a/b")), (b"/hgx", None),
     (b"/h", None), (b"/HG", None), (b"/a/hg", None)],
)  # fmt: skip
def test_a_prefix_ends_at_a_segment(prefix: bytes, path: bytes, split: tuple[bytes, bytes] | None) -> None:
    assert split_prefix(path, prefix) == split


def test_the_root_is_a_prefix_of_everything_and_leaves_script_name_empty() -> None:
    assert split_prefix(b"/a", b"/") == (b"", b"/a")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        (b"/a.php", (b"/a.php", b"")),
        (b"/a.php/", (b"/a.php", b"/")),
        (b"/a.php/b.php/c", (b"/a.php", b"/b.php/c")),
        (b"/a.phpx/b.php", (b"/a.phpx/b.php", b"")),
        (b"/d.x/a.php", (b"/d.x/a.php", b"")),
        (b"/a.PHP", None),
        (b"/a.php.bak", None),
        (b"/.php", None),
        (b"/d/.php/x", None),
        (b"/aXphp", None),
        (b"/a.php\n", None),
        ("/a.\uff50\uff48\uff50".encode(), None),  # full-width letters fold to "php" in Unicode only
        ("/\u0130.php".encode(), ("/\u0130.php".encode(), b"")),  # its lower case is longer than itself
    ],
)
def test_a_suffix_is_found_by_octets(path: bytes, split: tuple[bytes, bytes] | None) -> None:
    assert split_suffix(path, b".php") == split


@given(st.lists(st.sampled_from([b"a", b"b.php", b"c.phpx", b".php"]), max_size=5))
def test_the_parts_are_the_whole(parts: list[bytes]) -> None:
    path = b"/" + b"/".join(parts)
    for split in (split_suffix(path, b".php"), split_prefix(path, b"/a")):
        if split is not None:
            assert split[0] + split[1] == path


# ---------------------------------------------------------------------- place


@pytest.mark.parametrize(
    ("info", "root", "translated"),
    [
        (b"/x", b"/srv", b"/srv/x"),
        (b"/x", b"/srv/", b"/srv/x"),
        (b"/x", b"/", b"/x"),
        (b"", b"/srv", b""),
        (b"/x", b"", b""),
    ],
)
def test_path_translated_needs_both(info: bytes, root: bytes, translated: bytes) -> None:
    assert Place(b"/s", info, b"", root).path_translated == translated
