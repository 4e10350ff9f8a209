"""Every key of the config file: its kind, default, meaning, and which interfaces know it.

Promise: this table is the only list of keys; loading, messages, `gateway init` and the docs read it.
Must never know: files, the command line. Next: `config.py`, which applies it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from gateway.config_errors import nearest
from gateway.ends import Address
from gateway.models import KNOWN_TO, MODELS, MOST, SERVER_THREADS, USUAL_QUEUE, WORKER_THREADS

INTERFACES = ("cgi", "fastcgi", "scgi", "http", "static")
GATEWAY = ("cgi", "fastcgi", "scgi", "http")
HOSTED = ("wsgi", "asgi")
TARGETS = {
    "cgi": ("root", "script", "app"), "static": ("root",), "fastcgi": ("address", "app"), "scgi": ("address", "app"),
    "http": ("address", "app"),
}  # fmt: skip
"""What a route may name, exactly one of them."""
UNIX_PATH_BYTES = 107
SYSTEMD = -1
"""In place of an address: all sockets that systemd has handed over."""

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *([KMGT]i?B|B)?", re.IGNORECASE)
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) *(ms|s|m|h|d)?")
_LARGEST = 1 << 62
"""No size, duration or number is larger: the driver and the file system take it as 64 bits."""
_LABEL = "[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"(?!.{{254}}){_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\]")
"""RFC 1035 2.3.4: 63 octets a label, 253 in all; the resolver refuses others, and takes `_`."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size(value: Any) -> int:
    """Octets of "8KiB", "1MB", 512."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a size: 4096, "8KiB", "10MB", "1GiB"')
    octets = int(float(match[1]) * _SIZES[(match[2] or "").lower()])
    if octets > _LARGEST:
        raise ValueError(f"a size of at most {_LARGEST} octets")
    return octets


def size_from(minimum: int) -> Callable[[Any], int]:
    """A size that leaves room for something."""

    def parse(value: Any) -> int:
        octets = size(value)
        if octets < minimum:
            raise ValueError(f"{minimum} octets at least: with less, no request gets through")
        return octets

    return parse


def duration(value: Any) -> float:
    """Seconds of "10s", "500ms", "5m", 2.5; 0 for no bound."""
    return _duration(value, '"0" for no bound')


def grace(value: Any) -> float:
    """Seconds; 0 is no wait at all."""
    return _duration(value, '"0" to wait for nothing')


def _duration(value: Any, nought: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration: "500ms", "10s", "5m", 2.5 (seconds), ' + nought)
    return float(match[1]) * _DURATIONS[match[2] or ""]


def address(value: Any) -> Address:
    """ "127.0.0.1:9000", "[::1]:9000", "name:9000", "unix:/path"."""
    found = _address(value)
    if not found.path and not (found.host and found.port):
        raise ValueError(_ADDRESSES + ": a worker has a host and a port")
    return found


_ADDRESSES = '"127.0.0.1:9000", "[::1]:9000", "name:9000", "unix:/path/to.sock"'


def _address(value: Any) -> Address:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(_ADDRESSES)
    if value.startswith(("/", "./")):
        raise ValueError(f'"unix:{value}" for a unix socket')
    if "://" in value:
        raise ValueError(f"{_ADDRESSES}; an address is no URL")
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path:
            raise ValueError(_ADDRESSES)
        check_unix_path(path)
        return Address(path=path)
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{_ADDRESSES}; in brackets stands an IPv6 address") from None
    elif ":" in host:
        raise ValueError(_ADDRESSES + "; an IPv6 address stands in brackets")
    elif host and not _HOST.fullmatch(host):
        raise ValueError(_ADDRESSES + "; between the dots of a name stand 1 to 63 letters, digits, - and _")
    if not colon or not re.fullmatch("[0-9]+", port):
        raise ValueError(_ADDRESSES)
    if len(port) > 5 or int(port) > 65535:
        raise ValueError(_ADDRESSES + "; a port is a number up to 65535")
    return Address(host, int(port))


def check_unix_path(path: str) -> None:
    """Raises ValueError for more octets than a socket's name has room for (SEMANTICS 97)."""
    length = len(path.encode("utf-8", "surrogateescape"))
    if length > UNIX_PATH_BYTES:
        raise ValueError(f"a path of at most {UNIX_PATH_BYTES} octets for a unix socket, this one has {length}: {path}")


