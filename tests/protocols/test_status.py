"""The reason phrases: those of RFC 9110, whatever the Python library calls a status."""

from __future__ import annotations

import pytest

from protocols.http1 import ResponseWriter
from protocols.message import Response
from protocols.status import reason


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(200, "OK"), (404, "Not Found"), (413, "Content Too Large"), (414, "URI Too Long"), (416, "Range Not Satisfiable"),
     (422, "Unprocessable Content"), (431, "Request Header Fields Too Large"), (599, "")],
)  # fmt: skip
def test_the_phrase_of_a_status(status: int, phrase: str) -> None:
    assert reason(status) == phrase
    head = ResponseWriter(b"GET", b"HTTP/1.1", keep_alive=True).head(Response(status, (), length=0))
    assert head.startswith(b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode()))
