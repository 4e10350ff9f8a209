"""What field lines mean: lists, hop-by-hop fields, lengths, dates, conditions, ranges.

Promise: the examples are those of RFC 9110 where it has some.
Must never know: HTTP/1.1's spelling of lines.
Next: `test_http1.py`.
"""

from __future__ import annotations

from email.utils import formatdate, parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.fields import (
    HOP_BY_HOP,
    RANGES,
    UNSATISFIABLE,
    all_values,
    content_length,
    etag_matches,
    first,
    forwardable,
    has_token,
    http_date,
    lower,
    parse_http_date,
    parse_range,
    tokens,
    trailers_onward,
)
from protocols.memory import MEMO_ENTRIES, MEMO_KEY_BYTES, Memo
from protocols.message import FieldLine, RemoteProtocolError

quick = settings(max_examples=200, deadline=None)

FIELDS = [(b"Accept", b"a"), (b"X-One", b"1"), (b"ACCEPT", b"b")]


def test_names_are_compared_without_case() -> None:
    assert first(FIELDS, b"accept") == b"a"
    assert first(FIELDS, b"host") is None
    assert all_values(FIELDS, b"accept") == [b"a", b"b"]
    assert lower(b"X-One") == b"x-one"


def test_lists_tolerate_empty_members() -> None:
    assert tokens(b", Close ,,\tkeep-alive,") == [b"close", b"keep-alive"]
    assert tokens(b"") == []
    assert has_token(b"Upgrade, TE", b"te")
    assert has_token([b"close", b"TE"], b"te")
    assert not has_token(b"tea", b"te")
    assert not has_token([], b"te")


def test_a_memo_forgets_before_it_grows_without_bound() -> None:
    computed: list[bytes] = []

    def compute(key: bytes) -> int:
        computed.append(key)
        return len(key)

    memo = Memo(compute)
    assert (memo[b"abc"], memo[b"abc"]) == (3, 3)
    assert computed == [b"abc"]
    for number in range(3 * MEMO_ENTRIES):
        assert memo[b"%d" % number] == len(str(number))
    assert len(memo) <= MEMO_ENTRIES
    long = b"x" * (MEMO_KEY_BYTES + 1)
    assert memo[long] == len(long)
    assert long not in memo


def test_fields_of_one_connection_are_not_forwarded() -> None:
    end_to_end: list[FieldLine] = [(b"Accept", b"a"), (b"Host", b"x")]
    hop_by_hop = [(name.title(), b"x") for name in sorted(HOP_BY_HOP)]
    assert forwardable([*hop_by_hop, *end_to_end]) == end_to_end
    assert forwardable(end_to_end) == end_to_end
    assert forwardable([]) == []


def test_what_connection_names_is_not_forwarded() -> None:
    connection = [(b"connection", b"close, X-a"), (b"Connection", b"x-b")]
    fields = [(b"X-A", b"1"), *connection, (b"X-B", b"2"), (b"X-C", b"3")]
    assert forwardable(fields) == [(b"X-C", b"3")]


def test_te_may_stay_for_trailers_only() -> None:
    fields = [(b"TE", b"gzip, Trailers"), (b"Connection", b"TE"), (b"A", b"b")]
    assert forwardable(fields) == [(b"A", b"b")]
    assert forwardable(fields, keep_te_trailers=True) == [(b"A", b"b"), (b"TE", b"trailers")]
    assert forwardable([(b"TE", b"gzip")], keep_te_trailers=True) == []


def test_trailers_that_would_frame_route_or_authenticate_go_no_further() -> None:
    assert trailers_onward([(b"Host", b"x"), (b"DIGEST", b"y"), (b"te", b"trailers"), (b"Set-Cookie", b"a=b")]) == [
        (b"DIGEST", b"y")
    ]


@pytest.mark.parametrize(
    ("values", "length"),
    [([b"0"], 0), ([b"5"], 5), ([b"5", b"5"], 5), ([b"5, 5"], 5), ([b"5,5", b" 5 "], 5),
     ([b"9" * 19], 10**19 - 1)],
)  # fmt: skip
def test_lengths(values: list[bytes], length: int) -> None:
    assert content_length(values) == length


