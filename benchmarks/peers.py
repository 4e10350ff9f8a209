"""The gateway beside other web servers, each interface to the same origin; the gateway in its default model.

Promise: each server is one process on one core; all are up all the time and take turns. A server that cannot do an
interface, or is not installed, is left out.
Must never know: a server's config. Next: `servers.py` and `more_servers.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import measure, more_servers, report, running, servers
from benchmarks.origin import BIG, INTERFACES, MEDIUM, SMALL
from benchmarks.report import Cell, Grid, Part
from benchmarks.rounds import Plan, take_turns

NAME = "peers"
TITLE = "The gateway beside other web servers"
OURS = "gateway"
BASE = "nginx"
"""Whose slowest answers ours are compared with."""
WARM_UP_S = 1
POSTED = b"x" * 65536
PATIENT = 256
"""With more connections than these, one may wait for longer than wrk's two seconds: that is marked and no failure."""
SPARE = 512
"""Descriptors beside those of the connections: listeners, logs, the program itself."""


@dataclass(frozen=True)
class Case:
    """What is asked for, and what comes."""

    path: str
    content: bytes
    connections: int = 32
    posted: bytes | None = None
    """The content of each request, if that is a POST."""
    varied: bool = False
    """Whether no two requests are alike."""

    @property
    def interface(self) -> str:
        return self.path.split("/")[1]


def _sizes(interface: str, **contents: bytes) -> dict[str, Case]:
    return {f"{interface}/{size}": Case(f"/{interface}/{size}", content) for size, content in contents.items()}


def _post(interface: str) -> dict[str, Case]:
    return {f"{interface}/post": Case(f"/{interface}/post", SMALL, posted=POSTED)}


def _varied(interface: str) -> dict[str, Case]:
    return {f"{interface}/varied": Case(f"/{interface}/small", SMALL, varied=True)}


def _counts(interface: str) -> dict[str, Case]:
    return {f"{interface}/small-{count}": Case(f"/{interface}/small", SMALL, count) for count in (1, 256, 1000)}


CASES = {
    **_sizes("http", small=SMALL, medium=MEDIUM, big=BIG), **_post("http"), **_varied("http"), **_counts("http"),
    **_sizes("fastcgi", small=SMALL, medium=MEDIUM, big=BIG), **_post("fastcgi"), **_varied("fastcgi"),
    **_sizes("multiplexed", small=SMALL, big=BIG), **_varied("multiplexed"), **_counts("multiplexed"),
    **_sizes("scgi", small=SMALL, medium=MEDIUM, big=BIG), **_post("scgi"), **_varied("scgi"),
    "cgi/small": Case("/cgi/small", SMALL, 8),  # a script is a process: eight at once keep one core busy
    **_sizes("static", small=SMALL, big=BIG),
}  # fmt: skip
# server -> the interfaces that it serves
SERVED = {
    OURS: (*INTERFACES, "cgi", "static"),
    "nginx": (*INTERFACES, "static"),
    "lighttpd": (*INTERFACES, "cgi", "static"),
    "apache": (*INTERFACES, "cgi", "static"),
    "haproxy": ("http", "fastcgi", "multiplexed"),
    "caddy": ("http", "fastcgi", "multiplexed", "static"),
    "h2o": ("http", "fastcgi", "multiplexed", "static"),
}
SERVERS = tuple(SERVED)
NOTES = {
    "small, medium, big": "responses of 13 octets, 16 KiB and 1 MiB; the number behind is that of connections, else 32",
    "post": "requests with 64 KiB of content, and responses of 13 octets",
    "varied": "as small, but no request is like another: another query and another cookie each time, a browser's other "
    "fields; else all requests of a case are the same",
    "p50, p99": "from the request to the end of the response, with the server busy all the time: it is the wait for one's "
    "turn that they show",
    "apache": "its processor time on cgi is without that of the scripts: mod_cgid ignores that they end (SIGCHLD), and then "
    "Linux adds it nowhere",
    "caddy": "opens a connection to the FastCGI application for each request; it cannot keep them",
    "lighttpd": "opens a connection to the origin for each request",
    "~": "some requests took more than 2 s",
}


