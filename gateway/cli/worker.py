"""`gateway worker`: hosts a WSGI or ASGI application as a worker, behind any web server.

Promise: what can't be imported or served is one message with its remedy, and exit code 2.
Must never know: how serving works. Next: `gateway/worker.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

EXAMPLES = """\
  gateway worker --bind unix:/run/hello.sock hello:application           FastCGI, behind nginx or Apache
  gateway worker --interface scgi --bind 127.0.0.1:4000 hello:app        SCGI
  gateway worker --interface http --bind 127.0.0.1:8001 hello:app        HTTP, behind a reverse proxy
  spawn-fcgi -s /run/hello.sock -n -- gateway worker hello:application   the socket comes on descriptor 0
"""


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    from gateway.models import MODELS

    parser = subparsers.add_parser(
        "worker",
        help="host a WSGI or ASGI application behind any web server",
        description="Hosts a Python application as a worker: a web server reaches it over FastCGI, SCGI or HTTP, "
        "or starts it as a CGI program.",
        epilog="examples:\n" + EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("application", metavar="MODULE:CALLABLE", help="what is called: hello:application")
    parser.add_argument(
        "--interface", "-i", choices=("fastcgi", "scgi", "http", "cgi"), default="fastcgi",
        help="what the web server speaks (default: fastcgi)",
    )  # fmt: skip
    parser.add_argument(
        "--bind", "-b", action="append", metavar="ADDRESS",
        help="unix:/path, 127.0.0.1:9000, or fd:0 for a socket handed over (default: fd:0); may be repeated",
    )  # fmt: skip
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--wsgi", dest="kind", action="store_const", const="wsgi", help="it is a WSGI application")
    kind.add_argument("--asgi", dest="kind", action="store_const", const="asgi", help="it is an ASGI application")
    parser.add_argument("--chdir", metavar="DIRECTORY", help="change there first; modules are found there, too")
    group = parser.add_argument_group("who runs")
    group.add_argument(
        "--concurrency", "-c", choices=MODELS, help="default: threadpool for WSGI, event for ASGI"
    )
    group.add_argument("--processes", "-p", type=int, metavar="N", help="how many processes; 0: one per core")
    group.add_argument("--threads", "-t", type=int, metavar="N", help="threads in each process")
    for name, text in (
        ("max", "processes (fork, prefork, threadpool) or threads (thread) at most"),
        ("min-spare", "idle ones at least: processes (prefork), threads (threadpool)"),
        ("max-spare", "idle ones at most"),
        ("requests", "a process ends after about so many, and another one takes its place; 0: never"),
        ("queue", "connections that wait for one of max (fork, thread)"),
    ):
        group.add_argument(f"--{name}", type=int, metavar="N", help=text)
    parser.add_argument(
        "--trusted-proxies", metavar="LIST", default="127.0.0.0/8,::1",
        help="http only: whose X-Forwarded-* fields are believed (default: this machine; over a unix socket: everybody)",
    )  # fmt: skip
    parser.add_argument("--grace", type=float, default=30.0, metavar="SECONDS", help="for what is in flight, at SIGTERM")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Host the application; the exit code."""
    from gateway.config_errors import ConfigError
    from gateway.errors import ServeError
    from gateway.hosting import HostingError

    try:
        return _run(args)
    except ConfigError as error:
        print(f"gateway worker: {error}", file=sys.stderr)
    except ServeError as error:
        # in a log, one line: what is wrong stands before what to do
        between = "\n  " if sys.stderr.isatty() else "; "
        print(f"gateway worker: {error.what}{between}{error.remedy}", file=sys.stderr)
        if args.interface == "cgi" and isinstance(error, HostingError):
            print("Status: 503 Service Unavailable\nContent-Type: text/plain\n\nThe application can't be started.")
            return 0
    return 2


def _run(args: argparse.Namespace) -> int:
    from gateway.errors import ServeError
    from gateway.hosting import load_application

    if args.chdir:
        try:
            os.chdir(args.chdir)
        except OSError as error:
            raise ServeError(f"--chdir {args.chdir}: {error.strerror}", "name a directory that is there") from None
    if args.interface == "cgi":
        if args.bind:
            raise ServeError("--bind means nothing for --interface cgi", "a CGI program gets its request on stdin")
        from gateway.worker import run_once

        return run_once(*load_application(args.application, args.kind))
    import ipaddress

    from gateway.config import parse_listen
    from gateway.models import ModelError, worker_hosting

    names = ("max", "min_spare", "max_spare", "requests", "queue")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    listen = parse_listen(*args.bind or ("fd:0",))
    try:
        trusted = [ipaddress.ip_network(one.strip(), strict=False) for one in args.trusted_proxies.split(",") if one.strip()]
    except ValueError as error:
        raise ServeError(f"--trusted-proxies: {error}", "addresses and networks: 127.0.0.1,10.0.0.0/8") from None
    app, kind = load_application(args.application, args.kind)
    concurrency = args.concurrency or ("event" if kind == "asgi" else "threadpool")
    try:
        hosting = worker_hosting(concurrency, args.processes, args.threads, given, blocks=kind == "wsgi")
    except ModelError as error:
        raise ServeError(f"--{error.key.replace('_', '-')} {error.value} {error.problem}", error.remedy) from None
    from gateway.worker import Settings, serve_app, tell_ready

    if os.path.samestat(os.fstat(1), os.stat(os.devnull)):  # a worker that was spawned: what is printed is for the log
        os.dup2(2, 1)

    notify = os.environ.pop("NOTIFY_SOCKET", "")

    def ready(listening: list[str]) -> None:
        if notify:
            tell_ready(notify)
        for name in listening:
            if name.startswith("fd:"):  # whoever has made the socket knows it
                continue
            print(f"{args.application} serves {args.interface} at {name} ({hosting})", file=sys.stderr, flush=True)

    serve_app(app, kind, Settings(args.interface, hosting, listen, trusted, grace_s=args.grace), ready=ready)
    return 0
