"""The config file: TOML in, frozen values out, or one clear message.

Promise: whatever is accepted can be served: paths exist, programs can be run, every key has a meaning
for its interface. Paths in the file are relative to the file.
Must never know: sockets, processes. Next: `config_keys.py`, the table of keys.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from gateway import config_files as files
from gateway import config_keys as keys
from gateway import config_values as values
from gateway.config_apps import App, read_app
from gateway.config_errors import ConfigError, find_line, nearest
from gateway.config_tables import Tables
from gateway.config_workers import is_named, read_terms
from gateway.ends import Address
from gateway.models import KNOWN_TO, MODELS, Children, Hosting, ModelError, server_hosting
from gateway.observe.access_log import Format, FormatError
from gateway.upstreams.terms import Terms

__all__ = ["App", "Config", "ConfigError", "Route", "directory_config", "load_config", "parse_listen"]

Listen: TypeAlias = Address | int
"""An address, or the number of a descriptor that listens already."""
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Kind(Enum):
    """How a route's `path` is compared."""

    PREFIX = "prefix"
    EXACT = "exact"
    SUFFIX = "suffix"


class Match(msgspec.Struct, frozen=True):
    kind: Kind
    value: bytes
    """The path or suffix in octets, without the sign that tells the kind."""


class Limits(msgspec.Struct, frozen=True):
    request_line: int = 8 * 1024
    header_fields: int = 32 * 1024
    header_count: int = 100
    content: int = 1 << 30
    connections: int = 10_000


class Timeouts(msgspec.Struct, frozen=True):
    """Of the server, in seconds; 0 in the file is `inf` here."""

    header_s: float = 10.0
    idle_s: float = 60.0
    read_s: float = 60.0
    write_s: float = 60.0


class Log(msgspec.Struct, frozen=True):
    access: str | None = "-"
    format: str = "combined"
    error: str = "-"


class Server(msgspec.Struct, frozen=True):
    listen: tuple[Listen, ...]
    hosting: Hosting = Hosting()
    processes_asked: int = 0
    """As written; 0 is one per core."""
    http: str = "auto"
    user: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    grace_s: float = 30.0
    resolver: tuple[Address, ...] = ()
    """Name servers; none: those of the machine."""
    admin: Address | bool = True
    """The admin socket; True: where whoever asks finds it by `Config.origin`; False: none."""
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    @property
    def concurrency(self) -> str:
        return self.hosting.concurrency

    @property
    def processes(self) -> int:
        return self.hosting.processes

    @property
    def threads(self) -> int:
        return self.hosting.threads

    @property
    def children(self) -> Children:
        return self.hosting.children


class Route(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    """Its position in the file, from 0."""
    line: int | None = None
    path: str
    """As written."""
    match: Match
    interface: str
    hosts: tuple[bytes, ...] = ()
    methods: frozenset[bytes] = frozenset()
    root: bytes | None = None
    script: bytes | None = None
    addresses: tuple[Address, ...] = ()
    app: str | None = None
    environment: tuple[tuple[bytes, bytes], ...] = ()
    connect_s: float = 5.0
    queue_s: float | None = None
    """To wait for a worker, or for a script's turn; None: as `response_s`."""
    response_s: float = 60.0
    read_s: float = 60.0
    total_s: float = 0.0
    content_limit: int = 1 << 30
    index: tuple[bytes, ...] = ()
    split: bytes | None = None
    authorization: bool = False
    indexed_query: bool = False
    symlinks: str = "inside"
    listing: bool = False
    processes: int = 32
    queue: int = 128
    on_disconnect: str = "end"
    keepalive: int = 32
    preconnect: int = 0
    """SCGI: connections that are open ahead of need at each address."""
    multiplex: bool | None = None
    """FastCGI: whether requests share a connection; None: as the worker says."""
    request_buffering: bool = True
    strip_prefix: bool = False
    host: str = "client"
    websocket: bool = True
    terms: Terms = Terms()
    """What holds for the workers at `addresses`."""

    @property
    def watched(self) -> bool:
        """Whether somebody has to look out for its workers: for their names, or for their health."""
        return self.terms.check is not None or any(map(is_named, self.addresses))


class Config(msgspec.Struct, frozen=True):
    file: str | None
    server: Server
    log: Log
    routes: tuple[Route, ...]
    apps: dict[str, App]

    @property
    def origin(self) -> str:
        """What it was read from: the file, or the directory that is served."""
        return self.file or os.fsdecode(self.routes[0].root or b"/")

    def with_listen(self, listen: tuple[Listen, ...]) -> Config:
        return msgspec.structs.replace(self, server=msgspec.structs.replace(self.server, listen=listen))


def parse_listen(*texts: str) -> tuple[Listen, ...]:
    """Addresses given on the command line. Raises ConfigError."""
    try:
        return values.listens(list(texts))
    except ValueError as error:
        raise ConfigError("is not allowed", key="--listen", value=", ".join(texts), allowed=str(error)) from None


def load_config(file: str) -> Config:
    """Read a config file. Raises ConfigError with the first mistake."""
    try:
        with open(file, "rb") as opened:
            source = opened.read().decode("utf-8-sig")
    except OSError as error:
        remedy = "`gateway init` writes one to start from" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"cannot be read: {error.strerror}", file=file, allowed=remedy) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8, as TOML has to be", file=file) from None
    return parse_config(source, file)


