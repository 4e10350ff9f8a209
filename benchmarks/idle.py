"""Thousands of idle connections beside 32 busy ones: what they cost the gateway (one loop), and nginx.

Promise: in each round each server starts anew, is loaded without and then with the idle connections, and has to have
kept all of them to the end; memory is taken right before they are opened and right after, under no load.
Must never know: a server's config. Next: `idle_clients.py`, the clients.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import msgspec

from benchmarks import measure, process_tree, report, running, servers
from benchmarks.origin import SMALL
from benchmarks.report import Cell, Grid, Memory, Part
from benchmarks.rounds import Plan

NAME = "idle"
TITLE = "Idle connections beside busy ones"
OURS = "gateway"
SERVERS = (OURS, "nginx")
ALONE, WITH_IDLE = CASES = ("alone", "with-idle")
BUSY = 32
EVERY_S = 30.0
"""Each idle connection asks once in so long."""
SPARE = 512
"""Descriptors beside those of the clients: workers, logs, the program itself."""
ROOM = 8 / 7
"""nginx lets go of kept connections when less than a sixteenth of its worker_connections is left."""
PATH = "/http/small"
WARM_UP_S = 1


class Kept(msgspec.Struct):
    """What the idle clients report at their end."""

    answered: int
    lost: int


def names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cases and servers, for the command line."""
    return CASES, SERVERS


def run(plan: Plan) -> Part:
    """The whole of it. Raises running.CannotStart."""
    running.allow_descriptors(plan.idle + SPARE, f"{plan.idle:,} idle connections", "--idle")
    versions = servers.present([name for name in SERVERS if plan.wants_server(name)], plan.console)
    cells = {(case, name): Cell(name, case) for case in CASES for name in versions}
    memory: list[Memory] = []
    with contextlib.ExitStack() as stack:
        directory = running.directory(stack)
        origin = servers.start_origin(stack, directory, plan.load_core, over_unix=plan.unix)
        connections = int((plan.idle + SPARE) * ROOM)
        makers: dict[str, running.Maker] = {
            "gateway": partial(servers.gateway, origin=origin, connections=connections),
            "nginx": partial(servers.nginx, origin=origin, connections=connections),
        }
        for number in range(1, plan.rounds + 1):
            for name in random.sample(list(versions), len(versions)):
                if any(cells[case, name].failure for case in CASES):
                    continue
                plan.console.print(f"round {number} of {plan.rounds}: {name}", style="dim")
                try:
                    memory += round_of(plan, name, makers[name], directory, cells)
                except (measure.Failed, PermissionError) as failure:
                    cells[WITH_IDLE, name].failure = str(failure)
    settings = {**plan.settings(), "idle": plan.idle}
    part = Part(NAME, TITLE, versions, settings, list(cells.values()), memory, notes(plan))
    part.grids = grids(part)
    return part


def round_of(
    plan: Plan, name: str, maker: running.Maker, directory: Path, cells: Mapping[tuple[str, str], Cell]
) -> list[Memory]:
    """One server, once. Raises Failed."""
    with contextlib.ExitStack() as stack:
        server = running.start(stack, name, maker, directory, (plan.server_core,))
        url = server.url + PATH

        def busy(seconds: int) -> measure.Result:
            return measure.measure(url, server.pid, seconds=seconds, connections=BUSY, core=plan.load_core)

        def taken(connections: int) -> Memory:
            members = process_tree.family(server.pid)
            threads = sum(process.threads for process in members)
            return Memory(name, connections, process_tree.pss_kib(server.pid), len(members), threads)

        measure.check(url, SMALL)
        busy(WARM_UP_S)
        alone = busy(plan.seconds)
        memory = [taken(0)]
        with idle_clients(server.port, plan, directory) as kept:
            memory.append(taken(plan.idle))
            with_idle = busy(plan.seconds)
        if kept.lost:
            raise measure.Failed(f"{kept.lost} of {plan.idle} idle connections were lost: {said(directory)}")
        cells[ALONE, name].rounds.append(alone)
        # The idle ones ask, too: what the server spent on that is not the busy ones' share.
        cells[WITH_IDLE, name].rounds.append(with_idle)
        return memory


