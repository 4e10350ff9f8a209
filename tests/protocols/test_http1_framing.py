"""What the fields of a head say of its message, and content counted as it goes out.

Promise: only what is certain is accepted, and what was declared is kept to.
Must never know: start-lines.
Next: `test_http1.py`; `tests/corpus/http1/` has the framing attacks.
"""

from __future__ import annotations

import pytest

from protocols.http1_framing import ContentWriter, Framing, check_coding, control
from protocols.message import LocalProtocolError, RemoteProtocolError


def test_the_fields_that_concern_the_message() -> None:
    fields = [
        (b"Host", b"x"), (b"CONNECTION", b"Close, TE"), (b"connection", b"upgrade"), (b"A", b"b"),
        (b"Upgrade", b"a"), (b"Upgrade", b"b"), (b"Expect", b"c"), (b"Expect", b"d"),
        (b"Content-Length", b"5"), (b"Transfer-Encoding", b"e"), (b"Transfer-Encoding", b"f"),
    ]  # fmt: skip
    length, coding, options, hosts, expect, upgrade = control(fields)
    assert (length, coding, hosts, expect, upgrade) == (b"5", b"e, f", [b"x"], b"c, d", b"a, b")
    assert options == {b"close", b"te", b"upgrade"}
    assert control([]) == (None, None, frozenset(), [], None, None)


@pytest.mark.parametrize(
    ("coding", "status"),
    [(b"chunked", None), (b"CHUNKED", None), (b"gzip, chunked", 501), (b"gzip", 400),
     (b"chunked, chunked", 400), (b"chunked, gzip, chunked", 400), (b"", 400), (b"chunked,", 400)],
)  # fmt: skip
def test_codings(coding: bytes, status: int | None) -> None:
    if status is None:
        check_coding(coding, None, b"HTTP/1.1")
        return
    with pytest.raises(RemoteProtocolError) as refusal:
        check_coding(coding, None, b"HTTP/1.1")
    assert refusal.value.status == status


def test_a_writer_is_used_up_by_the_end() -> None:
    writer = ContentWriter()
    writer.begin(Framing.LENGTH, 2)
    assert writer.content(b"ab") == [b"ab"]
    assert writer.end([(b"A", b"b")]) == b""
    with pytest.raises(LocalProtocolError):
        writer.content(b"c")
    with pytest.raises(LocalProtocolError):
        writer.end(())
