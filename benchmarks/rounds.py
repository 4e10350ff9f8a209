"""The order of a run: every server on every case, in rounds.

Promise: within a round the cases come in random order, and for each of them the servers in random order, one
straight after the other: what is compared lies close together in time. Round 0 is the warm-up: it finds what
does not work at all, and is not kept.
Must never know: what is measured. Next: `peers.py`, the simplest of the parts that use it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.measure import Failed, Result
from benchmarks.report import Cell


@dataclass(frozen=True)
class Plan:
    """What every part is told."""

    seconds: int
    """Length of one run."""
    rounds: int
    server_core: int
    load_core: int
    console: Console
    """For progress."""
    only: tuple[str, ...] = ()
    """Cases, or beginnings of cases up to a slash; empty: all."""
    servers: tuple[str, ...] = ()
    """Servers, or beginnings of their names up to a dash; empty: all."""
    unix: bool = False
    """Unix sockets to the origin instead of TCP."""
    idle: int = 10_000
    """How many idle connections."""

    def wants_case(self, case: str) -> bool:
        return not self.only or any(case == word or case.startswith(word + "/") for word in self.only)

    def wants_server(self, server: str) -> bool:
        return not self.servers or any(server == word or server.startswith(word + "-") for word in self.servers)

    def settings(self) -> dict[str, str | int | bool]:
        """For the record."""
        return {
            "seconds": self.seconds,
            "rounds": self.rounds,
            "unix": self.unix,
            "server_core": self.server_core,
            "load_core": self.load_core,
        }


def in_turns(cells: Sequence[Cell]) -> list[Cell]:
    """All cells once: random cases, and for each of them random servers."""
    by_case: dict[str, list[Cell]] = {}
    for cell in cells:
        by_case.setdefault(cell.case, []).append(cell)
    cases = random.sample(list(by_case.values()), len(by_case))
    return [cell for one in cases for cell in random.sample(one, len(one))]


def take_turns(plan: Plan, cells: Sequence[Cell], one: Callable[[Cell, bool], Result | None]) -> None:
    """Fill the cells; `one(cell, warm)` measures, or warms up where `warm` is false. A cell that failed is left out."""
    for number in range(plan.rounds + 1):
        for cell in in_turns(cells):
            if cell.failure:
                continue
            plan.console.print(f"round {number} of {plan.rounds}: {cell.server} {cell.case}", style="dim")
            try:
                result = one(cell, number > 0)
            except Failed as failure:
                cell.failure = str(failure)
            else:
                if number and result is not None:
                    cell.rounds.append(result)
