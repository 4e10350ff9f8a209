"""Results as tables, for a terminal and as Markdown, and as JSON for whoever wants to reckon on.

Promise: a ratio is of two runs of the same round; shown are their median and, in brackets, the
lowest and highest. A cell that failed shows as such and never as a number. What would make a row
unfair is said below the table.
Must never know: how anything was measured. Next: DESIGN's figures in docs/ for comparison.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.measure import Result

NOTHING = "-"
FAILED = "failed"


class Cell(msgspec.Struct):
    """One server on one case: a result a round, or why there is none."""

    server: str
    case: str
    rounds: list[Result] = []
    failure: str = ""


class Memory(msgspec.Struct, frozen=True):
    """What a server had while so many connections were open."""

    server: str
    connections: int
    kib: int
    """Proportional set size of all its processes."""
    processes: int
    threads: int
    errors: int = 0
    """Requests that were refused or broken off until it had as many processes and threads."""


class Grid(msgspec.Struct):
    """A table of text; the first column names the row."""

    title: str
    head: list[str]
    rows: list[list[str]]


class Part(msgspec.Struct):
    """One of the things that `make bench` measures."""

    name: str
    title: str
    versions: dict[str, str]
    settings: dict[str, str | int | bool]
    cells: list[Cell]
    memory: list[Memory] = []
    notes: dict[str, str] = {}
    """Server or case -> how to read it: what would make the comparison unfair."""
    grids: list[Grid] = []

    def failures(self) -> Iterator[str]:
        for cell in self.cells:
            if cell.failure:
                yield f"{cell.server} on {cell.case}: {cell.failure}"


class Report(msgspec.Struct):
    machine: dict[str, str | int]
    parts: list[Part]


Cells = Mapping[tuple[str, str], Cell]
"""By case and server."""


def by_case(cells: Sequence[Cell]) -> Cells:
    return {(cell.case, cell.server): cell for cell in cells}


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


# ---------------------------------------------------------------------- what stands in a table


def per_s(result: Result) -> float:
    return result.per_s


def cpu_us(result: Result) -> float:
    return result.cpu_us


def p50_us(result: Result) -> float:
    return result.p50_us


def p99_us(result: Result) -> float:
    return result.p99_us


def spread(values: Sequence[float]) -> str:
    """`median (lowest–highest)`."""
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})" if values else NOTHING


def ratio(ours: Sequence[Result], theirs: Sequence[Result], value: Callable[[Result], float]) -> str:
    """`median (lowest–highest)` of ours / theirs, round by round."""
    return spread([value(a) / value(b) for a, b in zip(ours, theirs, strict=False) if value(b)])


def cell_ratio(ours: Cell | None, theirs: Cell | None, value: Callable[[Result], float]) -> str:
    if ours is None or theirs is None:
        return NOTHING
    return FAILED if ours.failure or theirs.failure else ratio(ours.rounds, theirs.rounds, value)


def middle(cell: Cell | None, value: Callable[[Result], float], style: str = ",.0f") -> str:
    """The median over the rounds; `*` marks errors that were counted because the server is bounded, `~` late answers."""
    if cell is None or not (cell.rounds or cell.failure):
        return NOTHING
    if cell.failure:
        return FAILED
    mark = "*" * any(result.errors for result in cell.rounds) + "~" * any(result.late for result in cell.rounds)
    return f"{median(map(value, cell.rounds)):{style}}{mark}"


def figures(cell: Cell | None) -> str:
    """Requests per second and processor time."""
    rate = middle(cell, per_s)
    return rate if rate in (NOTHING, FAILED) else f"{rate}  {middle(cell, cpu_us, ',.1f')} us"


def mib(kib: float | None) -> str:
    return NOTHING if kib is None else f"{kib / 1024:,.1f}"


# ---------------------------------------------------------------------- tables


def show(facts: Mapping[str, str | int], part: Part, console: Console) -> None:
    """Prints one part."""
    console.rule(part.title)
    for line in heading(facts, part):
        console.print(line, highlight=False, markup=False)
    for grid in part.grids:
        table = Table(title=escape(grid.title))
        for number, name in enumerate(grid.head):
            table.add_column(escape(name), justify="right" if number else "left", no_wrap=not number)
        for row in grid.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    for name, note in part.notes.items():
        console.print(f"{name}: {note}", highlight=False, markup=False)
    for failure in part.failures():
        console.print(f"failed: {failure}", style="red", markup=False)


def markdown(report: Report) -> str:
    """The whole report as a Markdown document."""
    return "\n".join(line for part in report.parts for line in _markdown_part(report.machine, part))


def _markdown_part(facts: Mapping[str, str | int], part: Part) -> Iterator[str]:
    yield from (f"## {part.title}", "", *heading(facts, part), "")
    for grid in part.grids:
        yield from (f"**{grid.title}**", "")
        yield _markdown_row(grid.head)
        yield "|" + "---|" + "---:|" * (len(grid.head) - 1)
        yield from map(_markdown_row, grid.rows)
        yield ""
    for name, note in part.notes.items():
        yield f"- `{name}`: {note}"
    for failure in part.failures():
        yield f"- **failed**: {failure}"
    yield ""


def _markdown_row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def heading(facts: Mapping[str, str | int], part: Part) -> Iterator[str]:
    """What it ran on, and with what."""
    yield (
        f"{facts['processor']}, {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}; "
        f"{part.settings['rounds']} rounds of {part.settings['seconds']} s"
    )
    yield ", ".join(f"{name} {version}" for name, version in part.versions.items())