def listen(value: Any) -> Address | int:
    """Like an address; ":8000" is all addresses of the machine, "fd:3" a socket that listens already, "systemd" all that
    it has handed over."""
    if value == "systemd":
        return SYSTEMD
    if isinstance(value, str) and re.fullmatch("fd:[0-9]{1,6}", value):
        return int(value[3:])
    try:
        return _address(value)
    except ValueError as error:
        handed = '"fd:3" for a socket handed over, "systemd" for all of them'
        raise ValueError(f'{error}, ":8000" for all addresses, {handed}') from None


def listens(value: Any) -> tuple[Address | int, ...]:
    """Where to listen: each place once, but port 0 is another one each time."""
    found: tuple[Address | int, ...] = many(listen)(value)
    fixed = [one for one in found if isinstance(one, int) or one.path or one.port]
    for number, one in enumerate(fixed):
        if one in fixed[:number]:
            raise ValueError(f"each address once; {place_name(one)} stands there twice")
    return found


def place_name(place: Address | int) -> str:
    """As it is written."""
    return "systemd" if place == SYSTEMD else f"fd:{place}" if isinstance(place, int) else str(place)


def text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a text in quotes")
    return value


def access_log(value: Any) -> str | None:
    """Where the access log goes; None for nowhere."""
    if value is False:
        return None
    try:
        return text(value)
    except ValueError:
        raise ValueError('"-" for stdout, a path, "syslog", or false for none') from None


def admin(value: Any) -> Address | bool:
    """The admin socket; False for none."""
    if value is False:
        return False
    if isinstance(value, str) and value.startswith("unix:"):
        return address(value)
    raise ValueError('"unix:/path/to.sock", or false for none')


def host(value: Any) -> str:
    """A host that a route is for; compared without port, in lower case."""
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError('whole names without port, as a client sends them: "example.org", "[::1]"')
    return value.lower()


def upstream_host(value: Any) -> str:
    """What the upstream gets as Host."""
    if not isinstance(value, str) or not _HOST.fullmatch(re.sub(":[0-9]{1,5}$", "", value)):
        raise ValueError('"client", "upstream", or a host: "example.org", "example.org:8080"')
    return value


def method(value: Any) -> str:
    """A method; its case counts (RFC 9110 9.1)."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError('methods: "GET", "POST"')
    if value != value.upper() and value.upper() in _METHODS:
        raise ValueError(f'"{value.upper()}": the case of a method counts')
    return value


def methods(value: Any) -> tuple[str, ...]:
    """Where GET is taken, HEAD is: the same without content (RFC 9110 9.3.2)."""
    found: tuple[str, ...] = many(method)(value)
    return (*found, "HEAD") if "GET" in found else found


_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH")


def file_name(value: Any) -> str:
    """The name of a file in a directory, not hidden."""
    if not isinstance(value, str) or not value or value.startswith(".") or "/" in value or "\0" in value:
        raise ValueError('names of files, without a path: "index.php"')
    return value


def suffix(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\.[^/\0]+", value):
        raise ValueError('a suffix with its dot: ".php"')
    return value


def specifier(value: Any) -> str:
    """Where an application is: "module:callable", "package.module:factory()"; "module" alone is its `application`."""
    if isinstance(value, str):
        module, colon, name = value.partition(":")
        if "/" in value or module.endswith(".py"):
            raise ValueError('a module and no file: "hello:application", with `directory` for where hello.py lies')
        if name.endswith(")") and not name.endswith("()"):
            raise ValueError('a factory without arguments: "hello:make()"')
        if _dotted(module) and (_dotted(name.removesuffix("()")) or not colon):
            return value
    raise ValueError('a module and what is in it: "hello:application", "package.hello:app", "hello:make()"')


def _dotted(name: str) -> bool:
    return all(part.isidentifier() and not iskeyword(part) for part in name.split("."))


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false, without quotes")
    return value


def count(minimum: int, most: int = _LARGEST) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= most:
            raise ValueError(f"a whole number from {minimum} {'up' if most == _LARGEST else f'to {most}'}")
        return value

    return parse


class NotOneOf(ValueError):
    """A word that is not in a list, and the one of the list that it is most like."""

    def __init__(self, value: object, names: Sequence[str]) -> None:
        super().__init__(" | ".join(names))
        word = str(value)
        self.nearest = nearest("fastcgi" if word.lower() == "fcgi" else word, names)  # `scgi` has more of its letters


def choice(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in names:
            raise NotOneOf(value, names)
        return str(value)

    return parse


def many(parse: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """One value, or a list of them."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError("at least one")
        return tuple(parse(one) for one in values)

    return parse_all


