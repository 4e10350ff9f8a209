"""The engines behind one small interface: they answer alike, and are chosen by name.

Promise: whatever section the grammar lets through, both give the same lines or both refuse.
Must never know: framing.
Next: `test_http1.py`, which compares whole messages.
"""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.http1_tokeniser import H11Tokeniser, HttptoolsTokeniser, tokeniser
from protocols.message import FieldLine, RemoteProtocolError

HTTPTOOLS, H11 = HttptoolsTokeniser(), H11Tokeniser()

names = st.sampled_from([b"A", b"x-y", b"Connection", b"Upgrade", b"Expect", b"TE", b"Proxy-Connection"])
values = st.sampled_from([b"", b"a", b"close, upgrade", b"h2c", b"a: b", b"caf\xe9", b"a\tb", b'"'])


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(st.tuples(names, values), max_size=8), space=st.sampled_from([b"", b" ", b" \t "]))
def test_both_give_the_lines_as_they_were_sent(lines: list[FieldLine], space: bytes) -> None:
    section = b"".join(name + b":" + (space + value if value else b"") + b"\r\n" for name, value in lines)
    for engine in (HTTPTOOLS, H11):
        assert list(engine.split_request(section)) == lines
        assert list(engine.split_response(section)) == lines


@pytest.mark.parametrize("engine", [HTTPTOOLS, H11], ids=["httptools", "h11"])
@pytest.mark.parametrize(
    "section",
    [b"Content-Length: 1\r\nContent-Length: 1\r\n", b"A: b\r\nContent-Length: 1, 1\r\n",
     b"content-length:1,1\r\n", b"Content-Length: x\r\n"],
)  # fmt: skip
def test_both_refuse(section: bytes, engine: HttptoolsTokeniser | H11Tokeniser) -> None:
    with pytest.raises(RemoteProtocolError):
        engine.split_request(section)
    with pytest.raises(RemoteProtocolError):
        engine.split_response(section)


def test_engines_are_chosen_by_name() -> None:
    assert tokeniser("httptools").name == tokeniser("auto").name == "httptools"
    assert tokeniser("h11").name == "h11"
    with pytest.raises(ValueError, match="auto, httptools or h11"):
        tokeniser("apache")


def test_without_httptools_auto_is_h11(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)
    assert tokeniser("auto").name == "h11"
    with pytest.raises(ImportError):
        tokeniser("httptools")
