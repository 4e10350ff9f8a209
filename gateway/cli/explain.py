"""`gateway explain`: where a request would land and what a worker would get, without sending anything.

Promise: the answer comes from the code that serves, not from a second opinion.
Next: `gateway/routing.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from gateway.cli.serve import load
from gateway.config import Config, ConfigError, Route
from gateway.errors import GatewayError
from gateway.routing import Found, Router, host_name, matches
from gateway.site import SOFTWARE
from protocols.cgi import meta_variables
from protocols.fields import forwardable
from protocols.message import FieldLine, Peer, RemoteProtocolError, Request
from protocols.target import parse


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "explain", help="which route takes a request, and what a worker would get",
        description="Tells which route takes a request and why the others do not, how the path is mapped, and every "
        "meta-variable that a worker would get. Nothing is sent.",
    )  # fmt: skip
    parser.add_argument("url", metavar="URL", help="http://host:port/path?query, or only a path")
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG or DIRECTORY", help="default: as for `gateway serve`"
    )
    parser.add_argument("-X", "--request", default="GET", metavar="METHOD")
    parser.add_argument("-H", "--header", action="append", default=[], metavar="'Name: value'")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain; the exit code: 0 if a worker would be asked, 1 if not, 2 for a mistake."""
    try:
        config = load(args.config)
        request, peer = _request(args)
    except (ConfigError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return explain(config, request, peer)


def _request(args: argparse.Namespace) -> tuple[Request, Peer]:
    url = urlsplit(args.url)
    raw = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = (url.netloc or "localhost").encode()
    fields: list[FieldLine] = [(b"Host", host)]
    for line in args.header:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"{line!r} is no field line: 'Name: value'")
        if name.strip().lower() == "host":
            host = value.strip().encode()
            fields[0] = (b"Host", host)
        else:
            fields.append((name.strip().encode(), value.strip().encode()))
    port = str(url.port or (443 if url.scheme == "https" else 80)).encode()
    peer = Peer(b"192.0.2.1", b"49152", b"192.0.2.2", port, url.scheme == "https")
    return Request(args.request.encode(), os.fsencode(raw), fields, host=host), peer


def explain(config: Config, request: Request, peer: Peer) -> int:
    """Print the answer; the exit code."""
    print(f"{_text(request.method)} {_text(request.target)}  (Host: {_text(request.host)})")
    try:
        target = parse(request.method, request.target)
    except RemoteProtocolError as error:
        print(f"  400: {error.detail}")
        return 1
    print(f"  path, decoded and normalised once: {_text(target.path)}")
    if target.query:
        print(f"  query, as it was sent: {_text(target.query)}")
    router = Router(config.routes)
    print("\nroutes, in the order in which they are tried:")
    chosen = router.candidates(request.host, target)
    taker = next((route for route in chosen if not route.methods or request.method in route.methods), None)
    for route in router.routes:
        print(f"  {_name(route)}: {_verdict(route, chosen, taker, request, target.path)}")
    try:
        found = router.resolve(request.method, request.host, request.target)
    except GatewayError as error:
        print(f"\nanswer: {error.status} ({error.cause}): {error.detail}")
        if error.remedy:
            print(f"  remedy: {error.remedy}")
        return 1
    if found.redirect:
        print(f"\nanswer: 301 to {_text(found.redirect)}: the path is a directory")
        return 1
    _print_place(found)
    _print_worker(found, config)
    _print_variables(found, request, peer)
    return 0


def _verdict(route: Route, chosen: list[Route], taker: Route | None, request: Request, path: bytes) -> str:
    if route is taker:
        return "takes it"
    if route in chosen:
        if route.methods and request.method not in route.methods:
            return f"matches, but only for {_text(b' '.join(sorted(route.methods)))}"
        return "matches, too, but comes later"
    if route.hosts and host_name(request.host) not in route.hosts:
        return f"is for host {_text(b' '.join(route.hosts))}"
    if not matches(route, path):
        return f"does not match: {route.match.kind.value} {_text(route.match.value)}"
    return "does not match"


def _print_place(found: Found) -> None:
    place = found.place
    print("\nplace:")
    if found.route.interface == "static":
        file = (found.route.root or b"").rstrip(b"/") + (place.path_info or b"/")
        print(f"  file: {_text(file)} ({_there(file)})")
        return
    print(f"  SCRIPT_NAME      {_text(place.script_name) or '(empty)'}")
    print(f"  PATH_INFO        {_text(place.path_info) or '(none)'}")
    if place.script_filename:
        print(f"  SCRIPT_FILENAME  {_text(place.script_filename)} ({_there(place.script_filename)})")


def _there(file: bytes) -> str:
    return "exists" if os.path.exists(file) else "does not exist"


def _print_worker(found: Found, config: Config) -> None:
    route = found.route
    print(f"\ninterface {route.interface}:")
    if route.app is not None:
        app = config.apps[route.app]
        print(f"  app {app.name}: {app.workers} x {_text(b' '.join(app.command))} in {_text(app.directory)}")
    for address in route.addresses:
        print(f"  address {address}")
    user = config.server.user or f"the one who runs the gateway (uid {os.geteuid()})"
    print(f"  user {user}")
    if route.interface == "static":
        return
    if route.interface != "cgi":
        print(f"  connected within {_seconds(route.connect_s)}")
    print(f"  content at most {route.content_limit:,} octets")
    print(f"  response head within {_seconds(route.response_s)}, between two reads {_seconds(route.read_s)}, "
          f"in all {_seconds(route.total_s)}")  # fmt: skip
    if route.interface == "cgi":
        print(f"  at most {route.processes} at the same time, {route.queue} waiting")


def _print_variables(found: Found, request: Request, peer: Peer) -> None:
    route = found.route
    if route.interface == "static":
        return
    if route.interface == "http":
        print(f"\nrequest-target: {_text(found.target.raw_path)}\nfield lines, beside those about forwarding:")
        for name, value in forwardable(request.fields):
            print(f"  {_text(name)}: {_text(value)}")
        return
    print("\nmeta-variables, for a client at 192.0.2.1:")
    variables = meta_variables(
        request, found.target, found.place, peer, software=SOFTWARE, environment=route.environment,
        authorization=route.authorization,
    )  # fmt: skip
    for name, value in sorted(variables.items()):
        print(f"  {_text(name)}={_text(value)}")


def _seconds(length_s: float) -> str:
    return f"{length_s:g} s" if length_s else "no bound"


def _name(route: Route) -> str:
    return f"routes[{route.number + 1}] {route.path} ({route.interface})"


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")
