"""How results are shown: ratios with their spread, and nothing that failed as a number."""

from __future__ import annotations

import io

from rich.console import Console

from benchmarks import report
from benchmarks.measure import Result
from benchmarks.report import Cell, Grid, Part


def rounds(*rates: float) -> list[Result]:
    return [Result(1, rate, 1.0) for rate in rates]


def test_ratio_is_taken_round_by_round() -> None:
    assert report.ratio(rounds(10, 30, 40), rounds(20, 20, 20), report.per_s) == "1.50 (0.50–2.00)"


def test_ratio_of_what_is_missing_or_failed_is_no_number() -> None:
    good, failed = Cell("a", "x", rounds(1)), Cell("b", "x", rounds(1), failure="no answer")
    assert report.cell_ratio(good, None, report.per_s) == "-"
    assert report.cell_ratio(good, failed, report.per_s) == "failed"
    assert report.cell_ratio(Cell("a", "x"), good, report.per_s) == "-"


def test_figure_is_the_median_and_tells_of_errors_and_lateness() -> None:
    cell = Cell("a", "x", rounds(1000, 3000, 2000))
    assert report.middle(cell, report.per_s) == "2,000"
    cell.rounds.append(Result(1, 2000.0, 1.0, errors=1))
    assert report.middle(cell, report.per_s) == "2,000*"
    cell.rounds.append(Result(1, 2000.0, 1.0, late=1))
    assert report.middle(cell, report.per_s) == "2,000*~"
    assert report.figures(Cell("a", "x", [Result(1, 1500.0, 12.34)])) == "1,500  12.3 us"


def test_figure_of_what_is_missing_or_failed_is_no_number() -> None:
    assert report.middle(None, report.per_s) == report.middle(Cell("a", "x"), report.per_s) == "-"
    assert report.figures(Cell("a", "x", rounds(1), failure="no answer")) == "failed"


def part() -> Part:
    return Part(
        "models", "The models", {"gateway": "1.0"}, {"rounds": 1, "seconds": 1},
        [Cell("fork", "x", failure="wrk: [red]no[/] requests")], notes={"fork": "a [note]"},
        grids=[Grid("a [title]", ["case", "a|b"], [["x", "1.00 (1.00–1.00)"]])],
    )  # fmt: skip


FACTS: dict[str, str | int] = {"processor": "a [processor]", "cores": 2, "kernel": "6", "python": "3.11"}


def test_what_is_shown_is_text_and_no_markup() -> None:
    out = io.StringIO()
    report.show(FACTS, part(), Console(file=out, width=100))
    for text in ("a [processor], 2 cores", "gateway 1.0", "a [title]", "a|b", "1.00 (1.00–1.00)", "fork: a [note]",
                 "failed: fork on x: wrk: [red]no[/] requests"):  # fmt: skip
        assert text in out.getvalue()


def test_markdown_has_the_same() -> None:
    text = report.markdown(report.Report(FACTS, [part()]))
    assert text == (
        "## The models\n\na [processor], 2 cores, Linux 6, Python 3.11; 1 rounds of 1 s\ngateway 1.0\n\n**a [title]**\n\n"
        "| case | a\\|b |\n|---|---:|\n| x | 1.00 (1.00–1.00) |\n\n- `fork`: a [note]\n"
        "- **failed**: fork on x: wrk: [red]no[/] requests\n"
    )


def test_facts_of_this_machine_are_found() -> None:
    facts = report.machine()
    assert set(facts) == set(FACTS) and all(facts.values())
