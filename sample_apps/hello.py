"""One application twice: `application` for WSGI, `asgi_application` for ASGI. Both have the same three pages.

    [apps.hello]
    wsgi = "sample_apps.hello:application"        # or: asgi = "sample_apps.hello:asgi_application"

/ greets, /echo answers with the content that it was sent, /count is streamed, a line at a time.

Promise: the two answer alike, octet for octet; content is never held whole.
Must never know: how it is reached, or where it is mounted.
Next: `application.py`, a larger WSGI application that flup, CGI and the standard library run, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any

GREETING = b"Hello, world\n"
NOT_FOUND = b"No such page: there are /, /echo and /count\n"
LINES = 10
PIECE_BYTES = 64 * 1024
TEXT = "text/plain; charset=utf-8"

# ---------------------------------------------------------------------- WSGI (PEP 3333)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    # SCRIPT_NAME is where we are mounted, PATH_INFO what is left of the path.
    path = environ.get("PATH_INFO") or "/"
    if path == "/echo":
        start_response("200 OK", [("Content-Type", environ.get("CONTENT_TYPE") or "application/octet-stream")])
        return content_of(environ)
    if path == "/count":
        start_response("200 OK", [("Content-Type", TEXT)])
        return counted()
    status, text = ("200 OK", GREETING) if path == "/" else ("404 Not Found", NOT_FOUND)
    start_response(status, [("Content-Type", TEXT), ("Content-Length", str(len(text)))])
    return [text]


def content_of(environ: Environ) -> Iterator[bytes]:
    left_bytes = int(environ.get("CONTENT_LENGTH") or 0)
    while left_bytes and (piece := environ["wsgi.input"].read(min(left_bytes, PIECE_BYTES))):
        left_bytes -= len(piece)
        yield piece


def counted() -> Iterator[bytes]:
    for number in range(1, LINES + 1):
        yield b"%d of %d\n" % (number, LINES)


# ---------------------------------------------------------------------- ASGI 3

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def asgi_application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["type"] != "http":
        raise ValueError(f"this application has nothing for {scope['type']!r}")
    # `path` is the whole path, `root_path` the part of it where we are mounted.
    path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
    if path == "/echo":
        kind = dict(scope["headers"]).get(b"content-type") or b"application/octet-stream"
        await start(send, 200, (b"content-type", kind))
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})
    elif path == "/count":
        await start(send, 200, (b"content-type", TEXT.encode()))
        for line in counted():
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        status, text = (200, GREETING) if path == "/" else (404, NOT_FOUND)
        await start(send, status, (b"content-type", TEXT.encode()), (b"content-length", b"%d" % len(text)))
        await send({"type": "http.response.body", "body": text})


async def start(send: Send, status: int, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def lifespan(receive: Receive, send: Send) -> None:
    """The place for what is opened once a process, and closed at its end: a pool of connections, say."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