def parse_config(source: str, file: str) -> Config:
    """The config in a text; `file` is for messages and for relative paths. Raises ConfigError."""
    try:
        tables = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        text = str(error)
        line = re.search(r"at line (\d+)", text)
        raise ConfigError("is no TOML: " + text, file=file, line=int(line[1]) if line else None) from None
    except (RecursionError, ValueError):  # tables in tables without end, numbers of thousands of digits
        raise ConfigError("holds a value too deep or too long to be read", file=file) from None
    return _Reader(source, file).config(tables)


class _Reader(Tables):
    """Turns the tables of one file into a Config."""

    # ------------------------------------------------------------------ tables

    def config(self, tables: dict[str, Any]) -> Config:
        known = ("server", "log", "routes", "apps")
        for name in tables:
            if name not in known:
                self.wrong("no such table", name, allowed=", ".join(known), near=nearest(name, known))
        server = self.server(self.table(tables.get("server", {}), "server"))
        log = self.log(self.table(tables.get("log", {}), "log"))
        apps = {
            name: read_app(self, name, self.table(table, f"apps.{name}"))
            for name, table in self.table(tables.get("apps", {}), "apps").items()
        }
        routes = tables.get("routes", [])
        if not isinstance(routes, list):
            self.wrong("has to be a list of tables", "routes", routes, "[[routes]], in double brackets, once for each")
        if not routes:
            self.wrong("there is no route: nothing to serve", "routes", allowed="one [[routes]] table at least")
        return Config(
            self.file, server, log,
            tuple(self.route(n, self.table(table, f"routes[{n + 1}]"), server, apps) for n, table in enumerate(routes)),
            apps,
        )  # fmt: skip

    def server(self, table: dict[str, Any]) -> Server:
        found = self.values(table, keys.SERVER, "server", self.model(table))
        found["hosting"] = self.hosting(found, table)
        found["processes_asked"] = found.pop("processes")
        limits = self.values(self.table(table.get("limits", {}), "server.limits"), keys.LIMITS, "server.limits")
        timeouts = self.values(
            self.table(table.get("timeouts", {}), "server.timeouts"), keys.TIMEOUTS, "server.timeouts"
        )
        networks = []
        for text in found.pop("trusted_proxies"):
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                self.wrong("is not allowed", "server.trusted_proxies", text, 'addresses and networks: "10.0.0.0/8"')
        if found["user"] is not None:
            self.user(found["user"], "server.user")
        found["listen"] = tuple(
            self.address(one, "server.listen") if isinstance(one, Address) else one for one in found["listen"]
        )
        if isinstance(found["admin"], Address):
            found["admin"] = self.address(found["admin"], "server.admin")
        return Server(
            trusted_proxies=tuple(networks), grace_s=found.pop("grace"), limits=Limits(**limits),
            timeouts=Timeouts(**{name + "_s": value or float("inf") for name, value in timeouts.items()}), **found,
        )  # fmt: skip

    def model(self, table: dict[str, Any]) -> tuple[str, str] | None:
        """What decides which keys of [server] mean something; None where it is not even a model."""
        name = table.get("concurrency", "event")
        if name not in MODELS:
            return None
        if name not in KNOWN_TO["processes"] and table.get("processes") == 1 and table["processes"] is not True:
            del table["processes"]  # it is so
        return "concurrency", name

    def hosting(self, found: dict[str, Any], table: dict[str, Any]) -> Hosting:
        where = "server.children"
        children = self.values(self.table(table.get("children", {}), where), keys.CHILDREN, where, self.model(table))
        given = {name: value for name, value in children.items() if value is not None}
        try:
            return server_hosting(found.pop("concurrency"), found["processes"] or None, found.pop("threads"), given)
        except ModelError as error:
            key = f"{where if error.key in given else 'server'}.{error.key}"
            self.wrong(error.problem, key, error.value, error.remedy)

    def log(self, table: dict[str, Any]) -> Log:
        found = self.values(table, keys.LOG, "log")
        try:
            Format(found["format"])
        except FormatError as error:
            self.wrong("is not allowed", "log.format", found["format"], str(error))
        for name in ("access", "error"):
            if found[name] not in (None, "-", "syslog"):
                path = os.path.join(self.directory, found[name])
                if (fault := files.log_fault(path)) is not None:
                    self.wrong(fault.problem, f"log.{name}", found[name], fault.remedy)
                found[name] = path
        return Log(**found)

    def address(self, address: Address, key: str) -> Address:
        """The path of a unix socket is relative to the file, too."""
        if not address.path or os.path.isabs(address.path):
            return address
        path = os.path.join(self.directory, address.path)
        try:
            values.check_unix_path(path)
        except ValueError as error:
            self.wrong("is not allowed", key, str(address), str(error))
        return Address(path=path)

    # ------------------------------------------------------------------ routes

    def route(self, number: int, table: dict[str, Any], server: Server, apps: dict[str, App]) -> Route:
        where = f"routes[{number + 1}]"
        interface = table.get("interface")
        if interface is None:
            self.values(table, keys.ROUTE, where)  # a misspelt key is the likelier mistake
            self.wrong("`interface` is missing", where, allowed=" | ".join(keys.INTERFACES))
        if interface not in keys.INTERFACES:
            told = values.NotOneOf(interface, keys.INTERFACES)
            self.wrong("no such interface", f"{where}.interface", interface, str(told), told.nearest)
        chosen = "interface", interface
        found = self.values(table, keys.ROUTE, where, chosen)
        if found["path"] is None:
            self.wrong("`path` is missing", where, allowed='a prefix "/app/", "=/exact" or "*.php"')
        timeouts = self.values(
            self.table(table.get("timeouts", {}), f"{where}.timeouts"), keys.ROUTE_TIMEOUTS, f"{where}.timeouts", chosen
        )
        limits = self.values(
            self.table(table.get("limits", {}), f"{where}.limits"), keys.ROUTE_LIMITS, f"{where}.limits", chosen
        )
        self.target(found, where, interface, apps)
        match = self.match(found["path"], f"{where}.path")
        if found["strip_prefix"] and match.kind is not Kind.PREFIX:
            self.wrong(f"there is no prefix to strip from {found['path']!r}", f"{where}.strip_prefix", True)
        return Route(
            number=number, line=find_line(self.source, where), path=found["path"], match=match, interface=interface,
            hosts=tuple(host.encode() for host in found["hosts"]),
            methods=frozenset(method.encode() for method in found["methods"]),
            root=self.root(found["root"], where), script=self.script(found["script"], where),
            addresses=tuple(self.address(one, f"{where}.address") for one, _, _ in found["address"]),
            app=found["app"], environment=found["environment"],
            terms=Terms() if found["balance"] is None else read_terms(self, table, found, where, interface),
            queue=_SCRIPTS_QUEUE if found["queue"] is None else found["queue"],
            connect_s=timeouts["connect"], queue_s=timeouts["queue"], response_s=timeouts["response"],
            read_s=timeouts["response"] if timeouts["read"] is None else timeouts["read"], total_s=timeouts["total"],
            content_limit=server.limits.content if limits["content"] is None else limits["content"],
            index=tuple(map(os.fsencode, found["index"])),
            split=os.fsencode(found["split"]) if found["split"] else None,
            **{name: found[name] for name in (
                "authorization", "indexed_query", "symlinks", "listing", "processes", "on_disconnect",
                "keepalive", "preconnect", "multiplex", "request_buffering", "strip_prefix", "host", "websocket",
            )},
        )  # fmt: skip

    def target(self, found: dict[str, Any], where: str, interface: str, apps: dict[str, App]) -> None:
        """Exactly one target (DESIGN section 4)."""
        names = keys.TARGETS[interface]
        given = [name for name in names if found[name]]
        if len(given) != 1:
            problem = "has no target" if not given else f"has {len(given)} targets"
            self.wrong(problem, where, allowed="exactly one of " + ", ".join(names) + f" for interface {interface!r}")
        name = found["app"]
        if name is None:
            return
        if name not in apps:
            self.wrong("there is no such app", f"{where}.app", name, ", ".join(apps) or "an [apps.NAME] table",
                       nearest(name, apps))  # fmt: skip
        app = apps[name]
        if app.kind == "command" and app.interface != interface:
            remedy = f"interface = {app.interface!r} for this route, or another app"
            if interface in _INSTEAD_OF_APP:
                remedy += "; " + _INSTEAD_OF_APP[interface]
            self.wrong(f"the app speaks {app.interface}", f"{where}.app", name, remedy)
        if interface == "cgi":
            for key in ("index", "split", "indexed_query"):
                if found[key]:
                    self.wrong("means nothing beside `app`", f"{where}.{key}", found[key], "for routes with root or script")

    def match(self, path: str, key: str) -> Match:
        allowed = 'a prefix "/app/", "=/exact" or "*.php"'
        if path.startswith("*.") and not re.search(r"[/*]", path[1:]) and len(path) > 2:
            kind, value = Kind.SUFFIX, path[1:]
        else:
            kind, value = (Kind.EXACT, path[1:]) if path.startswith("=") else (Kind.PREFIX, path)
            if not value.startswith("/") or "*" in value:
                self.wrong("is not allowed", key, path, allowed)
        if re.search(r"//|/\.\.?(/|$)|[?#]|%[0-9A-Fa-f]{2}", value):
            self.wrong("never matches: paths are compared decoded, normalised and without query", key, path)
        return Match(kind, os.fsencode(value))

    def root(self, root: str | None, where: str) -> bytes | None:
        if root is None:
            return None
        path = os.path.normpath(os.path.join(self.directory, root))
        if (fault := files.directory_fault(path)) is not None:
            self.wrong(fault.problem, f"{where}.root", root, fault.remedy or "a directory, relative to the config file")
        return os.fsencode(path)

    def script(self, script: str | None, where: str) -> bytes | None:
        if script is None:
            return None
        path = os.path.normpath(os.path.join(self.directory, script))
        if (fault := files.program_fault(path)) is not None:
            remedy = fault.remedy or "a program, relative to the config file"
            self.wrong(fault.problem, f"{where}.script", script, remedy)
        return os.fsencode(path)


