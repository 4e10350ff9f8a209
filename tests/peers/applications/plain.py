"""What the tests of web servers host: pages that tell what reached them, and wait for each other where a test wants.

`application` is WSGI and wants several threads in one process, `authorizer` an Authorizer (FastCGI 6.3),
`asgi_application` has the same pages as far as a test needs them.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

PIECES = 20
gates: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))
closed: defaultdict[str, threading.Event] = defaultdict(threading.Event)


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    page = environ.get("PATH_INFO", "").split("/")[1:2]
    return PAGES[page[0] if page else ""](environ, start_response)


def answer(start_response: Any, content: bytes, kind: str = "text/plain", status: str = "200 OK") -> list[bytes]:
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]


def name_of(environ: dict[str, Any]) -> str:
    return parse_qs(environ["QUERY_STRING"])["name"][0]


def environment(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    told = {name: value for name, value in environ.items() if isinstance(value, str | bool)}
    return answer(start_response, json.dumps(told).encode(), "application/json")


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return answer(start_response, environ["wsgi.input"].read(), environ.get("CONTENT_TYPE") or "a/b")


def stream(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Between two pieces the gate has to be opened."""
    gate = gates[name_of(environ)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(PIECES):
        yield b"piece %2d\n" % number
        gate.acquire()


def open_gate(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    gates[name_of(environ)].release()
    return answer(start_response, b"open")


def endless(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    name = name_of(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        while True:
            yield b"x" * 4096
    finally:
        closed[name].set()


def was_closed(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return answer(start_response, str(closed[name_of(environ)].wait(20)).encode())


def early(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Answers before it reads."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"early "
    yield environ["wsgi.input"].read()


def cookies(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/"), ("Content-Length", "0")])
    return []


def bare(status: str) -> Any:
    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, [("ETag", '"x"')])
        return []

    return page


def error(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise ZeroDivisionError("the application is wrong")


def breaks_off(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Once the gate is opened, if it has one."""
    asked = parse_qs(environ["QUERY_STRING"])
    fields = [("Content-Type", "text/plain")]
    fields += [("Content-Length", length) for length in asked.get("length", [])]
    start_response("200 OK", fields)
    yield b"x" * 4000
    for name in asked.get("name", []):
        gates[name].acquire()
    raise ZeroDivisionError("the application broke off")


PAGES: dict[str, Any] = {
    "": lambda environ, start_response: answer(start_response, b"the root"),
    "environ": environment,
    "echo": echo,
    "stream": stream,
    "open": open_gate,
    "endless": endless,
    "closed": was_closed,
    "early": early,
    "cookies": cookies,
    "none": bare("204 No Content"),
    "same": bare("304 Not Modified"),
    "reason": lambda environ, start_response: answer(start_response, b"tea", status="418 I'm A Teapot"),
    "error": error,
    "breaks-off": breaks_off,
    "pid": lambda environ, start_response: answer(start_response, str(os.getpid()).encode()),
}


def authorizer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Lets in who knows the word, or the password; the web server hands the variable on."""
    if environ.get("FCGI_ROLE") != "AUTHORIZER":
        return answer(start_response, b"no authorizer is wanted", status="500 Internal Server Error")
    if "open sesame" in (environ.get("HTTP_X_WORD"), environ.get("REMOTE_PASSWD")):
        start_response("200 OK", [("Variable-VISITOR", "Ali Baba"), ("Content-Length", "0")])
        return []
    return answer(start_response, b"forty thieves", status="403 Forbidden")


# ---------------------------------------------------------------------- ASGI

events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    path = scope["path"].removeprefix(scope["root_path"])
    name = parse_qs(scope["query_string"].decode()).get("name", [""])[0]
    content, more = b"", True
    while more:  # first, since nginx sends nothing more of it when it sees a response
        message = await receive()
        content += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if path == "/echo":
        await send({"type": "http.response.body", "body": content, "more_body": True})
    elif path == "/stream":
        for number in range(PIECES):
            await send({"type": "http.response.body", "body": b"piece %2d\n" % number, "more_body": True})
            await events[name].wait()
            events[name].clear()
    elif path == "/open":
        events[name].set()
    elif path == "/endless":
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 4096, "more_body": True})
        except OSError:  # the client has left; it is what `receive` says, too
            assert (await receive())["type"] == "http.disconnect"
        events[name].set()
        return
    elif path == "/closed":
        await events[name].wait()
        await send({"type": "http.response.body", "body": b"True", "more_body": True})
    else:
        told = {key: value.decode("latin-1") if isinstance(value, bytes) else value for key, value in scope.items()}
        told["headers"] = [(key.decode(), value.decode()) for key, value in scope["headers"]]
        octets = json.dumps(told, default=repr).encode()
        await send({"type": "http.response.body", "body": octets, "more_body": True})
    await send({"type": "http.response.body"})