@pytest.mark.parametrize(
    "values",
    [[], [b""], [b"5", b"6"], [b"5, 6"], [b"5,"], [b"+5"], [b"-5"], [b"5 5"], [b"0x5"], [b"5_0"],
     [b"9" * 20], [b"\xb2"]],
)  # fmt: skip
def test_lengths_that_are_none(values: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        content_length(values)
    assert refusal.value.status == 400


# ---------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    "value",
    [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"],
)
def test_the_three_formats_of_a_date(value: bytes) -> None:
    assert parse_http_date(value) == 784111777


@quick
@given(epoch_s=st.integers(0, 253402300799))
def test_dates_agree_with_the_standard_library(epoch_s: int) -> None:
    value = http_date(epoch_s)
    assert value.decode() == formatdate(epoch_s, usegmt=True)
    assert parse_http_date(value) == epoch_s == parsedate_to_datetime(value.decode()).timestamp()


def test_two_digit_years_and_leap_seconds() -> None:
    assert parse_http_date(b"Tuesday, 01-Jan-69 00:00:00 GMT") == -31536000
    assert parse_http_date(b"Sunday, 01-Jan-68 00:00:00 GMT") == 3092601600
    assert parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT") == 1483228799


@pytest.mark.parametrize(
    "value",
    [
        b"", b"0", b"784111777", b"Sun, 06 Nov 1994 08:49:37", b"Sun, 06 Nov 1994 08:49:37 CET",
        b"Sun, 31 Feb 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 24:00:00 GMT", b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 6 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 0000 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:61 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date(value: bytes) -> None:
    assert parse_http_date(value) is None


# ---------------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("value", "etag", "strong", "weak"),
    [  # RFC 9110 8.8.3.2
        (b'W/"1"', b'W/"1"', False, True),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', False, True),
        (b'"1"', b'W/"1"', False, True),
        (b'"1"', b'"1"', True, True),
        (b'"0", W/"2",, "1"', b'"1"', True, True),
        (b'"a,\\b"', b'"a,\\b"', True, True),
        (b"*", b'"1"', True, True),
        (b"1", b'"1"', False, False),
        (b'"1" "2"', b'"1"', False, False),
        (b'"1', b'"1"', False, False),
        (b"", b'"1"', False, False),
    ],
)
def test_entity_tags(value: bytes, etag: bytes, strong: bool, weak: bool) -> None:
    assert etag_matches(value, etag, weak=False) is strong
    assert etag_matches(value, etag, weak=True) is weak


def test_hostile_lists_of_entity_tags_cost_linear_time() -> None:
    assert not etag_matches(b'"' * 30_000, b'"1"', weak=True)
    assert not etag_matches(b'""' + b" ," * 15_000 + b"x", b'"1"', weak=True)
    assert not etag_matches(b'"", ' * 8_000 + b"x", b'"1"', weak=True)


# ---------------------------------------------------------------------- ranges


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        (b"bytes=0-499", [(0, 500)]),
        (b"bytes=500-999", [(500, 1000)]),
        (b"bytes=-500", [(9500, 10000)]),
        (b"bytes=9500-", [(9500, 10000)]),
        (b"bytes=0-0,-1", [(0, 1), (9999, 10000)]),
        (b"Bytes= 0-999 , ,4500-5499, -1000", [(0, 1000), (4500, 5500), (9000, 10000)]),
        (b"bytes=0-99999", [(0, 10000)]),
        (b"bytes=-99999", [(0, 10000)]),
        (b"bytes=0-0,10000-", [(0, 1)]),
    ],
)
def test_ranges(value: bytes, ranges: list[tuple[int, int]]) -> None:
    assert parse_range(value, 10000) == ranges


@pytest.mark.parametrize("value", [b"bytes=10000-", b"bytes=10000-10001,20000-", b"bytes=-0"])
def test_ranges_outside_are_unsatisfiable(value: bytes) -> None:
    assert parse_range(value, 10000) is UNSATISFIABLE


def test_of_nothing_no_range_is_satisfiable() -> None:
    assert parse_range(b"bytes=0-", 0) is UNSATISFIABLE
    assert parse_range(b"bytes=-5", 0) is UNSATISFIABLE


@pytest.mark.parametrize(
    "value",
    [
        b"", b"bytes", b"bytes=", b"bytes=,", b"lines=0-1", b"bytes=1-0", b"bytes=-", b"bytes=a-b",
        b"bytes=0-1;2-3", b"bytes=0 - 1", b"bytes=--1", b"bytes=+0-1", b"bytes=0-1,x",
        b"bytes=" + b"9" * 20 + b"-",
    ],
)  # fmt: skip
def test_malformed_ranges_are_ignored(value: bytes) -> None:
    assert parse_range(value, 10000) is None


def test_range_bombs_are_ignored() -> None:
    assert parse_range(b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(RANGES)), 10000) is not None
    assert parse_range(b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(RANGES + 1)), 10000) is None
    assert parse_range(b"bytes=0-,0-", 10000) is None
    assert parse_range(b"bytes=" + b"," * 30_000, 10000) is None


@quick
@given(specs=st.text("0123456789-,= bytes", max_size=30), size=st.integers(0, 50))
def test_ranges_lie_inside(specs: str, size: int) -> None:
    ranges = parse_range(b"bytes=" + specs.encode(), size)
    if isinstance(ranges, list):
        assert ranges
        assert all(0 <= start < stop <= size for start, stop in ranges)
        assert sum(stop - start for start, stop in ranges) <= size
