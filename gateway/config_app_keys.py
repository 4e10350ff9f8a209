"""Every key of [apps.NAME], and of its tables: as `config_keys.py`.

Promise: these tables are the only list of these keys. Must never know: files, the command line.
Next: `config_apps.py`, which applies them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from gateway.config_keys import CHILDREN, HOSTED, Key
from gateway.config_values import (
    choice,
    count,
    duration,
    environment,
    many,
    size,
    size_from,
    specifier,
    text,
)
from gateway.models import KNOWN_TO, MODELS, MOST, WORKER_THREADS

ONE_OF = "one of the three"
MOST_PLACES = 500
"""Processes of one command: each has a socket, and so a descriptor of the gateway's."""


def whole(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return parse


def umask(value: Any) -> int:
    """The permissions that new files do not get, in octal digits."""
    if not isinstance(value, str) or not re.fullmatch("0?[0-7]{3}", value):
        raise ValueError('three octal digits in quotes: "027"')
    return int(value, 8)


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
    Key("workers", None, None, "how many processes, all the time; or { min, max, ... }", example="4",
        unset="`1`; hosted with prefork, fork: as many as are needed"),
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
    Key("group", text, None, "run it with this group; likewise", example='"www-data"', unset="that of the user"),
    Key("umask", umask, None, "permissions that its new files do not get, in octal digits", example='"027"',
        unset="the gateway's"),
    Key("nice", whole(-20, 19), 0, "priority: 19 gives way to all others; below 0 needs root", example="5", unset="`0`"),
    Key("cgroup", text, None, "a cgroup (version 2) that its processes are put into; it must be there, and may have limits",
        example='"/sys/fs/cgroup/web"', unset="the gateway's"),
    Key("rlimits", None, None, "{ files, memory, processes, cpu, core }", example="{ files = 1024 }", unset="the gateway's"),
)  # fmt: skip

RLIMITS = (
    Key("files", count(8), None, "open files and connections", example="1024", unset="the gateway's"),
    Key("memory", size_from(1 << 20), None, "address space of a process", example='"512MiB"', unset="the gateway's"),
    Key("processes", count(1), None, "processes and threads of its user", example="64", unset="the gateway's"),
    Key("cpu", duration, None, "processor time of a process, in whole seconds; then it is ended", example='"1h"',
        unset="the gateway's"),
    Key("core", size, None, "size of a core dump; 0 for none", example="0", unset="the gateway's"),
)  # fmt: skip
"""`rlimits` of an application (getrlimit(2)), hard and soft."""

WORKERS = (
    Key("min", count(1, MOST), None, "processes at least; event: as many as max", KNOWN_TO["processes"], example="1",
        unset="`1`"),
    Key("max", count(1, MOST), None, "processes at most; thread: threads", (*KNOWN_TO["max"], "event"), example="8",
        unset="`64`; threadpool: `8`; event: as min"),
    *(key for key in CHILDREN if key.name != "max"),
    Key("memory", size, 0, "resident octets of all its processes, at which others take over; 0: no bound",
        example='"512MiB"', unset="`0`"),
    Key("lifetime", duration, 0.0, "time after which others take over, 10 % more or less; 0: no bound", example='"1d"',
        unset="`0`"),
    Key("start", duration, 60.0, "within which it has to be ready; 0: no bound", example='"60s"'),
)  # fmt: skip
"""`workers` of what is hosted, where it is a table."""

STAFF = (
    Key("min", count(0, MOST_PLACES), None, "processes at least; 0: the first one is started for the first request",
        example="1", unset="`1`"),
    Key("max", count(1, MOST_PLACES), None, "processes at most, started as soon as a request would have to wait",
        example="8", unset="`min`"),
    Key("idle", duration, 60.0, "without a request for so long, one above `min` is ended; 0: never", example='"60s"'),
    Key("requests", count(0), 0, "another process takes over after so many, 10 % more or less; 0: never", example="1000",
        unset="`0`"),
    Key("memory", size, 0, "resident octets of a process and its children, at which another one takes over; 0: no bound",
        example='"256MiB"', unset="`0`"),
    Key("lifetime", duration, 0.0, "time after which another one takes over, 10 % more or less; 0: no bound",
        example='"1d"', unset="`0`"),
    Key("start", duration, 0.0, "within which a new process has to answer its first request; 0: no bound", example='"10s"',
        unset="`0`"),
    Key("busy", duration, 0.0, "without an answer for so long, a process that has requests is ended (504); 0: no bound "
        "but `timeouts.response`", example='"60s"', unset="`0`"),
    Key("at_once", count(1), None, "requests that a process takes at the same time, where it can't tell that itself",
        example="8", unset="`1`; one process that speaks SCGI: all"),
)  # fmt: skip
"""`workers` of a command, where it is a table."""
