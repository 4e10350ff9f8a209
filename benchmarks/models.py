"""The gateway under each of its six models: requests, processor time and memory at 1, 32 and 256 connections.

Promise: the same origin, routes and load for all; ratios are to `event` in one process. First each model runs by
itself, and its memory is taken while the connections are open; then all are up and take turns on one core.
Must never know: how a model works, but for what the config says of it. Next: `servers.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import measure, process_tree, report, running, servers
from benchmarks.origin import SMALL
from benchmarks.report import Cell, Grid, Memory, Part
from benchmarks.rounds import Plan, take_turns

NAME = "models"
TITLE = "The six models of the gateway"
BASE = "event"
MOST = 256
"""Connections; where a model has a bound, it is as high."""
THREADS = 16
STEADY_S = 1.5
"""A pool that has not changed for so long has as many children as it wants."""
GROWN_S = 40.0
"""The longest that is waited for that."""


@dataclass(frozen=True)
class Model:
    """How the gateway is configured, and how to read what comes of it."""

    server: str
    note: str
    both_cores: bool = False
    holds: int = 1 << 30
    """Connections that it can keep at the same time; with more, what it refuses is counted and not a failure."""


def _pool(concurrency: str, most: int) -> str:
    # Grown once, a pool stays as it is, so that the rounds do not measure how it grows; and nobody is replaced.
    return (
        f'concurrency = "{concurrency}"\nprocesses = 1\n'
        + (f"threads = {THREADS}\n" if concurrency == "threadpool" else "")
        + f"[server.children]\nmax = {most}\nmax_spare = {MOST}\nrequests = 0\n"
    )


def _runners(concurrency: str) -> str:
    return f'concurrency = "{concurrency}"\n[server.children]\nmax = {MOST}\n'


MODELS = {
    "single": Model(
        'concurrency = "single"\n',
        "serves one connection at a time and closes it where others wait, so that from 32 connections on each "
        "request pays for a connection of its own",
        holds=1,
    ),
    "fork": Model(
        _runners("fork"),
        f"at most {MOST} processes instead of 64; the load keeps its connections, so the price of a process for each "
        "one shows under `closing` only",
    ),
    "thread": Model(
        _runners("thread"),
        f"at most {MOST} threads instead of 64; the load keeps its connections, so the price of a thread for each one "
        "shows under `closing` only",
    ),
    "prefork": Model(
        _pool("prefork", MOST),
        f"at most {MOST} processes instead of 64, none ends after 10,000 requests or for being spare: the price of "
        "growing and of replacing is left out; with fewer children than connections, kept ones are closed to make room",
        holds=32,
    ),
    "threadpool": Model(
        _pool("threadpool", MOST // THREADS),
        f"processes of {THREADS} threads, at most {MOST // THREADS}; else as prefork",
        holds=32,
    ),
    "event": Model(
        'concurrency = "event"\nprocesses = 1\n',
        "the base of all ratios; one process, where the default is one a core",
    ),
    "event-2": Model(
        'concurrency = "event"\nprocesses = 2\n',
        "two processes on both cores, and one of these is that of the load and the origin: its requests/s are bounded by "
        "them, only its processor time compares",
        both_cores=True,
    ),
}


@dataclass(frozen=True)
class Case:
    path: str
    connections: int
    closing: bool = False
    """A connection for each request."""


CASES = {
    **{f"{name}/{count}": Case(f"/{name}/small", count) for name in ("http", "fastcgi") for count in (1, 32, MOST)},
    "static/32": Case("/static/small", 32),
    "closing/32": Case("/http/small", 32, closing=True),
}  # fmt: skip
CASE_NOTES = {
    "http, fastcgi": "13 octets from the origin; the number is that of the client's connections, which are kept",
    "static": "a file of 13 octets",
    "closing": "as http/32, with a new connection for each request",
    "one core": "server on one core, load and origin on the other; memory is the proportional set size of all processes, "
    "without the kernel's own (socket buffers, page tables, stacks of the kernel)",
    "e": "requests that were refused or broken off until there were as many processes and threads; the load asked again",
    "*": "some requests were refused or broken off, since the model is bounded; they are not part of the rate",
    "~": "some requests took more than 2 s: who serves already leaves little of the core to who has to be started",
}


def names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cases and servers, for the command line."""
    return tuple(CASES), tuple(MODELS)


