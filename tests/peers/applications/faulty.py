"""All that an application can do wrong, a page for each: WSGI as `application`, ASGI as `asgi_application`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

TEXT = "not an application"
released = threading.Event()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    page: Iterable[bytes] = PAGES[environ["PATH_INFO"].strip("/")](environ, start_response)
    return page


def answer(start_response: Any, content: bytes = b"whole") -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
    return [content]


def returning(result: Any) -> Any:
    def page(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return result

    return page


def starting(*arguments: Any) -> Any:
    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(*arguments)
        return [b"x"]

    return page


def raising(error: BaseException) -> Any:
    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise error

    return page


def raises_late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b""  # nothing is sent for that (PEP 3333)
    raise LookupError("raised late")


def recursion(environ: dict[str, Any], start_response: Any) -> Any:
    return recursion(environ, start_response)


def short_list(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10")])
    return [b"four"]


def short(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    yield from short_list(environ, start_response)


def long(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"four", b" and more"]


def midway(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10")])
    yield b"four"
    raise LookupError("raised midway")


class ClosesBadly(list[bytes]):
    def close(self) -> None:
        raise LookupError("raised in close")


def closes_badly(environ: dict[str, Any], start_response: Any) -> ClosesBadly:
    return ClosesBadly(answer(start_response))


def prints(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    print("printed with print", flush=True)
    os.write(1, b"Status: 500\r\n\r\nwritten to descriptor 1\n")
    os.system("echo echoed by a program")
    return answer(start_response)


def closes(descriptor: int) -> Any:
    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        os.close(descriptor)
        return answer(start_response)

    return page


def killed(environ: dict[str, Any], start_response: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def quits(environ: dict[str, Any], start_response: Any) -> Any:
    os._exit(3)


def forks_and_both_return(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return answer(start_response)


def forks_and_both_yield(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    yield b"wh"
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    yield b"ole"


def forks_and_the_child(ends: Any) -> Any:
    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        child = os.fork()
        if not child:
            ends()
        os.waitpid(child, 0)
        return answer(start_response)

    return page


def fails() -> None:
    raise LookupError("raised in the child")


def blocks(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    released.wait()
    return answer(start_response)


def release(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    released.set()
    return answer(start_response)


PAGES: dict[str, Any] = {
    "": lambda environ, start_response: answer(start_response),
    "pid": lambda environ, start_response: answer(start_response, str(os.getpid()).encode()),
    # what is no response
    "raises": raising(LookupError("raised at once")),
    "raises-lines": raising(LookupError("two\nforged line")),
    "raises-late": raises_late,
    "recursion": recursion,
    "exits": raising(SystemExit("enough")),
    "interrupt": raising(KeyboardInterrupt()),
    "none": returning(None),
    "text": returning("text"),
    "texts": returning(["text"]),
    "number": returning(5),
    "unstarted": lambda environ, start_response: [b"x"],
    "status-number": starting(200, []),
    "status-word": starting("fine", []),
    "status-lines": starting("200 OK\r\nX: y", []),
    "fields-text": starting("200 OK", "fields"),
    "field-number": starting("200 OK", [("Content-Length", 1)]),
    "field-lines": starting("200 OK", [("X", "a\r\nSet-Cookie: b=1")]),
    "field-name": starting("200 OK", [("X:Y Z", "a")]),
    "short-list": short_list,
    # what begins well
    "short": short,
    "long": long,
    "midway": midway,
    "closes-badly": closes_badly,
    # what is done to the process
    "prints": prints,
    "closes-0": closes(0),
    "closes-1": closes(1),
    "killed": killed,
    "quits": quits,
    "forks-return": forks_and_both_return,
    "forks-yield": forks_and_both_yield,
    "forks-quit": forks_and_the_child(lambda: os._exit(0)),
    "forks-exit": forks_and_the_child(sys.exit),
    "forks-fail": forks_and_the_child(fails),
    "blocks": blocks,
    "release": release,
}


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise ValueError("only http")  # as many do: they are served all the same
    page = scope["path"].removeprefix(scope["root_path"]).strip("/")
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    if page == "raises":
        raise LookupError("raised at once")
    if page == "nothing":
        return
    if page == "unstarted":
        await send({"type": "http.response.body", "body": b"x"})
    if page == "unknown":
        await send({"type": "http.response.nonsense"})
    if page == "text":
        await send({**start, "status": "200"})
    if page == "field-lines":
        await send({**start, "headers": [(b"x", b"a\r\nset-cookie: b=1")]})
    if page == "exits":
        sys.exit("enough")
    if page == "blocks":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send(start)
    if page in ("midway", "short"):
        await send({"type": "http.response.body", "body": b"wh", "more_body": True})
        if page == "midway":
            raise LookupError("raised midway")
    await send({"type": "http.response.body", "body": {"short": b"", "short-at-once": b"wh"}.get(page, b"whole")})


async def asgi_that_does_not_start(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no shelves to be had"})
