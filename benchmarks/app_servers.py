"""The application servers that are compared: one command each, and what nginx has to say to reach it.

Promise: each hosts sample_apps/hello.py in one worker process at a unix socket, without an access log, with what its
manual offers for speed; connections from nginx are kept where the server keeps them.
Must never know: how it is measured. Next: `apps.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.running import PYTHON
from benchmarks.servers import SAYS_VERSION, nginx_params

WSGI_APP = "sample_apps.hello:application"
ASGI_APP = "sample_apps.hello:asgi_application"
GREETING = b"Hello, world\n"
KEEP_S = 75
THREADS = 8
UWSGI = str(Path(sys.executable).with_name("uwsgi"))

SAYS_VERSION.update(
    {
        "gunicorn": [*PYTHON, "gunicorn", "--version"],
        "uvicorn": [*PYTHON, "uvicorn", "--version"],
        "uwsgi": [UWSGI, "--version"],
    }
)


@dataclass(frozen=True)
class AppServer:
    """One way to host the application."""

    program: str
    """Whose version is shown."""
    kind: str
    """wsgi or asgi: what it is compared with."""
    protocol: str
    """What nginx speaks to it: http, fastcgi, scgi, uwsgi."""
    command: Callable[[str], list[str]]
    """For the path of its socket."""
    keeps: bool
    """Whether connections from nginx are kept."""
    note: str


def _gunicorn(*options: str) -> Callable[[str], list[str]]:
    return lambda path: [
        *PYTHON, "gunicorn", "--bind", f"unix:{path}", "--workers", "1", "--worker-tmp-dir", "/dev/shm",
        "--graceful-timeout", "2", "--log-level", "warning", *options, WSGI_APP,
    ]  # fmt: skip


def _uwsgi(socket: str, *options: str) -> Callable[[str], list[str]]:
    return lambda path: [
        UWSGI, f"--{socket}", path, "--module", WSGI_APP, "--master", "--processes", "1", "--need-app",
        "--disable-logging", "--die-on-term", *options,
    ]  # fmt: skip


def _uvicorn(path: str) -> list[str]:
    return [
        *PYTHON, "uvicorn", "--uds", path, "--workers", "1", "--loop", "uvloop", "--http", "httptools",
        "--no-access-log", "--no-proxy-headers", "--log-level", "warning", "--timeout-keep-alive", str(KEEP_S), ASGI_APP,
    ]  # fmt: skip


def _gateway(interface: str, app: str, *options: str) -> Callable[[str], list[str]]:
    return lambda path: [
        *PYTHON, "gateway", "worker", "--interface", interface, "--bind", f"unix:{path}", "--grace", "2",
        "--processes", "1", *options, app,
    ]  # fmt: skip


INTERFACES = {"http": "kept connections", "fastcgi": "kept connections", "scgi": "a connection for each request"}
SHAPES = {
    "1": (("--concurrency", "threadpool", "--threads", "1", "--requests", "0"), "threadpool, 1 thread"),
    "8": (("--concurrency", "threadpool", "--threads", str(THREADS), "--requests", "0"), f"threadpool, {THREADS} threads"),
    "prefork": (("--concurrency", "prefork", "--requests", "0"), "prefork, 1 process"),
}


def _ours() -> dict[str, AppServer]:
    found = {}
    for interface, connections in INTERFACES.items():
        keeps = interface != "scgi"
        for shape, (options, words) in SHAPES.items():
            found[f"gateway-{interface}-{shape}"] = AppServer(
                "gateway", "wsgi", interface, _gateway(interface, WSGI_APP, *options), keeps, f"{words}; {connections}"
            )
    for interface, connections in INTERFACES.items():
        found[f"gateway-{interface}-asgi"] = AppServer(
            "gateway", "asgi", interface, _gateway(interface, ASGI_APP, "--concurrency", "event"), interface != "scgi",
            f"event, 1 loop; {connections}",
        )
    return found


BASES = {"wsgi": "gunicorn-sync", "asgi": "uvicorn"}
SERVERS: dict[str, AppServer] = {
    "gunicorn-sync": AppServer(
        "gunicorn", "wsgi", "http", _gunicorn("--worker-class", "sync"), False,
        "the base of WSGI; a connection for each request: a sync worker keeps none",
    ),
    "gunicorn-gthread": AppServer(
        "gunicorn", "wsgi", "http",
        _gunicorn("--worker-class", "gthread", "--threads", str(THREADS), "--keep-alive", str(KEEP_S)), True,
        f"{THREADS} threads; kept connections",
    ),
    "uwsgi": AppServer(
        "uwsgi", "wsgi", "uwsgi", _uwsgi("socket"), False,
        "written in C, and the uwsgi protocol is the simplest; 1 thread; a connection for each request: it keeps none",
    ),
    "uwsgi-threads": AppServer(
        "uwsgi", "wsgi", "uwsgi", _uwsgi("socket", "--threads", str(THREADS)), False,
        f"as uwsgi, with {THREADS} threads",
    ),
    "uwsgi-http": AppServer(
        "uwsgi", "wsgi", "http", _uwsgi("http-socket"), False,
        "as uwsgi, but HTTP (http-socket, without its router); a connection for each request",
    ),
    "uvicorn": AppServer(
        "uvicorn", "asgi", "http", _uvicorn, True,
        "the base of ASGI; uvloop and httptools, without X-Forwarded-*; kept connections",
    ),
    **_ours(),
}  # fmt: skip


def nginx_server(name: str, server: AppServer, path: str, port: int) -> str:
    """An upstream, and a server at a port of its own: the application is mounted at /."""
    upstream = f"upstream {name} {{ server unix:{path}; {'keepalive 64;' if server.keeps else ''} }}"
    if server.protocol == "http":
        how = f'proxy_pass http://{name}; proxy_http_version 1.1; proxy_set_header Connection "";'
    else:
        keep = "fastcgi_keep_conn on;" if server.protocol == "fastcgi" and server.keeps else ""
        params = nginx_params(server.protocol, '""')
        how = f"{server.protocol}_pass {name}; {keep} {params} {server.protocol}_param PATH_INFO $document_uri;"
    return f"{upstream}\n  server {{ listen 127.0.0.1:{port} backlog=1024; server_name localhost; location / {{ {how} }} }}"
