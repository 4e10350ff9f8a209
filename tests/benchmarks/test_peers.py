"""Each server that `make bench` compares takes its config, and answers each case as is expected; the tables of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import measure, peers, running, servers
from benchmarks.measure import Result
from benchmarks.report import Cell, Part
from tests.conftest import needs

CASES = {case.path: case for case in peers.CASES.values()}
"""Once each: the number of connections is nothing that one request shows."""
Setting = tuple[Path, dict[str, running.Maker]]


@pytest.fixture(scope="module", params=[False, True], ids=["tcp", "unix"])
def setting(request: pytest.FixtureRequest) -> Iterator[Setting]:
    """A folder with all that is served, an origin, and how each server is started in front of it."""
    for program in ("taskset", "cc"):
        needs(program)
    with contextlib.ExitStack() as stack:
        directory = running.directory(stack)
        servers.compile_cgi(directory)
        origin = servers.start_origin(stack, directory, max(os.sched_getaffinity(0)), over_unix=request.param)
        yield directory, peers.makers(origin, directory / "cgi", peers.write_files(directory))


@pytest.fixture(scope="module", params=peers.SERVERS)
def server(request: pytest.FixtureRequest, setting: Setting) -> Iterator[tuple[str, str]]:
    """The name and URL of a server."""
    name = request.param
    needs(servers.SAYS_VERSION[name][0])
    directory, makers = setting
    with contextlib.ExitStack() as stack:
        yield name, running.start(stack, name, makers[name], directory, (min(os.sched_getaffinity(0)),)).url


@pytest.mark.parametrize("path", CASES)
def test_server_answers_as_the_case_expects(server: tuple[str, str], path: str) -> None:
    name, url = server
    case = CASES[path]
    if case.interface in peers.SERVED[name]:
        measure.check(url + path, case.content, case.posted)
    else:
        with pytest.raises(measure.Failed):
            measure.check(url + path, case.content, case.posted)


@pytest.mark.parametrize("name", peers.SERVERS)
def test_version_of_each_server_is_found(name: str) -> None:
    needs(servers.SAYS_VERSION[name][0])
    version = servers.version(servers.SAYS_VERSION[name])
    assert version is not None and version[0].isdigit()


def test_case_is_named_after_its_path_and_connections() -> None:
    for name, case in peers.CASES.items():
        kind = f"/{case.interface}/varied" if case.varied else case.path
        assert name in (kind[1:], f"{kind[1:]}-{case.connections}")
        assert any(case.interface in interfaces for interfaces in peers.SERVED.values())


def test_tables_leave_out_what_a_server_does_not_serve_and_compare_slow_answers_with_one() -> None:
    fast, slow = Result(1, 200.0, 10.0, p50_us=100.0, p99_us=1000.0), Result(1, 100.0, 30.0, p50_us=200.0, p99_us=4000.0)
    cells = [
        Cell("gateway", "http/small", [fast]), Cell("nginx", "http/small", [slow]), Cell("haproxy", "http/small", [slow]),
        Cell("gateway", "cgi/small", [fast]),
    ]  # fmt: skip
    rates, processor, p50, p99, nginx, haproxy = peers.grids(Part("peers", "", {}, {}, cells))
    assert rates.rows == [["http/small", "200", "100", "100"], ["cgi/small", "200", "-", "-"]]
    assert [grid.rows[0][1:] for grid in (processor, p50, p99)] == [
        ["10.0", "30.0", "30.0"], ["100", "200", "200"], ["1,000", "4,000", "4,000"],
    ]  # fmt: skip
    assert nginx.rows == [["http/small", "2.00 (2.00–2.00)", "0.33 (0.33–0.33)", "0.25 (0.25–0.25)"]]
    assert haproxy.rows == [["http/small", "2.00 (2.00–2.00)", "0.33 (0.33–0.33)"]]
