"""`gateway explain`: where a request would land and what a worker would get, without sending anything.

Promise: the answer comes from the code that serves, not from a second opinion.
Next: `gateway/routing.py`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import Any
from urllib.parse import urlsplit

from gateway.cli.serve import load
from gateway.config import App, Config, ConfigError, Route
from gateway.config_files import user_name
from gateway.ends import Address
from gateway.errors import GatewayError
from gateway.interfaces.http import origin_fields, origin_target
from gateway.interfaces.static import StaticInterface
from gateway.routing import Found, Programs, Router, host_name, matches
from gateway.site import SOFTWARE
from gateway.variables import EXCHANGE_ID
from protocols.cgi import field_variables, meta_variables
from protocols.http1 import HeadLimits, RequestReader, encode_lines, tokeniser
from protocols.message import FieldLine, LocalProtocolError, Peer, ProtocolError, RemoteProtocolError, Request
from protocols.target import encode_path, parse


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
    """Explain; the exit code: 0 if a worker would be asked or a file sent, 1 if not, 2 for a mistake."""
    try:
        config = load(args.config)
        head, peer = _head(args)
        request = _read(head, config)
    except RemoteProtocolError as error:
        if error.status == 400:
            print(f"gateway: no server takes such a request: {error.detail}", file=sys.stderr)
            return 2
        print(f"answer: {error.status}: {error.detail}")
        return 1
    except ProtocolError as error:
        print(f"gateway: this is no request: {error.detail}", file=sys.stderr)
        return 2
    except (ConfigError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return explain(config, request, peer)


def _head(args: argparse.Namespace) -> tuple[bytes, Peer]:
    """The octets that a client would send, and where it is. Raises ValueError, LocalProtocolError."""
    url = urlsplit(args.url)
    raw = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields: list[FieldLine] = [(b"Host", os.fsencode(url.netloc or "localhost"))]
    for line in args.header:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"{line!r} is no field line: 'Name: value'")
        if name.strip().lower() == "host":
            fields[0] = (b"Host", os.fsencode(value.strip()))
        else:
            fields.append((os.fsencode(name.strip()), os.fsencode(value.strip())))
    start = f"{args.request} {raw} HTTP/1.1"
    if "\r" in start or "\n" in start:
        raise LocalProtocolError("CR or LF in its first line")
    port = str(url.port or (443 if url.scheme == "https" else 80)).encode()
    peer = Peer(b"192.0.2.1", b"49152", b"192.0.2.2", port, url.scheme == "https")
    return os.fsencode(start) + b"\r\n" + encode_lines(fields) + b"\r\n", peer


def _read(head: bytes, config: Config) -> Request:
    """The request as the server reads it. Raises RemoteProtocolError."""
    limits = config.server.limits
    reader = RequestReader(
        tokeniser(config.server.http), HeadLimits(limits.request_line, limits.header_fields, limits.header_count)
    )
    request = reader.receive(head)[0]
    assert isinstance(request, Request)
    return request


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
        if found.redirect:
            return _redirect(found.redirect)
        if (request.length or 0) > found.route.content_limit:
            print(f"\nanswer: 413: the content has {request.length:,} octets, the limit is {found.route.content_limit:,}")
            return 1
        _print_place(found)
        _print_worker(found, config)
        if found.route.interface == "static":
            return _file(found, request, config)
    except GatewayError as error:
        print(f"\nanswer: {error.status} ({error.cause}): {error.detail}")
        if error.remedy:
            print(f"  remedy: {error.remedy}")
        return 1
    if found.route.interface == "http":
        _print_request(found, request)
    else:
        _print_variables(found, request, peer)
    return 0


def _redirect(location: bytes) -> int:
    print(f"\nanswer: 301 to {_text(location)}: the path is a directory")
    return 1


def _file(found: Found, request: Request, config: Config) -> int:
    """What a static route answers; the exit code. Raises GatewayError."""
    interface = StaticInterface(found.route, Programs(config.routes))
    path, descriptor, status = interface.find(request.method, found)
    name = _text(os.path.join(interface.root, path))
    if descriptor >= 0:
        os.close(descriptor)
        print(f"\nanswer: 200, the file {name}, {status.st_size:,} octets")
    elif found.target.path.endswith(b"/"):
        print(f"\nanswer: 200, a list of what lies in {name}")
    else:
        raw_path, mark, query = found.target.raw_path.partition(b"?")
        return _redirect(raw_path + b"/" + mark + query)
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
        _print_app(config.apps[route.app], route.interface)
    for address in route.addresses:
        print(f"  address {address}")
    if not route.addresses:  # who runs others' workers they know
        own = config.apps[route.app].user if route.app is not None else None
        print(f"  user {own or config.server.user or f'who runs the gateway (now {user_name(os.geteuid())})'}")
    if route.interface == "static":
        return
    if route.interface != "cgi":
        print(f"  connected within {_seconds(route.connect_s)}")
    print(f"  content at most {route.content_limit:,} octets")
    print(f"  response head within {_seconds(route.response_s)}, between two reads {_seconds(route.read_s)}, "
          f"in all {_seconds(route.total_s)}")  # fmt: skip
    if route.interface == "cgi":
        print(f"  at most {route.processes} at the same time, {route.queue} waiting")


def _print_app(app: App, interface: str) -> None:
    if app.kind == "command":
        print(f"  app {app.name}: {app.staff} x {_text(b' '.join(app.command))} in {_text(app.directory)}")
        return
    from gateway.app_launch import hosting_command

    print(f"  app {app.name}: {app.kind} {app.specifier}, a module in {_text(app.directory)}, or one that is installed")
    who = "a process for each request" if interface == "cgi" else str(app.hosting)
    print(f"  hosted by {who}:")
    print(f"    {shlex.join(map(os.fsdecode, hosting_command(app, interface)))}")


def _print_request(found: Found, request: Request) -> None:
    route = found.route
    prefix = route.match.value.rstrip(b"/") if route.strip_prefix else b""
    print(f"\nrequest-target: {_text(origin_target(found.target, prefix))}")
    address = route.addresses[0] if route.addresses else Address(path="/")  # of an app: a socket that is made for it
    whom = f"app {route.app}" if route.app is not None else str(address)
    authority = "localhost" if address.path else address.host if address.service else str(address)
    print(f"field lines for {whom}, beside those that tell of the client and of the length:")
    for name, value in origin_fields(request, route, authority):
        if route.app is None or name.lower() != b"x-forwarded-prefix":
            print(f"  {_text(name)}: {_text(value)}")
    if route.app is not None and found.place.script_name:
        print(f"  X-Forwarded-Prefix: {_text(encode_path(found.place.script_name))}")


def _print_variables(found: Found, request: Request, peer: Peer) -> None:
    route = found.route
    print("\nmeta-variables, for a client at 192.0.2.1:")
    variables = meta_variables(
        request, found.target, found.place, peer, software=SOFTWARE, environment=route.environment,
        content_length=request.length, authorization=route.authorization,
    )  # fmt: skip
    variables.setdefault(EXCHANGE_ID, b"(another one each time)")
    for name, value in sorted(variables.items()):
        print(f"  {_text(name)}={_text(value)}")

    def dropped(name: bytes) -> None:
        print(f"dropped, as its variable could be that of another name: {_text(name)}")

    field_variables(request, peer, dropped=dropped)


def _seconds(length_s: float) -> str:
    return f"{length_s:g} s" if length_s else "no bound"


def _name(route: Route) -> str:
    return f"routes[{route.number + 1}] {route.path} ({route.interface})"


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")
