"""[apps.NAME]: a program that the gateway starts, or a Python application that it hosts.

Promise: a program is there and may be run; of an application the name is looked at, it is not imported.
Must never know: routes, sockets. Next: `models.py`, for what `workers` and `threads` come to.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import Any

import msgspec

from gateway import config_app_keys as app_keys
from gateway import config_files as files
from gateway.config_errors import as_list
from gateway.config_tables import Tables
from gateway.config_values import count
from gateway.models import MOST, USUAL_MAX, Hosting, ModelError, worker_hosting
from gateway.processes.staff import Staff


class App(msgspec.Struct, frozen=True):
    name: str
    command: tuple[bytes, ...] = ()
    """The program as an absolute path, then its arguments; empty for what we host."""
    interface: str = ""
    """What the program speaks; "" for what we host: the route says it."""
    staff: Staff = Staff()
    """Processes of a program, each with a socket of its own; of what we host one, which may have further ones."""
    at_once: int | None = None
    """Requests that one of them serves at the same time; None where it may tell itself."""
    environment: tuple[tuple[bytes, bytes], ...] = ()
    directory: bytes = b"/"
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    nice: int = 0
    cgroup: str | None = None
    rlimits: tuple[tuple[str, int], ...] = ()
    """Name and value, of those in `config_app_keys.RLIMITS` that are set."""
    wsgi: str | None = None
    asgi: str | None = None
    python: str = sys.executable
    """The interpreter that hosts it."""
    hosting: Hosting = Hosting()
    """Of what we host."""

    @property
    def kind(self) -> str:
        """ "command", "wsgi" or "asgi"."""
        return "wsgi" if self.wsgi is not None else "asgi" if self.asgi is not None else "command"

    @property
    def specifier(self) -> str:
        """ "module:callable" of what we host."""
        return self.wsgi or self.asgi or ""


def read_app(tables: Tables, name: str, table: dict[str, Any]) -> App:
    """One table of [apps]. Raises ConfigError."""
    where = f"apps.{name}"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
        tables.wrong("is no name for an app", where, allowed="letters, digits, - and _, at most 32")
    kind = _kind(tables, table, where)
    found = tables.values(table, app_keys.APP, where, ("kind", kind))
    if kind == "command" and found["interface"] is None:
        tables.wrong("what the program speaks is missing", where, allowed='interface = "fastcgi" | "scgi"')
    directory = os.path.normpath(os.path.join(tables.directory, found["directory"] or ""))
    if (fault := files.directory_fault(directory)) is not None:
        tables.wrong(fault.problem, f"{where}.directory", found["directory"], fault.remedy)
    if found["user"] is not None:
        tables.user(found["user"], f"{where}.user")
    if found["group"] is not None:
        tables.group(found["group"], f"{where}.group")
    common = {name: found[name] for name in ("environment", "user", "group", "umask", "nice")} | {
        "directory": os.fsencode(directory),
        "cgroup": None if found["cgroup"] is None else os.path.normpath(os.path.join(tables.directory, found["cgroup"])),
        "rlimits": _rlimits(tables, table.get("rlimits", {}), f"{where}.rlimits"),
    }
    if kind == "command":
        program = _program(tables, f"{where}.command", found["command"][0], directory, table["command"])
        staff, at_once = _staff(tables, table.get("workers", 1), f"{where}.workers")
        return App(
            name, (os.fsencode(program), *map(os.fsencode, found["command"][1:])), found["interface"], staff, at_once,
            **common,
        )  # fmt: skip
    hosting, staff = _hosting(tables, where, kind, found, table.get("workers"))
    python = sys.executable
    if found["python"] is not None:
        python = _program(tables, f"{where}.python", found["python"], directory, found["python"])
    return App(
        name, staff=staff, wsgi=found["wsgi"], asgi=found["asgi"], python=python, hosting=hosting, **common
    )


_KINDS = ("command", "wsgi", "asgi")
_HOST_IT = 'a Python application that the gateway hosts: wsgi or asgi = "module:callable" in place of `command`'
_OWN_MODEL = "how a program that is started with `command` deals with its requests is its own business", (
    "workers = 4 for so many processes of it; or " + _HOST_IT
)
_MEANS_NOTHING = {
    "concurrency": _OWN_MODEL,
    "threads": _OWN_MODEL,
    "python": ("a program is started as `command` says", 'command = ["python3", "program.py"]; or ' + _HOST_IT),
}


def _kind(tables: Tables, table: dict[str, Any], where: str) -> str:
    """Which of the three it is; and a key that is there and means nothing for it is told with the reason."""
    given = [kind for kind in _KINDS if kind in table]
    if len(given) > 1:
        problem = " and ".join(f"`{kind}`" for kind in given) + " exclude each other"
        tables.wrong(problem, f"{where}.{given[-1]}", table[given[-1]], "exactly one of " + ", ".join(_KINDS))
    if not given:
        tables.values(table, app_keys.APP, where)  # a misspelt key is the likelier mistake
        tables.wrong("what to run is missing", where, allowed='exactly one of command = ["program", "argument"], '
                     'wsgi = "module:callable", asgi = "module:callable"')  # fmt: skip
    kind = given[0]
    if kind == "command":
        for key, (problem, remedy) in _MEANS_NOTHING.items():
            if key in table:
                tables.wrong(problem, f"{where}.{key}", table[key], remedy)
    elif "interface" in table:
        tables.wrong(
            "an application that is hosted speaks what the route asks for", f"{where}.interface", table["interface"],
            "leave it out: `interface` of the route says it",
        )  # fmt: skip
    return kind


def _program(tables: Tables, key: str, program: str, directory: str, written: Any) -> str:
    """The absolute path of a program that is on PATH, or named by its path."""
    path = os.path.join(directory, program) if "/" in program else shutil.which(program)
    fault = files.program_fault(path) if path is not None else files.Fault("there is no such program")
    if path is None or fault is not None:
        assert fault is not None
        remedy = fault.remedy or "a program on PATH, or a path relative to the app's directory"
        if key.endswith(".command") and isinstance(written, str) and (words := as_list(program)):
            remedy = f"program and arguments apart: command = {words}"
        if key.endswith(".python") and path is not None and os.path.exists(os.path.join(path, "bin", "python")):
            remedy = f'the interpreter in it: "{os.path.join(program, "bin", "python")}"'
        tables.wrong(fault.problem, key, program, remedy)
    return os.path.abspath(path)


def _staff(tables: Tables, value: Any, key: str) -> tuple[Staff, int | None]:
    """Of a command: so many, or a table; and how many requests each serves at the same time, where that is said."""
    if not isinstance(value, dict):
        try:
            fixed = count(1, app_keys.MOST_PLACES)(value)
        except ValueError as error:
            tables.wrong("is not allowed", key, value, f"{error}, or a table: {{ min = 1, max = 8 }}")
        return Staff(fixed, fixed), None
    found = tables.values(value, app_keys.STAFF, key)
    least = 1 if found["min"] is None else found["min"]
    most = max(1, least) if found["max"] is None else found["max"]
    if least > most:
        problem = f"are more than there may be at most ({most})"
        tables.wrong(problem, f"{key}.min", least, f"at most {most}, or a greater max")
    return Staff(
        least, most, found["idle"], found["requests"], found["memory"], found["lifetime"], found["start"], found["busy"]
    ), found["at_once"]


def _rlimits(tables: Tables, value: Any, key: str) -> tuple[tuple[str, int], ...]:
    found = tables.values(tables.table(value, key), app_keys.RLIMITS, key)
    return tuple((name, int(limit)) for name, limit in found.items() if limit is not None)


def _hosting(
    tables: Tables, where: str, kind: str, found: dict[str, Any], workers: Any
) -> tuple[Hosting, Staff]:
    """What `concurrency`, `workers` and `threads` come to."""
    model = found["concurrency"] or {"wsgi": "threadpool", "asgi": "event"}[kind]
    threads = found["threads"]
    if threads is not None and model not in ("threadpool", "event"):
        tables.wrong(f"means nothing for concurrency {model!r}", f"{where}.threads", threads, "for threadpool, event")
    if threads is not None and model == "event" and kind == "asgi":
        tables.wrong("an ASGI application runs in the event loop itself", f"{where}.threads", threads,
                     "leave it out; `workers` for more processes")  # fmt: skip
    key = f"{where}.workers"
    given: dict[str, Any] = {}
    values = tables.values({}, app_keys.WORKERS, key)
    if isinstance(workers, dict):
        values = tables.values(workers, app_keys.WORKERS, key, ("concurrency", model))
        given = {name: value for name, value in values.items() if value is not None}
        processes = given.pop("min", None)
        for name in ("memory", "lifetime", "start"):
            del given[name]
        if model == "event":
            most = given.pop("max", None)
            if processes is not None and most is not None and processes != most:
                tables.wrong("there are as many event loops all the time", key, workers, f"workers = {most}")
            processes = processes or most
        elif model in USUAL_MAX:
            given.setdefault("max", max(USUAL_MAX[model], processes or 1))
    else:
        try:
            processes = None if workers is None else count(1, MOST)(workers)
        except ValueError as error:
            tables.wrong("is not allowed", key, workers, f"{error}, or a table: {{ min = 1, max = 8 }}")
    try:
        hosting = worker_hosting(model, processes, threads, given, blocks=kind == "wsgi")
        return hosting, Staff(memory=values["memory"], lifetime_s=values["lifetime"], start_s=values["start"])
    except ModelError as error:
        if error.key == "processes" and not isinstance(workers, dict):
            remedy = f"workers = {{ max = {workers} }} for so many threads" if model == "thread" else error.remedy
            tables.wrong(error.problem, key, workers, remedy)
        name = {"processes": "min"}.get(error.key, error.key)
        tables.wrong(error.problem, f"{key}.{name}", error.value, error.remedy)
