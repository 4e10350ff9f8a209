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

from gateway import config_files as files
from gateway import config_keys as keys
from gateway.config_errors import as_list
from gateway.config_tables import Tables
from gateway.config_values import count
from gateway.models import MOST, USUAL_MAX, Hosting, ModelError, worker_hosting


class App(msgspec.Struct, frozen=True):
    name: str
    command: tuple[bytes, ...] = ()
    """The program as an absolute path, then its arguments; empty for what we host."""
    interface: str = ""
    """What the program speaks; "" for what we host: the route says it."""
    workers: int = 1
    """Processes of a program, each with the same socket."""
    environment: tuple[tuple[bytes, bytes], ...] = ()
    directory: bytes = b"/"
    user: str | None = None
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
    found = tables.values(table, keys.APP, where, ("kind", kind))
    if kind == "command" and found["interface"] is None:
        tables.wrong("what the program speaks is missing", where, allowed='interface = "fastcgi" | "scgi"')
    directory = os.path.normpath(os.path.join(tables.directory, found["directory"] or ""))
    if (fault := files.directory_fault(directory)) is not None:
        tables.wrong(fault.problem, f"{where}.directory", found["directory"], fault.remedy)
    if found["user"] is not None:
        tables.user(found["user"], f"{where}.user")
    common = {"environment": found["environment"], "directory": os.fsencode(directory), "user": found["user"]}
    if kind == "command":
        program = _program(tables, f"{where}.command", found["command"][0], directory, table["command"])
        workers = _number_of_workers(tables, table.get("workers", 1), f"{where}.workers")
        return App(
            name, (os.fsencode(program), *map(os.fsencode, found["command"][1:])), found["interface"], workers, **common
        )
    hosting = _hosting(tables, where, kind, found, table.get("workers"))
    python = sys.executable
    if found["python"] is not None:
        python = _program(tables, f"{where}.python", found["python"], directory, found["python"])
    return App(
        name, workers=hosting.processes, wsgi=found["wsgi"], asgi=found["asgi"], python=python, hosting=hosting, **common
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
        tables.values(table, keys.APP, where)  # a misspelt key is the likelier mistake
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


def _number_of_workers(tables: Tables, value: Any, key: str) -> int:
    """Of a command: so many."""
    if isinstance(value, dict):
        only = "a command has a fixed number of workers in this version"
        for name in value:
            if name not in ("min", "max"):
                tables.wrong(only, f"{key}.{name}", value[name], "workers = 4")
        low, high = value.get("min", value.get("max")), value.get("max", value.get("min"))
        if low != high:
            tables.wrong(only, key, value, f"workers = {high}")
        value = high
    try:
        return count(1, MOST)(value)
    except ValueError as error:
        tables.wrong("is not allowed", key, value, str(error))


def _hosting(tables: Tables, where: str, kind: str, found: dict[str, Any], workers: Any) -> Hosting:
    """What `concurrency`, `workers` and `threads` come to."""
    model = found["concurrency"] or {"wsgi": "threadpool", "asgi": "event"}[kind]
    threads = found["threads"]
    if threads is not None and model not in ("threadpool", "event"):
        tables.wrong(f"means nothing for concurrency {model!r}", f"{where}.threads", threads, "for threadpool, event")
    if threads is not None and model == "event" and kind == "asgi":
        tables.wrong("an ASGI application runs in the event loop itself", f"{where}.threads", threads,
                     "leave it out; `workers` for more processes")  # fmt: skip
    key = f"{where}.workers"
    given: dict[str, int] = {}
    if isinstance(workers, dict):
        values = tables.values(workers, keys.WORKERS, key, ("concurrency", model))
        given = {name: value for name, value in values.items() if value is not None}
        processes = given.pop("min", None)
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
        return worker_hosting(model, processes, threads, given, blocks=kind == "wsgi")
    except ModelError as error:
        if error.key == "processes" and not isinstance(workers, dict):
            remedy = f"workers = {{ max = {workers} }} for so many threads" if model == "thread" else error.remedy
            tables.wrong(error.problem, key, workers, remedy)
        name = {"processes": "min"}.get(error.key, error.key)
        tables.wrong(error.problem, f"{key}.{name}", error.value, error.remedy)
