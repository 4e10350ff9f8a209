"""The WSGI sample obeys PEP 3333, as the standard library's validator reads it."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from sample_apps import application as sample


def call(path: str, content: bytes = b"", **more: str) -> tuple[str, bytes]:
    environ: dict[str, Any] = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", **more}
    environ["wsgi.input"] = BytesIO(content)
    setup_testing_defaults(environ)
    statuses: list[str] = []

    def start_response(status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Any:
        statuses.append(status)
        return lambda octets: None

    answer = validator(sample.application)(environ, start_response)
    try:
        return_value = b"".join(answer)
    finally:
        answer.close()  # type: ignore[attr-defined]
    return statuses[0], return_value


def test_root_says_over_which_interface_it_is_reached() -> None:
    status, text = call("/", **{"sample.interface": "SCGI"})
    assert status == "200 OK"
    assert text.endswith(b"reached over SCGI.\n")


def test_environment_is_escaped_and_leaves_out_what_is_no_meta_variable() -> None:
    _, page = call("/environment", HTTP_X="<b>")
    assert b"<td>HTTP_X<td>&lt;b&gt;" in page
    assert b"wsgi." not in page


def test_echo_tells_when_content_is_cut_off() -> None:
    _, text = call("/echo", b"123", REQUEST_METHOD="POST", CONTENT_LENGTH="5")
    assert json.loads(text)["bytes"] == 3
    assert json.loads(text)["complete"] is False


def test_stream_has_ten_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "PAUSE_S", 0)
    assert call("/stream")[1].count(b"\n") == 10


def test_unknown_page_names_those_there_are() -> None:
    status, text = call("/nowhere")
    assert status == "404 Not Found"
    assert b"'echo'" in text
