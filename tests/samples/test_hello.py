"""The sample of the README: its WSGI and its ASGI application answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from io import BytesIO
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from sample_apps import hello

Answer = tuple[int, dict[str, str], bytes]


def over_wsgi(path: str, content: bytes = b"", kind: str = "") -> Answer:
    environ: dict[str, Any] = {"SCRIPT_NAME": "/mounted", "PATH_INFO": path, "QUERY_STRING": ""}
    if content:
        environ |= {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(content)), "CONTENT_TYPE": kind}
    environ["wsgi.input"] = BytesIO(content + b"beyond")
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((status, fields))
        return lambda octets: None

    pieces: Any = validator(hello.application)(environ, start_response)
    text = b"".join(pieces)
    pieces.close()
    (status, fields), = started
    return int(status.split()[0]), {name.lower(): value for name, value in fields}, text


def over_asgi(path: str, content: bytes = b"", kind: str = "") -> Answer:
    async def call() -> Answer:
        sent: list[Any] = []
        pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)] or [b""]
        incoming = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        incoming[-1]["more_body"] = False

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", kind.encode())] if kind else []
        scope = {"type": "http", "path": "/mounted" + path, "root_path": "/mounted", "headers": headers}
        await hello.asgi_application(scope, receive, send)
        fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
        return sent[0]["status"], fields, b"".join(message.get("body", b"") for message in sent[1:])

    return asyncio.run(call())


@pytest.mark.parametrize(
    "request_", [("/",), ("",), ("/none",), ("/count",), ("/echo", b"x" * 5000, "a/b"), ("/echo",)], ids=repr
)
def test_both_answer_alike(request_: Iterable[Any]) -> None:
    assert over_wsgi(*request_) == over_asgi(*request_)


def test_the_pages() -> None:
    assert over_wsgi("/") == (200, {"content-type": "text/plain; charset=utf-8", "content-length": "13"}, b"Hello, world\n")
    assert over_wsgi("/none")[0] == 404
    assert over_wsgi("/count")[2].splitlines()[::9] == [b"1 of 10", b"10 of 10"]
    assert over_wsgi("/echo", b"abc", "x/y") == (200, {"content-type": "x/y", "content-length": "3"}, b"abc")


def test_lifespan() -> None:
    async def live() -> list[str]:
        incoming, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await hello.asgi_application({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_what_it_does_not_speak_is_refused() -> None:
    async def none(*message: Any) -> None:
        raise AssertionError("nothing is sent or received")

    with pytest.raises(ValueError, match="websocket"):
        asyncio.run(hello.asgi_application({"type": "websocket"}, none, none))