def names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cases and servers, for the command line."""
    return tuple(CASES), SERVERS


def makers(origin: servers.Origin, cgi: Path, static: Path) -> dict[str, running.Maker]:
    """How each server is configured. It serves `cgi` if that is there when it starts."""
    return {
        "gateway": partial(servers.gateway, origin=origin, cgi=cgi, static=static),
        "nginx": partial(servers.nginx, origin=origin, static=static),
        "lighttpd": partial(servers.lighttpd, origin=origin, static=static),
        "apache": partial(more_servers.apache, origin=origin, cgi=cgi, static=static),
        "haproxy": partial(more_servers.haproxy, origin=origin),
        "caddy": partial(more_servers.caddy, origin=origin, static=static),
        "h2o": partial(more_servers.h2o, origin=origin, static=static),
    }


def write_files(directory: Path) -> Path:
    """The folder of what is served as static files."""
    static = directory / "static"
    static.mkdir()
    for name, content in (("small", SMALL), ("big", BIG)):
        (static / name).write_bytes(content)
    return static


def run(plan: Plan) -> Part:
    """The whole of it. Raises running.CannotStart."""
    cases = [case for case in CASES if plan.wants_case(case)]
    most = max(CASES[case].connections for case in cases)
    running.allow_descriptors(2 * most + SPARE, f"{most:,} connections", "--only")
    present = servers.present([name for name in SERVERS if plan.wants_server(name)], plan.console)
    cells = [Cell(name, case) for case in cases for name in present if CASES[case].interface in SERVED[name]]
    with contextlib.ExitStack() as stack:
        directory = running.directory(stack)
        if any(CASES[case].interface == "cgi" for case in cases):
            servers.compile_cgi(directory)
        scripts = {"post": measure.post_script(len(POSTED)), "varied": measure.VARIED_SCRIPT}
        for name, text in scripts.items():
            (directory / f"{name}.lua").write_text(text)
        origin = servers.start_origin(stack, directory, plan.load_core, over_unix=plan.unix)
        make = makers(origin, directory / "cgi", write_files(directory))
        started = {
            name: running.start(stack, name, make[name], directory, (plan.server_core,)) for name in present
        }  # fmt: skip

        def one(cell: Cell, warm: bool) -> measure.Result:
            case, server = CASES[cell.case], started[cell.server]
            script = "post" if case.posted else "varied" if case.varied else None
            url = server.url + case.path
            measure.check(url, case.content, case.posted)
            return measure.measure(
                url, server.pid, seconds=plan.seconds if warm else WARM_UP_S, connections=case.connections,
                core=plan.load_core, script=directory / f"{script}.lua" if script else None,
                patient=case.connections > PATIENT,
            )  # fmt: skip

        take_turns(plan, cells, one)
    part = Part(NAME, TITLE, present, plan.settings(), cells, notes=NOTES)
    part.grids = grids(part)
    return part


# ---------------------------------------------------------------------- tables


def grids(part: Part) -> list[Grid]:
    """Each kind of figure for all servers, then the ratios to each of the others."""
    cells = report.by_case(part.cells)
    cases = list(dict.fromkeys(cell.case for cell in part.cells))
    names = list(dict.fromkeys(cell.server for cell in part.cells))
    made = [
        Grid(
            f"{title} (medians)",
            ["case", *names],
            [[case, *(report.middle(cells.get((case, name)), value, style) for name in names)] for case in cases],
        )
        for title, value, style in (
            ("requests per second", report.per_s, ",.0f"),
            ("microseconds of processor time a request", report.cpu_us, ",.1f"),
            ("microseconds until half of the answers were there: p50", report.p50_us, ",.0f"),
            ("microseconds until 99 % of the answers were there: p99", report.p99_us, ",.0f"),
        )
    ]
    if OURS in names:
        made += [ratios(cells, cases, name) for name in names if name != OURS]
    return made


def ratios(cells: report.Cells, cases: Iterable[str], other: str) -> Grid:
    """Of the cases that both serve; of processor time and p99, less is better."""
    kinds: dict[str, Callable[[measure.Result], float]] = {"requests": report.per_s, "processor": report.cpu_us}
    if other == BASE:
        kinds["p99"] = report.p99_us
    return Grid(
        f"gateway / {other} (requests: more is better)",
        ["case", *(f"{what} / {other}" for what in kinds)],
        [
            [case, *(report.cell_ratio(cells[case, OURS], cells[case, other], value) for value in kinds.values())]
            for case in cases
            if (case, OURS) in cells and (case, other) in cells
        ],
    )
