"""Every key of the config file: its kind, default, meaning, and which interfaces know it.

Promise: this table is the only list of keys; loading, messages, `gateway init` and the docs read it.
Must never know: files, the command line. Next: `config.py`, which applies it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.config_values import (
    access_log,
    admin,
    boolean,
    check_path,
    choice,
    count,
    duration,
    environment,
    file_name,
    grace,
    hashed,
    host,
    listens,
    many,
    methods,
    name_server,
    size,
    size_from,
    statuses,
    suffix,
    text,
    upstream_host,
    worker,
)
from gateway.ends import Address
from gateway.models import KNOWN_TO, MODELS, MOST, SERVER_THREADS, USUAL_QUEUE

INTERFACES = ("cgi", "fastcgi", "scgi", "http", "static")
GATEWAY = ("cgi", "fastcgi", "scgi", "http")
WITH_WORKERS = ("fastcgi", "scgi", "http")
HOSTED = ("wsgi", "asgi")
TARGETS = {
    "cgi": ("root", "script", "app"), "static": ("root",), "fastcgi": ("address", "app"), "scgi": ("address", "app"),
    "http": ("address", "app"),
}  # fmt: skip
"""What a route may name, exactly one of them."""


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
    Key("resolver", many(name_server), (), "name servers that are asked for the names of workers",
        example='["10.0.0.2"]', unset="those of /etc/resolv.conf"),
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
    Key("address", many(worker), (), 'workers that somebody else runs; a name of DNS is looked up again and again, '
        '"srv:_http._tcp.name" too; or { to, weight, backup }', WITH_WORKERS,
        example='["127.0.0.1:9000", "unix:/run/x.sock"]', unset="none"),
    Key("app", text, None, "an [apps.NAME] that the gateway runs", GATEWAY, example='"hello"', unset="none"),
    Key("environment", environment, (), "meta-variables added for the script or worker", ("cgi", "fastcgi", "scgi"),
        example='{ NAME = "value" }', unset="none"),
    Key("timeouts", None, None, "{ connect, queue, response, read, total }", GATEWAY, example='{ response = "60s" }',
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
    Key("queue", count(0), None, "requests that may wait for a script, or for a worker below its limit (503)", GATEWAY,
        example="128", unset="`128` for cgi, else `1024`"),
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
    Key("balance", choice("least-outstanding", "round-robin", "hash"), "least-outstanding",
        "how one of several addresses is chosen: least-outstanding | round-robin | hash", WITH_WORKERS,
        example='"least-outstanding"'),
    Key("hash", hashed, None, 'what decides under balance = "hash": "client" | "field:NAME" | "cookie:NAME"', WITH_WORKERS,
        example='"cookie:session"', unset="`client`"),
    Key("limit", count(1), None, "requests at the same time at each address, from each process of the gateway", WITH_WORKERS,
        example="8", unset="none, or as the worker tells"),
    Key("slow_start", grace, 0.0, "how long the share of a worker grows that is new in DNS, or up again by `health.every`",
        WITH_WORKERS, example='"0"'),
    Key("health", None, None, "{ failures, pause, every, path, ... }", WITH_WORKERS, example='{ every = "5s" }',
        unset="see below"),
)  # fmt: skip

ROUTE_TIMEOUTS = (
    Key("connect", duration, 5.0, "to connect to a worker", ("fastcgi", "scgi", "http"), example='"5s"'),
    Key("queue", duration, None, "to wait for a worker, or for a script's turn (503)", GATEWAY, example='"10s"',
        unset="as `response`"),
    Key("response", duration, 60.0, "until the response head (504)", GATEWAY, example='"60s"'),
    Key("read", duration, None, "between two reads of the response", GATEWAY, example='"60s"', unset="as `response`"),
    Key("total", duration, 0.0, "the whole exchange; 0 for no bound", GATEWAY, example='"0"'),
)
ROUTE_HEALTH = (
    Key("failures", count(1), 1, "so many in a row, and an address is passed over while there are others", WITH_WORKERS,
        example="1"),
    Key("pause", duration, 1.0, "for so long at first, each time twice as long, a minute at most", WITH_WORKERS,
        example='"1s"'),
    Key("every", duration, None, "each address is asked so often, requests or not; without `path` to connect is enough",
        WITH_WORKERS, example='"5s"', unset="`5s` with `path`, else never"),
    Key("path", check_path, None, "what it is asked for; under fastcgi and scgi as SCRIPT_NAME (ping.path of php-fpm)",
        WITH_WORKERS, example='"/healthz"', unset="none"),
    Key("timeout", duration, 2.0, "how long an answer may take", WITH_WORKERS, example='"2s"'),
    Key("rise", count(1), 2, "so many good answers in a row, and it is up", WITH_WORKERS, example="2"),
    Key("fall", count(1), 3, "so many bad ones, and it is down", WITH_WORKERS, example="3"),
    Key("status", statuses, (200, 399), "which are good", WITH_WORKERS, example='"200-399"'),
)
ROUTE_LIMITS = (Key("content", size, None, "request content (413)", example='"1GiB"', unset="as [server.limits]"),)
