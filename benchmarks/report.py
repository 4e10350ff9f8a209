"""Results as a table of ratios, and as JSON for whoever wants to reckon on.

Promise: a ratio is of two runs of the same round; shown are their median and, in brackets, the
lowest and highest. A cell that failed shows as such and never as a number.
Must never know: how anything was measured. Next: DESIGN's figures in docs/ for comparison.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Result

OURS = "gateway"


class Cell(msgspec.Struct):
    """One server on one case: a result a round, or why there is none."""

    server: str
    case: str
    rounds: list[Result] = []
    failure: str = ""


class Report(msgspec.Struct):
    machine: dict[str, str | int]
    versions: dict[str, str]
    settings: dict[str, str | int | bool]
    cells: list[Cell]


def machine() -> dict[str, str | int]:
    cores = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": cores[0] if cores else platform.machine(),
        "cores": len(cores),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def ratio(ours: Sequence[Result], theirs: Sequence[Result], value: Callable[[Result], float]) -> str:
    """`median (lowest - highest)` of ours / theirs, round by round."""
    ratios = [value(a) / value(b) for a, b in zip(ours, theirs, strict=False) if value(b)]
    if not ratios:
        return "-"
    return f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"


def show(report: Report, console: Console) -> None:
    """Prints requests per second and processor time for each server, then the ratios."""
    facts = report.machine
    console.print(f"{facts['processor']}, {facts['cores']} cores, Linux {facts['kernel']}", highlight=False)
    versions = (f"{name} {version}" for name, version in report.versions.items())
    console.print(", ".join(versions), highlight=False)
    cells = {(cell.case, cell.server): cell for cell in report.cells}
    cases = list(dict.fromkeys(cell.case for cell in report.cells))
    servers = list(dict.fromkeys(cell.server for cell in report.cells))

    table = Table(title="requests per second, and microseconds of processor time a request (medians)")
    table.add_column("case")
    for server in servers:
        table.add_column(server, justify="right")
    for case in cases:
        table.add_row(case, *(figures(cells.get((case, server))) for server in servers))
    console.print(table)

    others = [server for server in servers if server != OURS]
    if OURS in servers and others:
        table = Table(title="gateway / other: more is better for requests, less for processor time")
        table.add_column("case")
        for other in others:
            table.add_column(f"requests / {other}", justify="right")
            table.add_column(f"processor / {other}", justify="right")
        for case in cases:
            row = [case]
            ours = cells.get((case, OURS))
            for other in others:
                theirs = cells.get((case, other))
                if ours and theirs:
                    row.append(ratio(ours.rounds, theirs.rounds, lambda result: result.per_s))
                    row.append(ratio(ours.rounds, theirs.rounds, lambda result: result.cpu_us))
                else:
                    row += ["-", "-"]
            table.add_row(*row)
        console.print(table)

    for cell in report.cells:
        if cell.failure:
            console.print(f"failed: {cell.server} on {cell.case}: {cell.failure}", style="red", markup=False)


def figures(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    if cell.failure:
        return "failed"
    per_s = median(result.per_s for result in cell.rounds)
    cpu_us = median(result.cpu_us for result in cell.rounds)
    return f"{per_s:,.0f}  {cpu_us:,.1f} us"
