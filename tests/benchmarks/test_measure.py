"""What the benchmarks make of wrk's words and of the system's clocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import measure, report
from benchmarks.origin import BIG, SMALL

Ports = dict[str, dict[str, int | str]]

WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 32 connections
  2000 requests in 1.00s, 1.50MB read
{}Requests/sec:   1998.50
Transfer/sec:      1.50MB
"""


def test_result_is_rate_and_processor_time_a_request() -> None:
    assert measure.read_wrk(WRK.format(""), spent_s=0.1) == measure.Result(2000, 1998.5, 50.0)


@pytest.mark.parametrize(
    "trouble",
    ["  Non-2xx or 3xx responses: 7\n", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"],
)
def test_run_with_any_error_is_no_result(trouble: str) -> None:
    with pytest.raises(measure.Failed, match=trouble.strip()):
        measure.read_wrk(WRK.format(trouble), spent_s=0.1)


def test_run_without_a_request_is_no_result() -> None:
    with pytest.raises(measure.Failed):
        measure.read_wrk(WRK.replace("2000 requests", "0 requests").format(""), spent_s=0.1)


def test_processor_time_includes_children_that_have_ended() -> None:
    def burn() -> None:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass

    before_s = measure.cpu_s(os.getpid())
    child = os.fork()
    if child == 0:
        burn()
        os._exit(0)
    os.waitpid(child, 0)
    assert measure.cpu_s(os.getpid()) - before_s >= 0.04


def test_ratio_is_taken_round_by_round() -> None:
    ours = [measure.Result(1, per_s, 1.0) for per_s in (10.0, 30.0, 40.0)]
    theirs = [measure.Result(1, per_s, 1.0) for per_s in (20.0, 20.0, 20.0)]
    assert report.ratio(ours, theirs, lambda result: result.per_s) == "1.50 (0.50 - 2.00)"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    directory = tmp_path_factory.mktemp("origin")
    command = [sys.executable, "-m", "benchmarks.origin", str(directory)]
    root = Path(report.__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.mark.parametrize(("path", "length"), [("small", len(SMALL)), ("big", len(BIG))])
def test_origin_serves_the_expected_content_over_http(origin: Ports, path: str, length: int) -> None:
    measure.check(f"http://127.0.0.1:{origin['http']['port']}/{path}", length)


def test_wrong_length_is_found_before_anything_is_measured(origin: Ports) -> None:
    with pytest.raises(measure.Failed, match="13 bytes of content instead of 14"):
        measure.check(f"http://127.0.0.1:{origin['http']['port']}/small", 14)
