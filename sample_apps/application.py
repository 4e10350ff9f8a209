"""One WSGI application that every interface serves: `application(environ, start_response)`.

Promise: the answers differ only in the line that names the interface; content is never held whole.
Must never know: how it is reached. Its runner may say so in `environ["sample.interface"]`.
Next: `flup_fastcgi.py`, `flup_scgi.py`, `http_server.py` and `cgi-bin/wsgi.py`, which run it.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

LINES = 10
PAUSE_S = 0.3
PIECE_BYTES = 64 * 1024


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """PEP 3333: chooses a page by PATH_INFO, the part of the path that is left to the application."""
    page = PAGES.get(environ.get("PATH_INFO", "").strip("/"))
    if page is None:
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"No such page here. There are: {', '.join(repr(name) for name in PAGES)}\n".encode()]
    return page(environ, start_response)


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    interface = environ.get("sample.interface", "WSGI")
    text = f"Hello from process {os.getpid()}, reached over {interface}.\n".encode()
    fields = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    start_response("200 OK", fields)
    return [text]


def environment(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A table of what the server told us (RFC 3875 4.1); everything shown is escaped."""
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    yield (
        b"<!doctype html><html lang=en><meta charset=utf-8><meta name=color-scheme content='light dark'>"
        b"<title>Environment</title><style>body{font:15px/1.5 system-ui;margin:2rem auto;max-width:60rem;"
        b"padding:0 1rem}td{padding:.2rem 1rem .2rem 0;font-family:ui-monospace,monospace;"
        b"overflow-wrap:anywhere}</style><h1>What the application is told</h1><table>"
    )
    for name in sorted(environ):
        if isinstance(environ[name], str) and name.isupper():
            yield f"<tr><td>{html.escape(name)}<td>{html.escape(environ[name])}\n".encode()
    yield b"</table>"


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Reads the content and answers how much it was: `curl --data-binary @file URL`."""
    # A worker's input is the connection itself: what lies beyond CONTENT_LENGTH is not ours.
    left_bytes = length_bytes = int(environ.get("CONTENT_LENGTH") or 0)
    digest = hashlib.sha256()
    while left_bytes:
        piece = environ["wsgi.input"].read(min(left_bytes, PIECE_BYTES))
        if not piece:
            break
        digest.update(piece)
        left_bytes -= len(piece)
    answer = {
        "bytes": length_bytes - left_bytes,
        "complete": left_bytes == 0,
        "sha256": digest.hexdigest(),
        "type": environ.get("CONTENT_TYPE", ""),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer, indent=1).encode() + b"\n"]


def stream(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Ten lines with a pause between them: each shows up at once if nothing on the way holds it back."""
    interface = environ.get("sample.interface", "WSGI")
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    for number in range(1, LINES + 1):
        yield f"line {number} of {LINES} over {interface}\n".encode()
        if number < LINES:
            time.sleep(PAUSE_S)


PAGES: dict[str, Callable[[Environ, StartResponse], Iterable[bytes]]] = {
    "": hello,
    "environment": environment,
    "echo": echo,
    "stream": stream,
}
