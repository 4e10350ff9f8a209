"""Who is measured when, and what is kept of it."""

from __future__ import annotations

from itertools import groupby

import pytest
from rich.console import Console

from benchmarks.measure import Failed, Result
from benchmarks.report import Cell
from benchmarks.rounds import Plan, in_turns, take_turns


def plan(*, rounds: int = 2, only: tuple[str, ...] = (), chosen: tuple[str, ...] = ()) -> Plan:
    return Plan(1, rounds, 0, 1, Console(quiet=True), only, chosen)


def cells() -> list[Cell]:
    return [Cell(server, case) for case in ("http/1", "http/32", "cgi/1") for server in ("ours", "theirs", "others")]


def test_servers_of_one_case_follow_each_other() -> None:
    found = in_turns(cells())
    assert sorted((cell.case, cell.server) for cell in found) == sorted((cell.case, cell.server) for cell in cells())
    assert [len(list(group)) for _, group in groupby(found, key=lambda cell: cell.case)] == [3, 3, 3]


def test_warm_up_is_not_kept() -> None:
    some, calls = cells(), []

    def one(cell: Cell, warm: bool) -> Result:
        calls.append(warm)
        return Result(1, float(warm), 1.0)

    take_turns(plan(), some, one)
    assert calls == [False] * 9 + [True] * 18
    assert all([result.per_s for result in cell.rounds] == [1.0, 1.0] for cell in some)


def test_cell_that_failed_is_left_out_and_the_others_go_on() -> None:
    some = cells()

    def one(cell: Cell, warm: bool) -> Result:
        if cell.server == "theirs" and cell.rounds:
            raise Failed("no answer")
        return Result(1, 1.0, 1.0)

    take_turns(plan(rounds=3), some, one)
    assert {(cell.server, len(cell.rounds), cell.failure) for cell in some} == {
        ("ours", 3, ""), ("others", 3, ""), ("theirs", 1, "no answer"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("only", "case", "wanted"),
    [
        ((), "http/1", True),
        (("http",), "http/1", True),
        (("http/1",), "http/1", True),
        (("http/1",), "http/16", False),
        (("htt",), "http/1", False),
        (("cgi", "http/1"), "http/1", True),
    ],
)
def test_cases_are_chosen_whole_or_by_what_stands_before_the_slash(only: tuple[str, ...], case: str, wanted: bool) -> None:
    assert plan(only=only).wants_case(case) is wanted


@pytest.mark.parametrize(
    ("chosen", "server", "wanted"),
    [((), "nginx", True), (("uwsgi",), "uwsgi-http", True), (("uwsgi-http",), "uwsgi", False), (("u",), "uwsgi", False)],
)
def test_servers_are_chosen_whole_or_by_what_stands_before_a_dash(
    chosen: tuple[str, ...], server: str, wanted: bool
) -> None:
    assert plan(chosen=chosen).wants_server(server) is wanted