@contextlib.contextmanager
def idle_clients(port: int, plan: Plan, directory: Path) -> Iterator[Kept]:
    """All of them are open while the block runs; afterwards it is known what they kept. Raises Failed."""
    command = [sys.executable, "-m", "benchmarks.idle_clients",
               "127.0.0.1", str(port), PATH, str(plan.idle), str(EVERY_S)]  # fmt: skip
    clients = running.Running(
        command, (plan.load_core,), directory / "idle.stderr", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    stdin, stdout = clients.process.stdin, clients.process.stdout
    assert stdin is not None and stdout is not None
    kept = Kept(0, 0)
    try:
        if not stdout.readline():
            raise measure.Failed(clients.said())
        yield kept
        stdin.close()
        last = stdout.readline()
        if not last:
            raise measure.Failed(f"the idle clients ended: {clients.said()}")
        found = json.loads(last)
        kept.answered, kept.lost = found["answered"], found["lost"]
    finally:
        clients.stop()
        stdout.close()
        if not stdin.closed:
            stdin.close()


def said(directory: Path) -> str:
    return (directory / "idle.stderr").read_text(errors="replace").strip()


# ---------------------------------------------------------------------- tables


def notes(plan: Plan) -> dict[str, str]:
    return {
        "with-idle": f"each of {plan.idle:,} idle connections asks once in {EVERY_S:.0f} s, about "
        f"{plan.idle / EVERY_S:,.0f} requests/s in all, which the server and the core of the load bear and nobody counts",
        "gateway": "one process (event); the default is one a core",
        "nginx": "one worker; it lays out room for all its connections (worker_connections) when it starts, so that part is "
        "in the memory before, and the memory of each connection is less than what it takes",
        "memory": "proportional set size; what the kernel keeps of each connection is the same for both and left out",
    }


def grids(part: Part) -> list[Grid]:
    cells = report.by_case(part.cells)
    pairs = {name: list(pairs_of(part.memory, name)) for name in part.versions}
    each = {name: [(after - before) / idle for before, after, idle in found] for name, found in pairs.items()}
    rows, rows_of_memory = [], []
    for name in part.versions:
        alone, with_idle = cells.get((ALONE, name)), cells.get((WITH_IDLE, name))
        rows.append([
            name, report.figures(alone), report.figures(with_idle),
            report.cell_ratio(with_idle, alone, report.per_s), report.cell_ratio(with_idle, alone, report.cpu_us),
        ])  # fmt: skip
        found = pairs[name]
        rows_of_memory.append([
            name,
            report.mib(middle([before for before, _, _ in found])),
            report.mib(middle([after for _, after, _ in found])),
            report.spread(each[name]),
            report.spread([after / idle for _, after, idle in found]),
        ])  # fmt: skip
    made = [
        Grid(
            f"{BUSY} busy connections, requests per second and processor time a request (medians)",
            ["server", "alone", "with idle ones", "requests, with / alone", "processor, with / alone"], rows,
        ),
        Grid(
            "memory before and with the idle connections (MiB, medians), and for each of them (KiB)",
            ["server", "before", "with", "(with - before) / idle", "with / idle"], rows_of_memory,
        ),
    ]  # fmt: skip
    if OURS in each and "nginx" in each:
        ratios = [ours / theirs for ours, theirs in zip(each[OURS], each["nginx"], strict=False) if theirs > 0]
        in_all = [a[1] / b[1] for a, b in zip(pairs[OURS], pairs["nginx"], strict=False)]
        made.append(
            Grid(
                "memory, gateway / nginx: less is better",
                ["", "for each idle connection", "in all"],
                [["gateway / nginx", report.spread(ratios), report.spread(in_all)]],
            )
        )
    return made


def pairs_of(memory: list[Memory], name: str) -> Iterator[tuple[int, int, int]]:
    """KiB before, KiB with, and how many idle connections, round by round."""
    ours = [one for one in memory if one.server == name]
    for before, after in zip(ours[::2], ours[1::2]):
        yield before.kib, after.kib, after.connections


def middle(values: list[int]) -> float | None:
    return median(values) if values else None
