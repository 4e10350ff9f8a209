"""Workers that die, hang and are replaced under load: what each server loses, and how soon all is well again.

Promise: every answer is checked; each fault strikes a server that was started for it alone, while eight clients ask
without pause; the time to recover is that from the first blow to the last request that failed.
Must never know: a server's config. Next: `fault_servers.py`, and `checked_load.py`, the clients.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import running, servers
from benchmarks.checked_load import Load, Tally
from benchmarks.fault_servers import RECYCLED_AFTER, SERVERS, Server, Unable
from benchmarks.report import Cell, Grid, Part
from benchmarks.rounds import Plan

NAME = "faults"
TITLE = "Requests lost when workers die, hang and are replaced"
CLIENTS: Final = 8
BEFORE: Final = 200
"""Answers before the blow, and so many after the last one: it counts as recovered only if it goes on."""
RELOADS: Final = 50


def kill_one(server: Server, load: Load) -> None:
    for _ in range(5):
        os.kill(server.pids(server.workers)[0], signal.SIGKILL)
        load.more(50)


def kill_all(server: Server, load: Load) -> None:
    for pid in server.pids(server.workers):
        os.kill(pid, signal.SIGKILL)


def stop_one(server: Server, load: Load) -> None:
    os.kill(server.pids(server.workers)[0], signal.SIGSTOP)
    time.sleep(4.0)  # long enough for each server's bound, and for a client to run into the worker again and again


def kill_front(server: Server, load: Load) -> None:
    found = server.pids(server.fronts)
    if not found:
        raise Unable
    os.kill(found[0], signal.SIGKILL)


def recycle(server: Server, load: Load) -> None:
    load.more(20 * RECYCLED_AFTER, within_s=60)


def restart(server: Server, load: Load) -> None:
    for _ in range(5):
        server.restart()
        load.more(200)


def reload(server: Server, load: Load) -> None:
    for _ in range(RELOADS):
        server.reload()
        load.more(20)


def upgrade(server: Server, load: Load) -> None:
    server.upgrade()
    load.more(500)


FAULTS: Final[dict[str, tuple[str, Callable[[Server, Load], None]]]] = {
    "kill-worker": ("SIGKILL of a worker, five times", kill_one),
    "kill-workers": ("SIGKILL of all four workers at once", kill_all),
    "kill-front": ("SIGKILL of a process that clients speak to", kill_front),
    "stop-worker": ("SIGSTOP of a worker; a request may take a worker for 1 s, where there is such a bound", stop_one),
    "recycle": (f"each worker ends after {RECYCLED_AFTER} requests; 2,000 requests", recycle),
    "restart": ("new workers for the application, five times", restart),
    "reload": (f"the server reads its config again, {RELOADS} times", reload),
    "upgrade": ("a new server process takes over", upgrade),
}
PLANNED: Final = ("recycle", "restart", "reload", "upgrade")
"""What an owner does on purpose: no request may be lost."""


def names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cases and servers, for the command line."""
    return tuple(FAULTS), tuple(SERVERS)


def run(plan: Plan) -> Part:
    """The whole of it. Raises running.CannotStart."""
    wanted = [name for name in SERVERS if plan.wants_server(name)]
    programs = servers.present([name.partition("-")[0] for name in wanted], plan.console)
    versions = {name: programs[name.partition("-")[0]] for name in wanted if name.partition("-")[0] in programs}
    rows, cells = [], []
    with contextlib.ExitStack() as stack:
        directory = running.directory(stack)
        for case in filter(plan.wants_case, FAULTS):
            for name in versions:
                plan.console.print(f"{case}: {name}", style="dim")
                cell = Cell(name, case)
                cells.append(cell)
                try:
                    rows.append([case, name, *figures(*strike(case, name, directory / f"{case}-{name}"))])
                except Unable:
                    rows.append([case, name, *["-"] * 6])
                except TimeoutError as error:
                    cell.failure = str(error)
                    rows.append([case, name, str(error), *["-"] * 5])
    part = Part(NAME, TITLE, versions, plan.settings(), cells, notes={case: told for case, (told, _) in FAULTS.items()})
    part.grids = [
        Grid(
            f"{CLIENTS} clients, GET and POST by turns; repeated: a GET that the client sent again, since its kept "
            "connection was found closed",
            ["fault", "server", "sent", "right", "repeated", "failed", "how", "last failure after (s)"], rows,
        )
    ]  # fmt: skip
    return part


def strike(case: str, name: str, where: Path) -> tuple[Tally, float]:
    """The fault, on a server of its own; when it struck. Raises CannotStart, Unable, TimeoutError."""
    with contextlib.ExitStack() as stack:
        server = SERVERS[name](stack, where, requests=RECYCLED_AFTER if case == "recycle" else 0)
        with Load(server.port, "/page.php", clients=CLIENTS) as load:
            load.more(BEFORE)
            since = time.monotonic()
            FAULTS[case][1](server, load)
            load.more(BEFORE)
        return load.tally, since


def figures(tally: Tally, since: float) -> list[str]:
    kinds: dict[str, int] = {}
    for failure in tally.failures:
        kinds[failure.what] = kinds.get(failure.what, 0) + 1
    how = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    last = f"{tally.recovered_s(since):.2f}" if tally.failures else "-"
    return [
        f"{tally.sent:,}", f"{tally.right:,}", f"{tally.repeated:,}", f"{len(tally.failures):,}", how or "-", last
    ]  # fmt: skip