def run(plan: Plan) -> Part:
    """The whole of it. Raises running.CannotStart."""
    models = {name: model for name, model in MODELS.items() if plan.wants_server(name)}
    cells = [Cell(name, case) for case in CASES if plan.wants_case(case) for name in models]
    versions = servers.present(["gateway"], plan.console)
    with contextlib.ExitStack() as stack:
        directory = running.directory(stack)
        static = directory / "static"
        static.mkdir()
        (static / "small").write_bytes(SMALL)
        origin = servers.start_origin(stack, directory, plan.load_core, over_unix=plan.unix)
        make = partial(servers.gateway, origin=origin, static=static)

        memory: list[Memory] = []
        for name, model in models.items():
            memory += census(plan, name, model, partial(make, server=model.server), directory, cells)
        started = {
            name: running.start(stack, name, partial(make, server=model.server), directory, cores(plan, model))
            for name, model in models.items()
        }

        def one(cell: Cell, warm: bool) -> measure.Result | None:
            case, server = CASES[cell.case], started[cell.server]
            url = server.url + case.path
            measure.check(url, SMALL)
            if not warm:
                grown(cell.server, url, server.pid, case.connections, plan.load_core)
                return None
            return measure.measure(
                url, server.pid, seconds=plan.seconds, connections=case.connections, core=plan.load_core,
                closing=case.closing, bounded=MODELS[cell.server].holds < case.connections, patient=True,
            )  # fmt: skip

        take_turns(plan, cells, one)
    notes = {**{name: model.note for name, model in models.items()}, **CASE_NOTES}
    part = Part(NAME, TITLE, versions, plan.settings(), cells, memory, notes)
    part.grids = grids(part)
    return part


def cores(plan: Plan, model: Model) -> Sequence[int]:
    return sorted({plan.server_core, plan.load_core}) if model.both_cores else (plan.server_core,)


def grown(name: str, url: str, pid: int, connections: int, core: int) -> Memory:
    """Load it until it has as many processes and threads as it wants, and look what it takes then. Raises Failed."""
    with measure.loaded(url, connections=connections, core=core) as load:
        processes, threads = process_tree.settled(pid, steady_s=STEADY_S, within_s=GROWN_S)
        kib = process_tree.pss_kib(pid)
    return Memory(name, connections, kib, processes, threads, load.result.errors if load.result else 0)


def census(
    plan: Plan, name: str, model: Model, maker: running.Maker, directory: Path, cells: Sequence[Cell]
) -> list[Memory]:
    """What it takes at rest and with each number of connections, alone and from a fresh start. Marks cells that fail."""
    found: list[Memory] = []
    with contextlib.ExitStack() as stack:
        server = running.start(stack, name, maker, directory, cores(plan, model))
        processes, threads = process_tree.settled(server.pid, steady_s=0.5, within_s=GROWN_S)
        try:
            found.append(Memory(name, 0, process_tree.pss_kib(server.pid), processes, threads))
            url = server.url + "/http/small"
            measure.check(url, SMALL)
            for connections in (1, 32, MOST):
                plan.console.print(f"memory: {name} {connections}", style="dim")
                found.append(grown(name, url, server.pid, connections, plan.load_core))
        except (measure.Failed, PermissionError) as failure:
            for cell in cells:
                if cell.server == name:
                    cell.failure = f"while its memory was taken: {failure}"
    return found


# ---------------------------------------------------------------------- tables


def grids(part: Part) -> list[Grid]:
    cells = report.by_case(part.cells)
    cases = list(dict.fromkeys(cell.case for cell in part.cells))
    models = list(dict.fromkeys(cell.server for cell in part.cells))
    made = [
        Grid(
            title,
            ["case", *models],
            [[case, *(report.middle(cells.get((case, name)), value, style) for name in models)] for case in cases],
        )
        for title, value, style in (
            ("requests per second (medians)", report.per_s, ",.0f"),
            ("microseconds of processor time a request (medians)", report.cpu_us, ",.1f"),
        )
    ]
    others = [name for name in models if name != BASE]
    if BASE in models and others:
        made += [
            Grid(
                f"{title}, model / {BASE}",
                ["case", *others],
                [
                    [case, *(report.cell_ratio(cells.get((case, name)), cells.get((case, BASE)), value) for name in others)]
                    for case in cases
                ],
            )
            for title, value in (
                ("requests per second (more is better)", report.per_s),
                ("processor time a request (less is better)", report.cpu_us),
            )
        ]
    made.append(memory_grid(part.memory))
    return made


def memory_grid(memory: Sequence[Memory]) -> Grid:
    at = {(one.server, one.connections): one for one in memory}
    counts = sorted({one.connections for one in memory})
    rows = []
    for name in dict.fromkeys(one.server for one in memory):
        row = [name]
        for count in counts:
            one = at.get((name, count))
            text = f"{report.mib(one.kib)}  {one.processes} p {one.threads} t" if one else report.NOTHING
            row.append(text + (f" {one.errors} e" if one and one.errors else ""))
        rows.append([*row, per_connection(at.get((name, 1)), at.get((name, MOST)))])
    return Grid(
        "memory in MiB with processes (p), threads (t) and errors (e), by connections; last: KiB a connection",
        ["model", *("at rest" if not count else str(count) for count in counts), f"(at {MOST} - at 1) / {MOST - 1}"],
        rows,
    )


def per_connection(few: Memory | None, many: Memory | None) -> str:
    """KiB that each further connection takes."""
    if few is None or many is None or many.connections == few.connections:
        return report.NOTHING
    return f"{(many.kib - few.kib) / (many.connections - few.connections):,.1f}"
