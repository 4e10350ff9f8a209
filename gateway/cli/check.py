"""`gateway check`: is the config right, what will be served, what is legal but unwise.

Promise: sends nothing, starts nothing; exit code 2 for a mistake, 0 otherwise.
Next: `gateway/config.py`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import pwd
import shlex
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

from gateway.config import App, Config, ConfigError, Kind, Route, load_config
from gateway.config_files import Fault, directory_fault, log_directory_fault, program_fault
from gateway.ends import Address
from gateway.models import Hosting, cores, worker_hosting
from protocols.target import encode_path, parse


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "check", help="validate a config file and print its routes",
        description="Validates a config file, prints the routes in the order in which they are tried, and warns "
        "of what is legal but unwise. Exit code 2 for a mistake. Applications are not imported: to try one, run the "
        "command line that `gateway explain` shows.",
    )  # fmt: skip
    parser.add_argument("config", nargs="?", default="gateway.toml", metavar="CONFIG")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check; the exit code."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    try:
        config = load_config(args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(highlight=False, soft_wrap=True)
    table = Table(title=Text(f"{args.config}: routes in the order in which they are tried"), title_justify="left")
    for heading in ("path", "hosts", "interface", "target", "notable"):
        table.add_column(heading, overflow="fold")
    for row in rows(config):
        table.add_row(*map(Text, row))  # as they are: brackets in a path are no markup
    console.print(f"server: {config.server.hosting}", markup=False)
    console.print(table)
    for warning in warnings(config):
        console.print(f"{warning.level}: {warning.text}", markup=False)
    return 0


def rows(config: Config) -> Iterator[tuple[str, str, str, str, str]]:
    """What the table shows of each route."""
    from gateway.routing import Router

    for route in Router(config.routes).routes:
        hosts = b" ".join(route.hosts).decode() or "any"
        yield route.path, hosts, route.interface, target(route, config), ", ".join(notable(route))


def target(route: Route, config: Config) -> str:
    if route.app is not None:
        app = config.apps[route.app]
        if app.kind == "command":
            return f"app {app.name}: {app.staff} x {shlex.join(map(os.fsdecode, app.command))}"
        who = "a process for each request" if route.interface == "cgi" else str(app.hosting)
        return f"app {app.name}: {app.specifier}, {who}"
    if route.addresses:
        return " ".join(map(str, route.addresses))
    return os.fsdecode(route.script or route.root or b"")


def notable(route: Route) -> Iterator[str]:
    """Settings of a route that are not the defaults, as they are written."""
    plain = Route(number=0, path="", match=route.match, interface=route.interface)
    if route.methods:
        yield "only " + b" ".join(sorted(route.methods)).decode()
    for name in ("split", "index", "symlinks", "on_disconnect", "keepalive", "host"):
        value = getattr(route, name)
        if value != getattr(plain, name):
            shown = b" ".join(value) if isinstance(value, tuple) else value
            yield f"{name} {shown.decode() if isinstance(shown, bytes) else shown}"
    for name in ("authorization", "indexed_query", "listing", "strip_prefix"):
        if getattr(route, name):
            yield name
    for name in ("request_buffering", "websocket"):
        if not getattr(route, name):
            yield f"no {name}"
    if route.terms.balance != plain.terms.balance:
        yield f"{route.terms.balance} {route.terms.hash}".strip()
    if route.terms.check is not None:
        yield f"asked every {route.terms.check.every_s:g} s"
    if route.response_s != plain.response_s:
        yield f"response {route.response_s:g} s"
    if route.total_s:
        yield f"total {route.total_s:g} s"
    if route.content_limit != plain.content_limit:
        yield f"content {route.content_limit:,} octets"


class Warning(NamedTuple):
    level: str
    """"warning" for what is unwise, "note" for what may be meant."""
    text: str


def warnings(config: Config) -> Iterator[Warning]:
    """What is legal but unwise, each with the remedy."""
    if os.geteuid() == 0 and config.server.user is None:
        yield Warning(
            "warning", 'running as root: scripts and workers would be root, too; set server.user = "www-data"'
        )
    yield from _model_warnings("server", config.server.hosting)
    for number, route in enumerate(config.routes, 1):
        yield from _route_warnings(number, route, config)
    for app in config.apps.values():
        yield from _app_warnings(app, config)
    user = config.server.user
    for key, log in (("access", config.log.access), ("error", config.log.error)):
        if user is not None and log is not None and log not in ("-", "syslog"):
            for fault in _faults(log_directory_fault(log, user)):
                yield Warning("warning", f"log.{key}: {fault}: else no new log can be begun when this one was renamed")
    if config.file is not None:
        file = os.path.realpath(os.fsencode(config.file))
        for path in _sent_at(file, config):
            yield Warning("warning", f"this config file is sent to everybody at {path}: move it out of the static root")


def _route_warnings(number: int, route: Route, config: Config) -> Iterator[Warning]:
    where = f"routes[{number}] {route.path}"
    first = next((r for r in config.routes if r is not route and r.number < route.number and _takes_all(r, route)), None)
    if first is not None:
        yield Warning("warning", f"{where} is never reached: routes[{first.number + 1}] takes all its paths")
    for level, told in _writable_scripts(route):
        yield Warning(level, f"{where}: {told}")
    if config.server.user is not None:
        root = directory_fault(os.fsdecode(route.root), config.server.user) if route.root is not None else None
        script = program_fault(os.fsdecode(route.script), config.server.user) if route.script is not None else None
        for fault in _faults(root, script):
            yield Warning("warning", f"{where}: {fault}")
    sources = route.script
    if route.interface != "static" and route.root is not None and route.match.kind is not Kind.SUFFIX:
        sources = route.root
    for path in _sent_at(os.path.realpath(sources), config) if sources is not None and _shown(sources, config) else ():
        yield Warning(
            "warning",
            f"{where}: its source is also sent as it is, at {path}: move it out of the static root, "
            "or give the route that path",
        )  # fmt: skip
    for address in route.addresses:
        if not address.service and not _answers(address):
            yield Warning("note", f"{where}: nobody listens at {address} now")
    if route.authorization:
        yield Warning("note", f"{where}: passwords that clients send are passed to the worker (authorization = true)")


def _app_warnings(app: App, config: Config) -> Iterator[Warning]:
    where, user = f"apps.{app.name}", config.server.user
    if not any(route.app == app.name for route in config.routes):
        yield Warning("warning", f"{where}: no route uses it, so it is not started")
        return
    if app.kind == "command":
        faults = [program_fault(os.fsdecode(app.command[0]), app.user or user)]
    else:
        faults = [program_fault(app.python, app.user or user), directory_fault(os.fsdecode(app.directory), app.user or user)]
        yield from _hosted_warnings(app, config)
    for fault in _faults(*faults):
        yield Warning("warning", f"{where}: {fault}")
    if app.user is None or app.user == user:
        return
    where += f".user = {app.user!r}"
    if user is not None:
        yield Warning("warning", f"{where}: the gateway is {user!r} by then and will not start: remove one of the two users")
    elif os.geteuid() not in (0, pwd.getpwnam(app.user).pw_uid):
        yield Warning("note", f"{where}: only a gateway that root starts can run it so")


def _hosted_warnings(app: App, config: Config) -> Iterator[Warning]:
    """Of a Python application; that it can be imported is not known before its worker does it."""
    where = f"apps.{app.name}"
    used = {route.interface for route in config.routes if route.app == app.name}
    yield from _model_warnings(where, app.hosting)
    if used == {"cgi"} and app.hosting != worker_hosting(_USUAL[app.kind], blocks=app.kind == "wsgi"):
        yield Warning(
            "warning",
            f"{where}: concurrency, workers and threads count for nothing under cgi: each request is a process of its own; "
            "`processes` of the route bounds them",
        )  # fmt: skip
    if app.kind == "asgi" and used != {"cgi"} and app.hosting.concurrency in _ASGI_IN:
        yield Warning("note", f"{where}: {_ASGI_IN[app.hosting.concurrency]}")
    there, source = _find_module(app)
    if not there:
        module = app.specifier.partition(":")[0]
        yield Warning(
            "warning",
            f"{where}: there is no module {module!r} in {os.fsdecode(app.directory)}, nor is one installed: "
            "set `directory` to where it lies",
        )  # fmt: skip
    if source is None:
        return
    file = os.fsencode(source)
    for told in _writable([file, os.path.dirname(file)]):
        yield Warning("warning", f"{where}: {told}")
    if _shown(file, config):
        for path in _sent_at(os.path.realpath(file), config):
            told = f"its source is also sent as it is, at {path}: move it out of the static root"
            yield Warning("warning", f"{where}: {told}")


_USUAL = {"wsgi": "threadpool", "asgi": "event"}
_ASGI_IN = {
    "single": "ASGI under `single` serves one connection at a time, so requests that only wait keep all others waiting; "
    "`event` serves them together",
    "fork": "ASGI under `fork` begins the lifespan of the application anew for each connection, in a process of its own; "
    "`event` begins it once a process",
}  # fmt: skip


def _model_warnings(where: str, hosting: Hosting) -> Iterator[Warning]:
    if hosting.concurrency == "threadpool" and hosting.threads > MANY_THREADS:
        yield Warning(
            "note", f"{where}.threads = {hosting.threads}: the threads of a process run one at a time; "
            "for work that is more than waiting, more processes with fewer threads do more",
        )  # fmt: skip
    if hosting.concurrency == "event" and hosting.processes > MANY_PROCESSES * cores():
        yield Warning(
            "warning", f"{where}: {hosting.processes} event loops for {cores()} processor cores: each can fill a core, "
            f"so more than {cores()} only cost memory",
        )  # fmt: skip


MANY_THREADS = 64
MANY_PROCESSES = 4
"""For each core."""


def _find_module(app: App) -> tuple[bool, str | None]:
    """Whether a worker may find the module, and its file where we know it; nothing is imported."""
    importlib.invalidate_caches()
    path = [os.fsdecode(app.directory), *os.fsdecode(dict(app.environment).get(b"PYTHONPATH", b"")).split(":")]
    first, *rest = app.specifier.partition(":")[0].split(".")
    try:
        spec = PathFinder.find_spec(first, [one for one in path if one])
        if spec is None and app.python != sys.executable:
            return True, None  # what is installed for another interpreter only that one knows
        spec = spec or importlib.util.find_spec(first)
        name = first
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return False, None
            name += "." + part
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    except (ImportError, KeyError, ValueError):  # a package that only an import could tell more of
        return True, None
    return spec is not None, spec.origin if spec is not None and spec.has_location else None


def _faults(*faults: Fault | None) -> Iterator[str]:
    for fault in faults:
        if fault is not None:
            yield f"{fault.problem}: {fault.remedy}" if fault.remedy else fault.problem


def _shown(sources: bytes, config: Config) -> bool:
    """Whether static routes may send what lies there at all."""
    from gateway.routing import Programs

    real = os.path.realpath(sources)
    return not Programs(config.routes).hold(real + b"/x" if os.path.isdir(real) else real, 0o644)


def _writable_scripts(route: Route) -> Iterator[Warning]:
    """What a cgi route runs, or the directory it lies in, where everybody may change it."""
    if route.interface != "cgi" or route.app is not None:
        return
    names = [route.root] if route.root is not None else [route.script or b"/", os.path.dirname(route.script or b"/")]
    if route.root is not None:
        try:
            names += [os.path.join(route.root, name) for name in os.listdir(route.root)]
        except PermissionError:
            told = f"{os.fsdecode(route.root)} may not be read, so who may write to the scripts in it is not known"
            yield Warning("note", told)
    for told in _writable(names):
        yield Warning("warning", told)


def _writable(names: Iterable[bytes]) -> Iterator[str]:
    """The files and directories that everybody may change."""
    for name in names:
        try:
            mode = os.stat(name).st_mode
        except OSError:  # a link to nothing, or to where we may not look
            continue
        if mode & stat.S_IWOTH and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            path = os.fsdecode(name)
            yield f"everybody may write to {path} and so run programs here: chmod o-w {path}"


def _takes_all(first: Route, second: Route) -> bool:
    """Whether nothing is left for `second`, which is tried after `first`."""
    a, b = first.match, second.match
    same = a == b or (a.kind is b.kind is Kind.PREFIX and a.value.rstrip(b"/") == b.value.rstrip(b"/"))
    hosts = set(second.hosts) <= set(first.hosts) and bool(second.hosts) == bool(first.hosts)
    methods = not first.methods or (bool(second.methods) and second.methods <= first.methods)
    return same and hosts and methods


def _sent_at(name: bytes, config: Config) -> Iterator[str]:
    """The paths at which a static route sends a file, or what lies in a directory."""
    from gateway.routing import Router

    probe = b"/x" if os.path.isdir(name) else b""
    run = tuple(r.match.value for r in config.routes if r.match.kind is Kind.SUFFIX and r.interface != "static")
    router = Router(config.routes)
    hosts = {b"", *(host for route in config.routes for host in route.hosts)}
    for other in config.routes:
        if other.interface != "static" or other.root is None or other.match.kind is not Kind.PREFIX:
            continue
        root = os.path.realpath(other.root).rstrip(b"/")
        below = name[len(root) :]
        if (name != root and not name.startswith(root + b"/")) or b"/." in below or (run and below.endswith(run)):
            continue
        path = other.match.value.rstrip(b"/") + below
        target = parse(b"GET", encode_path(path + probe))
        if any(router.candidates(host, target)[:1] == [other] for host in hosts):
            yield os.fsdecode(path) or "/"


def _answers(address: Address) -> bool:
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(0.5)
        try:
            sock.connect(address.path or (address.host, address.port))
        except OSError:
            return False
    return True