def environment(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    if not isinstance(value, dict):
        raise ValueError('a table: { NAME = "value" }')
    pairs = []
    for name, one in value.items():
        if not isinstance(one, str) or "\0" in one or not name or "=" in name or "\0" in name:
            raise ValueError(f'a table of texts: {{ NAME = "value" }}, not {name} = {one!r}')
        pairs.append((name.encode("utf-8", "surrogateescape"), one.encode("utf-8", "surrogateescape")))
    return tuple(pairs)


@dataclass(frozen=True)
class Key:
    """One key of one table."""

    name: str
    parse: Callable[[Any], Any] | None
    """None: a table of its own, or not served yet (`later`)."""
    default: Any
    meaning: str
    known_to: tuple[str, ...] = ()
    """The interfaces, concurrency models or kinds of apps for which it means something; empty: all."""
    example: str = ""
    """As it is written in TOML."""
    unset: str = ""
    """What holds if it is not set, where that is not the example."""
    later: str = ""
    """What to say of a key that this version knows of, and does not serve."""

    def means_something(self, chosen: str) -> bool:
        return not self.known_to or chosen in self.known_to


_LATER = "not available in this version"
ONE_OF = "one of the three"
_SMALLEST_HEAD = 256
"""Octets: a request of curl needs some 80, one of a browser more than this."""

SERVER = (
    Key("listen", listens, (Address("127.0.0.1", 8000),),
        'where: "127.0.0.1:8000", "[::1]:8000", "unix:/path", "fd:3", "systemd"', example='["127.0.0.1:8000"]'),
    Key("concurrency", choice(*MODELS), "event", " | ".join(MODELS), example='"event"'),
    Key("processes", count(0, MOST), 0, "how many; prefork, threadpool: how many at least; 0: one per core",
        KNOWN_TO["processes"], example="0"),
    Key("threads", count(1, MOST), None, "in each process", KNOWN_TO["threads"], example=str(SERVER_THREADS),
        unset=f"`{SERVER_THREADS}`"),
    Key("http", choice("auto", "httptools", "h11"), "auto", "the tokeniser: httptools (C) or h11 (pure Python)",
        example='"auto"'),
    Key("user", text, None, "drop to this user after binding, when started as root", example='"www-data"',
        unset="who starts it"),
    Key("trusted_proxies", many(text), (), "proxies whose Forwarded and X-Forwarded-* fields are believed",
        example='["127.0.0.1", "10.0.0.0/8"]', unset="none"),
    Key("grace", grace, 30.0, 'for requests in flight when the server is told to stop; "0" to wait for none',
        example='"30s"'),
    Key("admin", admin, True, "the socket of `gateway status` and its like, for the owner and root only; false for none",
        example='"unix:/run/gateway/admin.sock"', unset="a place that they find, by the name of the config file"),
    Key("children", None, None, "see [server.children]"),
    Key("limits", None, None, "see [server.limits]"),
    Key("timeouts", None, None, "see [server.timeouts]"),
)  # fmt: skip

CHILDREN = (
    Key("max", count(1, MOST), None, "at most: processes (prefork, threadpool, fork) or threads (thread)", KNOWN_TO["max"],
        example="64", unset="`64`; threadpool: `8`"),
    Key("min_spare", count(1, MOST), None, "idle ones at least: processes (prefork) or threads (threadpool)",
        KNOWN_TO["min_spare"], example="2", unset="`2`"),
    Key("max_spare", count(1), None, "idle ones at most; threadpool: at least min_spare + threads",
        KNOWN_TO["max_spare"], example="24", unset="`8`, or as many as min_spare and threads need"),
    Key("requests", count(0), None, "a process ends after so many, 25 % more or less, and another one begins; 0: never",
        KNOWN_TO["requests"], example="10000", unset="`10000`; event: `0`"),
    Key("queue", count(0, MOST), None, "connections that wait for one of max; those beyond get 503", KNOWN_TO["queue"],
        example=str(USUAL_QUEUE), unset=f"`{USUAL_QUEUE}`"),
)  # fmt: skip

LIMITS = (
    Key("request_line", size_from(_SMALLEST_HEAD), 8 * 1024, "longest request line (414)", example='"8KiB"'),
    Key("header_fields", size_from(_SMALLEST_HEAD), 32 * 1024, "all header fields together (431)", example='"32KiB"'),
    Key("header_count", count(8), 100, "how many header fields (431)", example="100"),
    Key("content", size, 1 << 30, "request content (413); a route may say otherwise", example='"1GiB"'),
    Key("connections", count(1), 10_000, "clients at the same time (503)", example="10000"),
)

TIMEOUTS = (
    Key("header", duration, 10.0, "the whole head must have arrived (408)", example='"10s"'),
    Key("idle", duration, 60.0, "between two requests on a kept connection", example='"60s"'),
    Key("read", duration, 60.0, "between two reads of request content (408)", example='"60s"'),
    Key("write", duration, 60.0, "for a client that does not take its response", example='"60s"'),
)

LOG = (
    Key("access", access_log, "-",
        '"-" for stdout, a path, "syslog"; false for none', example='"-"'),
    Key("format", text, "combined", "common | combined | json | a format of your own with {fields}",
        example='"combined"'),
    Key("error", text, "-", '"-" for stderr, a path, "syslog"', example='"-"'),
)  # fmt: skip

ROUTE = (
    Key("path", text, None, 'a prefix at a segment boundary; "=/exact"; "*.php" by suffix', example='"/"',
        unset="required"),
    Key("interface", choice(*INTERFACES), None, "cgi | fastcgi | scgi | http | static", example='"cgi"',
        unset="required"),
    Key("hosts", many(host), (), "only for these hosts, compared without port", example='["example.org"]', unset="any"),
    Key("methods", methods, (), "only these methods (405 for others); with GET comes HEAD", example='["GET", "POST"]',
        unset="any"),
    Key("root", text, None, "a directory: of scripts (cgi), of files (static), the document root (fastcgi, scgi)",
        ("cgi", "static", "fastcgi", "scgi"), example='"public"', unset="none"),
    Key("script", text, None, "one program for all paths below", ("cgi",), example='"hello.cgi"', unset="none"),
    Key("address", many(address), (), "workers that somebody else runs", ("fastcgi", "scgi", "http"),
        example='["127.0.0.1:9000", "unix:/run/x.sock"]', unset="none"),
    Key("app", text, None, "an [apps.NAME] that the gateway runs", GATEWAY, example='"hello"', unset="none"),
    Key("environment", environment, (), "meta-variables added for the script or worker", ("cgi", "fastcgi", "scgi"),
        example='{ NAME = "value" }', unset="none"),
    Key("timeouts", None, None, "{ connect, response, read, total }", GATEWAY, example='{ response = "60s" }',
        unset="see below"),
    Key("limits", None, None, "{ content }", example='{ content = "1GiB" }', unset="see below"),
    Key("index", many(file_name), (), "names tried for a directory", ("fastcgi", "scgi", "cgi", "static"),
        example='["index.php"]', unset='`"index.html"` for static, else none'),
    Key("split", suffix, None, "the file ends with this suffix and must exist, the rest is PATH_INFO; no other file is run",
        ("fastcgi", "scgi", "cgi"), example='".php"', unset="none"),
    Key("authorization", boolean, False, "whether HTTP_AUTHORIZATION is passed", ("cgi", "fastcgi", "scgi"),
        example="false"),
    Key("indexed_query", boolean, False, "whether a query without = becomes the script's arguments", ("cgi",),
        example="false"),
    Key("symlinks", choice("inside", "any", "none"), "inside", "which symbolic links are followed", ("static", "cgi"),
        example='"inside"'),
    Key("listing", boolean, False, "whether a directory without an index is listed", ("static",), example="false"),
    Key("processes", count(1), 32, "scripts at the same time", ("cgi",), example="32"),
    Key("queue", count(0), 128, "requests that may wait for a script", ("cgi",), example="128"),
    Key("on_disconnect", choice("end", "continue"), "end", "what happens to a script when the client leaves", ("cgi",),
        example='"end"'),
    Key("keepalive", count(0), 32, "idle connections kept per address; 0 for none", ("fastcgi", "http"), example="32"),
    Key("preconnect", count(0), 0,
        "connections open ahead of need at each address; 0 unless the worker waits on many at once", ("scgi",),
        example="8", unset="`0`"),
    Key("multiplex", boolean, None, "whether requests share a connection to the worker", ("fastcgi",), example="true",
        unset="the worker is asked"),
    Key("request_buffering", boolean, True, "false: content is streamed as it comes", ("fastcgi", "http"),
        example="true"),
    Key("strip_prefix", boolean, False, "whether the upstream sees the path without `path`", ("http",), example="false"),
    Key("host", upstream_host, "client", 'Host that the upstream sees: "client", "upstream", or a name', ("http",),
        example='"client"'),
    Key("websocket", boolean, True, "whether an upgrade to WebSocket is passed; no other is", ("http",), example="true"),
    Key("balance", choice("least-outstanding", "round-robin"), "least-outstanding",
        "how one of several addresses is chosen", ("fastcgi", "scgi", "http"), example='"least-outstanding"'),
    Key("health", None, None, "", ("fastcgi", "scgi", "http"), later=_LATER),
)  # fmt: skip

ROUTE_TIMEOUTS = (
    Key("connect", duration, 5.0, "to connect to a worker", ("fastcgi", "scgi", "http"), example='"5s"'),
    Key("response", duration, 60.0, "until the response head (504)", GATEWAY, example='"60s"'),
    Key("read", duration, None, "between two reads of the response", GATEWAY, example='"60s"', unset="as `response`"),
    Key("total", duration, 0.0, "the whole exchange; 0 for no bound", GATEWAY, example='"0"'),
)
ROUTE_LIMITS = (Key("content", size, None, "request content (413)", example='"1GiB"', unset="as [server.limits]"),)

APP = (
    Key("wsgi", specifier, None, "a WSGI application that the gateway hosts: module:callable or module:factory()",
        ("wsgi",), example='"hello:application"', unset=ONE_OF),
    Key("asgi", specifier, None, "likewise an ASGI application", ("asgi",), example='"hello:app"', unset=ONE_OF),
    Key("command", many(text), None, "any program and its arguments; it gets its socket on descriptor 0",
        ("command",), example='["php-cgi"]', unset=ONE_OF),
    Key("interface", choice("fastcgi", "scgi"), None, "what the program speaks", ("command",), example='"fastcgi"',
        unset="required"),
    Key("concurrency", choice(*MODELS), None, " | ".join(MODELS), HOSTED, example='"threadpool"',
        unset="threadpool for wsgi, event for asgi"),
    Key("workers", None, None, "how many processes, all the time; or { min, max, ... } for what is hosted", example="4",
        unset="`1`; prefork, fork: as many as are needed"),
    Key("threads", count(1, MOST), None, "in each process (threadpool; event: for wsgi)", HOSTED,
        example=str(WORKER_THREADS), unset=f"`{WORKER_THREADS}`"),
    Key("environment", environment, (), "its environment, beside PATH; nothing else is inherited",
        example='{ NAME = "value" }', unset="none"),
    Key("directory", text, None, "its working directory; modules are found there", example='"."',
        unset="that of the config file"),
    Key("python", text, None, "the interpreter, such as that of a virtual environment", HOSTED, example='"venv/bin/python"',
        unset="the gateway's"),
    Key("user", text, None, "run it as this user; needs root, and no other server.user", example='"www-data"',
        unset="the gateway's"),
)  # fmt: skip

WORKERS = (
    Key("min", count(1, MOST), None, "processes at least; event: as many as max", KNOWN_TO["processes"], example="1",
        unset="`1`"),
    Key("max", count(1, MOST), None, "processes at most; thread: threads", (*KNOWN_TO["max"], "event"), example="8",
        unset="`64`; threadpool: `8`; event: as min"),
    *(key for key in CHILDREN if key.name != "max"),
)  # fmt: skip
"""`workers` of what is hosted, where it is a table."""
