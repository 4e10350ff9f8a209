"""One application twice: `application` for WSGI, `asgi_application` for ASGI. Both have the same three pages.

    [apps.hello]
    wsgi = "sample_apps.hello:application"        # or: asgi = "sample_apps.hello:asgi_application"

/ greets, /echo answers with the content that it was sent, /count is streamed, a line at a time.

Promise: the two answer alike, octet for octet.
Must never know: how it is reached, or where it is mounted.
Next: `application.py`, a larger WSGI application that flup, CGI and the standard library run, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any

GREETING = b"Hello, world\n"
NOT_FOUND = b"No such page: there are /, /echo and /count\n"
LINES = 10
TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"

# ---------------------------------------------------------------------- WSGI (PEP 3333)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    # SCRIPT_NAME is where we are mounted, PATH_INFO what is left of the path.
    path = environ.get("PATH_INFO") or "/"
    if path == "/count":
        start_response("200 OK", [("Content-Type", TEXT)])
        return counted()
    status, kind, text = "200 OK", TEXT, GREETING
    if path == "/echo":
        kind = environ.get("CONTENT_TYPE") or BINARY
        # All of it before the answer: nginx sends nothing more of a request whose response has begun.
        text = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    elif path != "/":
        status, text = "404 Not Found", NOT_FOUND
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(text)))])
    return [text]


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
    if path == "/count":
        await start(send, 200, (b"content-type", TEXT.encode()))
        for line in counted():
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body"})
        return
    status, kind, text = 200, TEXT.encode(), GREETING
    if path == "/echo":
        kind = dict(scope["headers"]).get(b"content-type") or BINARY.encode()
        text = await content(receive)
    elif path != "/":
        status, text = 404, NOT_FOUND
    await start(send, status, (b"content-type", kind), (b"content-length", b"%d" % len(text)))
    await send({"type": "http.response.body", "body": text})


async def start(send: Send, status: int, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def content(receive: Receive) -> bytes:
    pieces = []
    more = True
    while more:
        message = await receive()  # an http.disconnect has neither key
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def lifespan(receive: Receive, send: Send) -> None:
    """The place for what is opened once a process, and closed at its end: a pool of connections, say."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
