"""`gateway init`: a config file to start from, in which every key is explained.

Promise: what it writes passes `gateway check` as it stands; nothing is overwritten unasked.
Next: `gateway/config_keys.py`, the table that it prints.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from gateway import config_app_keys as app_keys
from gateway import config_keys as keys
from gateway.config_keys import Key


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "init", help="write a commented starter config",
        description="Writes a config file in which every key is explained, most of them commented out.",
    )  # fmt: skip
    parser.add_argument("path", nargs="?", default="gateway.toml", metavar="FILE")
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write; the exit code."""
    public = os.path.join(os.path.dirname(args.path), "public")
    if os.path.lexists(args.path) and not args.force:
        print(f"gateway: {args.path} is there already; --force overwrites it", file=sys.stderr)
        return 2
    try:
        os.makedirs(public, exist_ok=True)
        with open(args.path, "w" if args.force else "x", encoding="utf-8") as file:
            file.write(starter())
    except OSError as error:
        print(f"gateway: {error.filename} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"wrote {args.path}: it serves the files of {public}\n  next: gateway check {args.path}, "
          f"gateway serve {args.path}")  # fmt: skip
    return 0


def starter() -> str:
    """The text of the file."""
    lines = [
        "## gateway-suite. A line that begins with `# ` is off: take these two characters away to switch it on.",
        "## What begins with `##` only explains. Paths are relative to this file.",
        "", "[server]", *_explained(keys.SERVER, on=("listen",), known=True),
        "", "# [server.children]                 # processes and threads that serve; for the models in brackets",
        *_explained(keys.CHILDREN, known=True),
        "", "# [server.limits]                   # sizes in octets, or with a unit", *_explained(keys.LIMITS),
        "", "# [server.timeouts]", *_explained(keys.TIMEOUTS),
        "", "# [log]", *_explained(keys.LOG),
        "", "## The most specific path wins, then the order in the file.",
        "[[routes]]", 'path = "/"', 'interface = "static"',
        'root = "public"                     # its files, and nothing else of this folder',
        "", "# [[routes]]                        # scripts, a process for each request",
        '# path = "/cgi-bin/"', '# interface = "cgi"', '# root = "cgi-bin"',
        "", "# [[routes]]                        # PHP: files that end in .php, for php-fpm",
        '# path = "*.php"', '# interface = "fastcgi"', '# root = "public"', '# split = ".php"',
        '# index = ["index.php"]',
        '# address = "unix:/run/php/php-fpm.sock"',
        "", "# [[routes]]                        # a Python application, hosted by the gateway: see [apps.hello]",
        '# path = "/hello/"', '# interface = "fastcgi"             # change this one word: cgi, fastcgi, scgi, http',
        '# app = "hello"',
        "", "## All keys of a route, and the interfaces that know them. Those that have tables come last.",
        "# [[routes]]", *_explained(keys.ROUTE, known=True, without=("timeouts", "limits", "health")),
        "# [routes.timeouts]                 # of the route above", *_explained(keys.ROUTE_TIMEOUTS, known=True),
        "# [routes.limits]", *_explained(keys.ROUTE_LIMITS),
        "# [routes.health]                   # of its workers", *_explained(keys.ROUTE_HEALTH),
        "", "# [apps.hello]                      # a Python application that the gateway hosts",
        *_explained(app_keys.APP, without=("asgi", "command", "interface", "workers", "rlimits")),
        "# [apps.hello.workers]              # or workers = 4: so many all the time; for the models in brackets",
        *_explained(app_keys.WORKERS, known=True),
        "", "# [apps.chat]", *_explained(app_keys.APP, only=("asgi",)),
        "", "# [apps.php]                        # a program that speaks FastCGI or SCGI itself",
        *_explained(app_keys.APP, only=("command", "interface")),
        "# [apps.php.workers]                # or workers = 4: so many all the time", *_explained(app_keys.STAFF),
        "# [apps.php.rlimits]                # of any app", *_explained(app_keys.RLIMITS),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _explained(
    table: Iterable[Key], *, on: Collection[str] = (), without: Collection[str] = (), only: Collection[str] = (),
    known: bool = False,
) -> Iterator[str]:
    for key in table:
        if key.later or not key.example or key.name in without or (only and key.name not in only):
            continue
        setting = f"{key.name} = {key.example}"
        if key.name not in on:
            setting = "# " + setting
        more = f"; not set: {key.unset.replace('`', '')}" if key.unset not in _NO_DEFAULT else ""
        if known and key.known_to:
            more += f" ({', '.join(key.known_to)})"
        yield f"{setting:<35} # {key.meaning}{more}"


_NO_DEFAULT = ("", "none", "required", app_keys.ONE_OF)


def reference() -> str:
    """docs/config.md: every key as a table."""
    parts = ["# The config file", "", "TOML; paths are relative to the file. `gateway init` writes one to start from, "
             "`gateway check` says what is wrong with one.", ""]  # fmt: skip
    for title, table, note in (
        ("[server]", keys.SERVER, _MODELS_NOTE),
        ("[server.children]", keys.CHILDREN, ""),
        ("[server.limits]", keys.LIMITS, "Sizes: `4096`, `\"8KiB\"`, `\"10MB\"`, `\"1GiB\"`."),
        ("[server.timeouts]", keys.TIMEOUTS, "Durations: `\"500ms\"`, `\"10s\"`, `2.5`; `\"0\"` for no bound."),
        ("[log]", keys.LOG, ""),
        ("[[routes]]", keys.ROUTE, _ROUTES_NOTE),
        ("timeouts of a route", keys.ROUTE_TIMEOUTS, ""),
        ("limits of a route", keys.ROUTE_LIMITS, ""),
        ("[apps.NAME]", app_keys.APP, _APPS_NOTE),
        ("workers of a hosted application", app_keys.WORKERS, _WORKERS_NOTE),
        ("workers of a command", app_keys.STAFF, _STAFF_NOTE),
        ("rlimits of an application", app_keys.RLIMITS, ""),
    ):  # fmt: skip
        parts += [f"## {title}", ""]
        if note:
            parts += [note, ""]
        parts += ["| key | default | example | meaning | known to |", "|---|---|---|---|---|"]
        for key in table:
            if key.later or not key.example:
                continue
            known = ", ".join(key.known_to) or "all"
            meaning = key.meaning.replace("|", "\\|")
            default, example = (key.unset, f"`{key.example}`") if key.unset else (f"`{key.example}`", "")
            parts.append(f"| `{key.name}` | {default} | {example} | {meaning} | {known} |")
        parts.append("")
    return "\n".join(parts) + _SCRIPTS_NOTE


_MODELS_NOTE = """`concurrency` says who serves a connection:

| model | shape |
|---|---|
| `single` | one process, one thread, one connection at a time |
| `fork` | a process for each connection, started when it comes |
| `thread` | a thread for each connection, likewise |
| `prefork` | a pool of processes that accept by themselves; idle ones are kept ready |
| `threadpool` | a pool of processes with a fixed number of threads, one connection a thread |
| `event` | an event loop in each process, one process a core; thousands of connections each |

A key that means nothing for the model is a mistake."""

_APPS_NOTE = """Exactly one of `wsgi`, `asgi` and `command`. An application (`wsgi`, `asgi`) is hosted by the gateway:
any route may name it, whatever its interface, several routes may, and changing `interface` of the route from
one to another changes nothing in the application. Under fastcgi, scgi and http a `gateway worker` runs for each
interface that is used; under cgi each request is a process of its own, so `concurrency`, `workers` and `threads`
count for nothing there. Under http, `X-Forwarded-Prefix` tells the application the path of its route, so that
SCRIPT_NAME is the same as under the others. `gateway check` looks for its module and does not import it: the
command line that `gateway explain` shows does, and tells what goes wrong.

A program (`command`) speaks one interface, FastCGI or SCGI, and the route has to name that one."""

_WORKERS_NOTE = """`workers = 4` are four processes all the time; `workers = { max = 8 }` are as many as are needed.
What the words mean for a model is as in [server.children].
What `memory` and `lifetime` bound is the application as a whole: its successor is ready before it is let go."""

_STAFF_NOTE = """`workers = 4` are four processes all the time. Each has a socket of its own, which the gateway holds, so
that a request is sent to one that is free, or waits for one that is being started; none is refused, and none is lost
where a process is replaced: its successor is there before, and it ends when it has nothing left to answer."""

_ROUTES_NOTE = """Each route has exactly one target: `root`, `script` or `app` for cgi, `root` for static, `address` or
`app` for fastcgi, scgi and http. Which route wins: one that names the request's host before one
that names none; then an exact path, a suffix, the longest prefix; then the order in the file. A suffix route
with `index` also answers for a directory that holds such a file."""

_HEALTH_NOTE = """For routes with `address`. What fails is passed over for a while: a connection that is not made, a
response that breaks off or is none. Then one request finds out whether it is over. Where all addresses are
passed over, all are tried.
`every` and `path` ask them beside that."""

_SCRIPTS_NOTE = """
## Scripts and workers

- `REMOTE_ADDR` is the client's address, as trusted proxies tell it, an IPv6 address without brackets. A client
  of a unix socket has no address: `REMOTE_ADDR` is empty then, `REMOTE_PORT` and `SERVER_ADDR` are left out,
  and `SERVER_PORT` is 80.
- A field becomes `HTTP_...` if its name is made of letters, digits and `-`. One such as `X_A` could pose as
  `X-A`: it is dropped, and the log tells of it once. `Proxy` never becomes one, and `Authorization` only where
  the route says `authorization = true`.
- A response of a script ends with its stdout. The script may go on for two seconds, then its process group gets
  SIGTERM, and after two more SIGKILL; it gets the same at once when a time limit is over, or when the client
  leaves and the route does not say `on_disconnect = "continue"`. When the gateway ends, nothing goes on that it
  has started: a job that is to outlive it needs a session of its own (`setsid`).
- What a route runs is never sent as a file, whatever its mode: all that lies below the `root` of a cgi route, or
  what ends with its suffix where it has one. Only where a static route names the same directory, or one inside,
  files that are not executable are sent.
"""
