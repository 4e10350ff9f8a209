"""The gateway beside nginx and lighttpd, each interface to the same origin; the gateway in its default model.

Promise: each server is one process on one core; all are up all the time and take turns.
Must never know: a server's config. Next: `servers.py`.
"""

from __future__ import annotations

import contextlib
from functools import partial

from benchmarks import measure, report, running, servers
from benchmarks.origin import BIG, SMALL
from benchmarks.report import Cell, Grid, Part
from benchmarks.rounds import Plan, take_turns

NAME = "peers"
TITLE = "The gateway beside nginx and lighttpd"
OURS = "gateway"
WARM_UP_S = 1

# case -> (content, connections). A script is a process: eight at once keep one core busy.
CASES = {
    "http/small": (SMALL, 32),
    "http/big": (BIG, 32),
    "fastcgi/small": (SMALL, 32),
    "fastcgi/big": (BIG, 32),
    "multiplexed/small": (SMALL, 32),
    "multiplexed/big": (BIG, 32),
    "scgi/small": (SMALL, 32),
    "scgi/big": (BIG, 32),
    "cgi/small": (SMALL, 8),
}
SERVERS = (OURS, "nginx", "lighttpd")
WITHOUT_CGI = ("nginx",)


def names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cases and servers, for the command line."""
    return tuple(CASES), SERVERS


def run(plan: Plan) -> Part:
    """The whole of it. Raises running.CannotStart."""
    present = servers.present([name for name in SERVERS if plan.wants_server(name)], plan.console)
    cases = [case for case in CASES if plan.wants_case(case)]
    cells = [
        Cell(name, case)
        for case in cases
        for name in present
        if not (case.startswith("cgi/") and name in WITHOUT_CGI)
    ]
    with contextlib.ExitStack() as stack:
        directory = running.directory(stack)
        if any(case.startswith("cgi/") for case in cases):
            servers.compile_cgi(directory)
        origin = servers.start_origin(stack, directory, plan.load_core, over_unix=plan.unix)
        makers: dict[str, running.Maker] = {
            "gateway": partial(servers.gateway, origin=origin, cgi=directory / "cgi"),
            "nginx": partial(servers.nginx, origin=origin),
            "lighttpd": partial(servers.lighttpd, origin=origin),
        }
        started = {
            name: running.start(stack, name, makers[name], directory, (plan.server_core,)) for name in present
        }

        def one(cell: Cell, warm: bool) -> measure.Result:
            content, connections = CASES[cell.case]
            server = started[cell.server]
            url = f"{server.url}/{cell.case}"
            measure.check(url, content)
            return measure.measure(
                url, server.pid, seconds=plan.seconds if warm else WARM_UP_S, connections=connections, core=plan.load_core
            )

        take_turns(plan, cells, one)
    part = Part(NAME, TITLE, present, plan.settings(), cells)
    part.grids = grids(part)
    return part


def grids(part: Part) -> list[Grid]:
    """Requests per second and processor time for each server, then the ratios."""
    cells = report.by_case(part.cells)
    cases = list(dict.fromkeys(cell.case for cell in part.cells))
    names = list(dict.fromkeys(cell.server for cell in part.cells))
    made = [
        Grid(
            "requests per second, and microseconds of processor time a request (medians)",
            ["case", *names],
            [[case, *(report.figures(cells.get((case, name))) for name in names)] for case in cases],
        )
    ]
    others = [name for name in names if name != OURS]
    if OURS in names and others:
        made.append(
            Grid(
                "gateway / other: more is better for requests, less for processor time",
                ["case", *(f"{what} / {other}" for other in others for what in ("requests", "processor"))],
                [
                    [case, *(
                        report.cell_ratio(cells.get((case, OURS)), cells.get((case, other)), value)
                        for other in others
                        for value in (report.per_s, report.cpu_us)
                    )]
                    for case in cases
                ],
            )
        )  # fmt: skip
    return made