_SCRIPTS_QUEUE = 128
_INSTEAD_OF_APP = {
    "cgi": 'a program that speaks CGI: script = "path"',
    "http": 'a server that somebody else runs: address = "host:port"',
}


def directory_config(
    directory: str, listen: Iterable[Listen], *, cgi: bool = True, cgi_directories: Sequence[str] = ("cgi-bin", "htbin")
) -> Config:
    """What `gateway serve DIRECTORY` means: its files, and what lies in its cgi-bin/ is run. Raises ConfigError."""
    path = os.path.abspath(directory)
    if not os.path.isdir(path):
        raise ConfigError("there is no such directory", value=directory, key="directory")
    root = os.fsencode(path)
    routes = [
        Route(
            number=0, path="/", match=Match(Kind.PREFIX, b"/"), interface="static", root=root, listing=True,
            index=(b"index.html", b"index.htm"),
        )
    ]  # fmt: skip
    for name in cgi_directories if cgi else ():  # there or not: one that is made later must not be sent as files
        routes.append(
            Route(
                number=len(routes), path=f"/{name}/", match=Match(Kind.PREFIX, f"/{name}/".encode()),
                interface="cgi", root=os.path.join(root, os.fsencode(name)),
            )
        )  # fmt: skip
    return Config(None, Server(tuple(listen), server_hosting("event")), Log(), tuple(routes), {})
