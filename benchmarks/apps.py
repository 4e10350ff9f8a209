"""`gateway worker` beside gunicorn, uWSGI and uvicorn: the same application, one worker process each.

Promise: all are behind the same nginx, at unix sockets, and share one core in turns; nginx and the load have the other.
Processor time is that of the application server's processes alone. Ratios are to gunicorn's sync worker (WSGI) and to
uvicorn (ASGI).
Must never know: a server's options. Next: `app_servers.py`, which has them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from benchmarks import app_servers, measure, report, running, servers
from benchmarks.app_servers import BASES, SERVERS
from benchmarks.report import Cell, Grid, Part
from benchmarks.rounds import Plan, take_turns

NAME = "apps"
TITLE = "The application server behind nginx"
CONNECTIONS = 32
WARM_UP_S = 1
CASES = ("hello",)
NOTES = {
    "all": f"{CONNECTIONS} connections from wrk to nginx; one worker process each, so that one core is what is compared; "
    "processor time leaves nginx out",
    "busy": "how much of its core the server used: far below 100 %, nginx and wrk on the other core are the bound, and only "
    "processor time compares",
}


def names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cases and servers, for the command line."""
    return CASES, tuple(SERVERS)


def run(plan: Plan) -> Part:
    """The whole of it. Raises running.CannotStart."""
    wanted = {name: server for name, server in SERVERS.items() if plan.wants_server(name)}
    programs = dict.fromkeys(server.program for server in wanted.values())
    versions = servers.present(["nginx", *programs], plan.console)
    if "nginx" not in versions:
        raise running.CannotStart("nginx is what stands in front of all application servers, and is not installed")
    wanted = {name: server for name, server in wanted.items() if server.program in versions}
    cells = [Cell(name, case) for case in CASES for name in wanted]
    with contextlib.ExitStack() as stack:
        directory = running.directory(stack)
        started = {name: start(stack, name, directory, plan.server_core) for name in wanted}
        ports = {name: running.free_port() for name in wanted}

        def nginx(home: Path, port: int) -> list[str]:
            blocks = [
                app_servers.nginx_server(name, server, socket_path(directory, name), ports[name])
                for name, server in wanted.items()
            ]
            blocks.append(f"server {{ listen 127.0.0.1:{port}; return 204; }}")  # where it is seen to listen
            return servers.nginx_with(home, 1024, "\n  ".join(blocks))

        running.start(stack, "nginx", nginx, directory, (plan.load_core,))

        def one(cell: Cell, warm: bool) -> measure.Result:
            url = f"http://127.0.0.1:{ports[cell.server]}/"
            measure.check(url, app_servers.GREETING)
            return measure.measure(
                url, started[cell.server].pid, seconds=plan.seconds if warm else WARM_UP_S, connections=CONNECTIONS,
                core=plan.load_core,
            )  # fmt: skip

        take_turns(plan, cells, one)
    notes = {**NOTES, **{name: server.note for name, server in wanted.items()}}
    part = Part(NAME, TITLE, versions, plan.settings(), cells, notes=notes)
    part.grids = grids(part)
    return part


def socket_path(directory: Path, name: str) -> str:
    return str(directory / f"{name}.sock")


def start(stack: contextlib.ExitStack, name: str, directory: Path, core: int) -> running.Running:
    """One application server, once it listens. Raises CannotStart."""
    path = socket_path(directory, name)
    server = running.Running(SERVERS[name].command(path), (core,), directory / f"{name}.stderr")
    stack.callback(server.stop)
    server.await_listening(name, path)
    return server


# ---------------------------------------------------------------------- tables


def busy(result: measure.Result) -> float:
    """Share of a core."""
    return result.per_s * result.cpu_us / 1e6


def grids(part: Part) -> list[Grid]:
    cells = report.by_case(part.cells)
    made = []
    for kind, base in BASES.items():
        rows = []
        for case in CASES:
            for name in dict.fromkeys(cell.server for cell in part.cells):
                if SERVERS[name].kind != kind:
                    continue
                cell, base_cell = cells[case, name], cells.get((case, base))
                rows.append([
                    name, report.figures(cell), report.middle(cell, busy, ".0%"),
                    report.cell_ratio(cell, base_cell, report.per_s), report.cell_ratio(cell, base_cell, report.cpu_us),
                ])  # fmt: skip
        if rows:
            made.append(
                Grid(
                    f"{kind.upper()}: medians, and ratios to {base}: more is better for requests, less for processor time",
                    ["server", "requests/s, processor time", "busy", f"requests / {base}", f"processor / {base}"], rows,
                )
            )  # fmt: skip
    return made
