"""The config file: TOML in, frozen values out, or one clear message.

Promise: whatever is accepted can be served: paths exist, programs can be run, every key has a meaning
for its interface. Paths in the file are relative to the file.
Must never know: sockets, processes. Next: `config_keys.py`, the table of keys.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import shutil
import tomllib
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NoReturn, TypeAlias

import msgspec

from gateway import config_files as files
from gateway import config_keys as keys
from gateway.config_apps import App
from gateway.config_errors import ConfigError, as_list, find_line, nearest
from gateway.config_keys import Key
from gateway.ends import Address
from gateway.models import Children, Hosting, server_hosting
from gateway.observe.access_log import Format, FormatError

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
    processes_asked: int | None = None
    """As written; 0, as None, is one per core."""
    http: str = "auto"
    user: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    grace_s: float = 30.0
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
    request_buffering: bool = True
    strip_prefix: bool = False
    host: str = "client"
    websocket: bool = True
    balance: str = "least-outstanding"


class Config(msgspec.Struct, frozen=True):
    file: str | None
    server: Server
    log: Log
    routes: tuple[Route, ...]
    apps: dict[str, App]

    def with_listen(self, listen: tuple[Listen, ...]) -> Config:
        return msgspec.structs.replace(self, server=msgspec.structs.replace(self.server, listen=listen))


def parse_listen(*texts: str) -> tuple[Listen, ...]:
    """Addresses given on the command line. Raises ConfigError."""
    try:
        return keys.listens(list(texts))
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


class _Reader:
    """Turns the tables of one file into a Config."""

    def __init__(self, source: str, file: str) -> None:
        self.source = source
        self.file = file
        self.directory = os.path.dirname(os.path.abspath(file))

    def wrong(
        self, problem: str, key: str, value: object = None, allowed: str = "", near: str | None = None
    ) -> NoReturn:
        raise ConfigError(
            problem, file=self.file, line=find_line(self.source, key), key=key, value=value,
            allowed=allowed, nearest=near,
        )  # fmt: skip

    # ------------------------------------------------------------------ tables

    def config(self, tables: dict[str, Any]) -> Config:
        known = ("server", "log", "routes", "apps")
        for name in tables:
            if name not in known:
                self.wrong("no such table", name, allowed=", ".join(known), near=nearest(name, known))
        server = self.server(self.table(tables.get("server", {}), "server"))
        log = self.log(self.table(tables.get("log", {}), "log"))
        apps = {
            name: self.app(name, self.table(table, f"apps.{name}"))
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

    def table(self, value: Any, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            name = "apps.NAME" if key.removeprefix("apps.") in ("apps", *(one.name for one in keys.APP)) else key
            allowed = "{ name = value }" if key.startswith("routes") else f"[{name}], in single brackets"
            self.wrong("has to be a table", key, value, allowed)
        return value

    def values(
        self, table: dict[str, Any], known: Sequence[Key], where: str, interface: str | None = None
    ) -> dict[str, Any]:
        """The values of a table by key, defaults filled in."""
        by_name = {key.name: key for key in known}
        allowed = [key.name for key in known if not key.later and (interface is None or interface in key.interfaces)]
        for name, value in table.items():
            key = by_name.get(name)
            at = f"{where}.{name}"
            if key is None:
                self.wrong("no such key", at, value, ", ".join(allowed), nearest(name, allowed))
            if interface is not None and interface not in key.interfaces:
                self.wrong(
                    f"means nothing for interface {interface!r}", at, value,
                    "for " + ", ".join(key.interfaces),
                )  # fmt: skip
            if key.later:
                self.wrong(key.later, at, value)
        found: dict[str, Any] = {}
        for key in known:
            if key.parse is None:
                continue
            value = table.get(key.name)
            if value is None:
                found[key.name] = key.default
                continue
            try:
                found[key.name] = key.parse(value)
            except ValueError as error:
                near = error.nearest if isinstance(error, keys.NotOneOf) else None
                self.wrong("is not allowed", f"{where}.{key.name}", value, str(error), near)
        return found

    def server(self, table: dict[str, Any]) -> Server:
        processes = table.get("processes", 1)
        if isinstance(processes, int) and not isinstance(processes, bool) and processes != 1:
            self.wrong("another number than one is not available in this version", "server.processes", processes, "1")
        if (model := table.get("concurrency")) in keys.LATER_MODELS:
            self.wrong("this model is not available in this version", "server.concurrency", model, '"event"')
        found = self.values(table, keys.SERVER, "server")
        found.pop("processes")
        found["hosting"] = server_hosting(found.pop("concurrency"), 1)
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
        return Server(
            trusted_proxies=tuple(networks), grace_s=found.pop("grace"), limits=Limits(**limits),
            timeouts=Timeouts(**{name + "_s": value or float("inf") for name, value in timeouts.items()}), **found,
        )  # fmt: skip

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
            keys.check_unix_path(path)
        except ValueError as error:
            self.wrong("is not allowed", key, str(address), str(error))
        return Address(path=path)

    def user(self, name: str, key: str) -> None:
        try:
            pwd.getpwnam(name)
        except KeyError:
            self.wrong("there is no such user on this machine", key, name)

    # ------------------------------------------------------------------ apps

    def app(self, name: str, table: dict[str, Any]) -> App:
        where = f"apps.{name}"
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
            self.wrong("is no name for an app", where, allowed="letters, digits, - and _, at most 32")
        found = self.values(table, keys.APP, where)
        if found["command"] is None or not found["command"]:
            self.wrong("what to run is missing", where, allowed='command = ["program", "argument"]')
        if found["interface"] is None:
            self.wrong("what the program speaks is missing", where, allowed='interface = "fastcgi" | "scgi"')
        directory = os.path.join(self.directory, found["directory"] or "")
        if (fault := files.directory_fault(os.path.normpath(directory))) is not None:
            self.wrong(fault.problem, f"{where}.directory", found["directory"], fault.remedy)
        if found["user"] is not None:
            self.user(found["user"], f"{where}.user")
        program = found["command"][0]
        path = os.path.join(directory, program) if "/" in program else shutil.which(program)
        fault = files.program_fault(path) if path is not None else files.Fault("there is no such program")
        if path is None or fault is not None:
            assert fault is not None
            remedy = fault.remedy or "a program on PATH, or a path relative to the app's directory"
            if isinstance(table["command"], str) and (words := as_list(program)):
                remedy = f"program and arguments apart: command = {words}"
            self.wrong(fault.problem, f"{where}.command", program, remedy)
        return App(
            name, (os.fsencode(os.path.abspath(path)), *map(os.fsencode, found["command"][1:])), found["interface"],
            self.workers(table.get("workers", 1), f"{where}.workers"), found["environment"],
            os.fsencode(os.path.normpath(directory)), found["user"],
        )  # fmt: skip

    def workers(self, value: Any, key: str) -> int:
        if isinstance(value, dict):
            for name in value:
                if name not in ("min", "max"):
                    self.wrong("only a fixed number of workers is available in this version", f"{key}.{name}",
                               value[name], "workers = 4")  # fmt: skip
            low, high = value.get("min", value.get("max")), value.get("max", value.get("min"))
            if low != high:
                self.wrong(
                    "only a fixed number of workers is available in this version", key, value, f"workers = {high}"
                )
            value = high
        try:
            return keys.count(1)(value)
        except ValueError as error:
            self.wrong("is not allowed", key, value, str(error))

    # ------------------------------------------------------------------ routes

    def route(self, number: int, table: dict[str, Any], server: Server, apps: dict[str, App]) -> Route:
        where = f"routes[{number + 1}]"
        interface = table.get("interface")
        if interface is None:
            self.values(table, keys.ROUTE, where)  # a misspelt key is the likelier mistake
            self.wrong("`interface` is missing", where, allowed=" | ".join(keys.INTERFACES))
        if interface not in keys.INTERFACES:
            told = keys.NotOneOf(interface, keys.INTERFACES)
            self.wrong("no such interface", f"{where}.interface", interface, str(told), told.nearest)
        if interface == "fastcgi" and table.get("multiplex") is False:
            table = {name: value for name, value in table.items() if name != "multiplex"}
        found = self.values(table, keys.ROUTE, where, interface)
        if found["path"] is None:
            self.wrong("`path` is missing", where, allowed='a prefix "/app/", "=/exact" or "*.php"')
        timeouts = self.values(
            self.table(table.get("timeouts", {}), f"{where}.timeouts"),
            keys.ROUTE_TIMEOUTS,
            f"{where}.timeouts",
            interface,
        )
        limits = self.values(
            self.table(table.get("limits", {}), f"{where}.limits"), keys.ROUTE_LIMITS, f"{where}.limits", interface
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
            addresses=tuple(self.address(one, f"{where}.address") for one in found["address"]),
            app=found["app"], environment=found["environment"],
            connect_s=timeouts["connect"], response_s=timeouts["response"],
            read_s=timeouts["response"] if timeouts["read"] is None else timeouts["read"], total_s=timeouts["total"],
            content_limit=server.limits.content if limits["content"] is None else limits["content"],
            index=tuple(map(os.fsencode, found["index"])),
            split=os.fsencode(found["split"]) if found["split"] else None,
            **{name: found[name] for name in (
                "authorization", "indexed_query", "symlinks", "listing", "processes", "queue", "on_disconnect",
                "keepalive", "request_buffering", "strip_prefix", "host", "websocket", "balance",
            )},
        )  # fmt: skip

    def target(self, found: dict[str, Any], where: str, interface: str, apps: dict[str, App]) -> None:
        """Exactly one target (DESIGN section 4)."""
        both = ("root", "script") if interface in ("cgi", "static") else ("address", "app")
        names = tuple(name for name in both if (interface, name) not in (("static", "script"), ("http", "app")))
        given = [name for name in names if found[name]]
        if len(given) != 1:
            problem = "has no target" if not given else f"has {len(given)} targets"
            self.wrong(problem, where, allowed="exactly one of " + ", ".join(names) + f" for interface {interface!r}")
        app = found["app"]
        if app is None:
            return
        if app not in apps:
            self.wrong("there is no such app", f"{where}.app", app, ", ".join(apps) or "an [apps.NAME] table",
                       nearest(app, apps))  # fmt: skip
        if apps[app].interface != interface:
            self.wrong(f"the app speaks {apps[app].interface}", f"{where}.app", app,
                       f"interface = {apps[app].interface!r} for this route, or another app")  # fmt: skip

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
    return Config(None, Server(tuple(listen)), Log(), tuple(routes), {})
