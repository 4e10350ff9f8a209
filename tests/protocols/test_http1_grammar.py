"""The patterns that no other test reaches by themselves, and their cost on hostile octets.

Promise: no pattern takes more than linear time; the time limit of a test is the judge.
Must never know: the readers.
Next: `test_http1_corpus.py`.
"""

from __future__ import annotations

import re

import pytest

from protocols import http1_grammar as grammar


@pytest.mark.parametrize(
    "host",
    [b"", b"example.org", b"example.org:", b"example.org:80", b"127.0.0.1", b"[::1]",
     b"[::ffff:1.2.3.4]:8080", b"[v1.a:b]", b"a_b", b"%41.example", b"x!$&'()*+,;=y"],
)  # fmt: skip
def test_hosts(host: bytes) -> None:
    assert grammar.HOST.fullmatch(host)


@pytest.mark.parametrize(
    "host",
    [b"a b", b"a/b", b"a@b", b"a?b", b"a#b", b"a\\b", b"a:b", b"a:1:2", b"a:123456", b"::1", b"[::1",
     b"[::1]x", b"[]", b"%4", b"%zz", b"a\xe9", b"a\0", b"a\n", b"[g::]"],
)  # fmt: skip
def test_what_is_no_host(host: bytes) -> None:
    assert not grammar.HOST.fullmatch(host)


HOSTILE = [
    b"a" * 60_000,
    b"GET / HTTP/1.1\r\n" + b"a:" + b" " * 60_000,
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\0",
    b"HTTP/1.1 200 " + b" \t" * 30_000 + b"\0",
    b"1;" + b";" * 60_000 + b"\0",
    b" " * 60_000 + b"x",
    b" x" * 30_000,
    b"http://" + b"a" * 60_000 + b"\0",
    b"[" + b":" * 60_000,
    b"%41" * 20_000 + b"%",
]
PATTERNS = {name: value for name, value in vars(grammar).items() if isinstance(value, re.Pattern)}


@pytest.mark.timeout(5)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_hostile_octets_cost_linear_time(pattern: re.Pattern[bytes]) -> None:
    for octets in HOSTILE:
        pattern.fullmatch(octets)
        pattern.match(octets)


@pytest.mark.timeout(5)
def test_hostile_white_space_costs_linear_time() -> None:
    for octets in HOSTILE:
        grammar.TRAILING_SPACE.sub(b"\r\n", octets)
        grammar.NEVER_IN_HEAD.search(octets)
