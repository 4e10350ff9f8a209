"""What the benchmarks make of wrk's words, and what they ask before they believe a server."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.origin import CONTENTS, SMALL

Ports = dict[str, dict[str, int | str]]

WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 32 connections
  2000 requests in 1.00s, 1.50MB read
{}Requests/sec:   1998.50
Transfer/sec:      1.50MB
"""
REFUSED = "  Non-2xx or 3xx responses: 500\n"
BROKEN = "  Socket errors: connect 1, read 3, write 0, timeout 0\n"
LATE = "  Socket errors: connect 0, read 0, write 0, timeout 7\n"
LATENCY = """  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   635.91us    0.89ms  12.92ms   93.69%
    Req/Sec    56.20k     8.07k   62.00k    86.54%
  Latency Distribution
     50% {}
     75%  491.00us
     90%  700.00us
     99% {}
"""


def test_result_is_rate_and_processor_time_a_request() -> None:
    assert measure.read_wrk(WRK.format(""), spent_s=0.1) == measure.Result(2000, 1998.5, 50.0)


@pytest.mark.parametrize(
    ("half", "most", "p50_us", "p99_us"),
    [(" 250.00us", "   5.80ms", 250.0, 5800.0), ("   1.02ms", "   1.25s", 1020.0, 1.25e6), (" 0.00us", " 1.50m", 0.0, 9e7)],
)
def test_latency_is_read_in_microseconds(half: str, most: str, p50_us: float, p99_us: float) -> None:
    result = measure.read_wrk(WRK.format(LATENCY.format(half, most)), spent_s=0.1)
    assert (result.p50_us, result.p99_us) == pytest.approx((p50_us, p99_us))


@pytest.mark.parametrize("trouble", [REFUSED, BROKEN, LATE])
def test_run_with_any_error_is_no_result(trouble: str) -> None:
    with pytest.raises(measure.Failed, match=trouble.strip()):
        measure.read_wrk(WRK.format(trouble), spent_s=0.1)


def test_what_a_bounded_server_refuses_is_counted_and_no_part_of_the_rate() -> None:
    result = measure.read_wrk(WRK.format(BROKEN + REFUSED), spent_s=0.15, bounded=True)
    assert result == measure.Result(1500, 1998.5 * 0.75, 100.0, errors=504)


def test_late_answers_are_no_error_to_the_patient() -> None:
    result = measure.read_wrk(WRK.format(LATE), spent_s=0.1, patient=True)
    assert result == measure.Result(2000, 1998.5, 50.0, late=7)


@pytest.mark.parametrize(("trouble", "bounded", "patient"), [(BROKEN, False, True), (LATE, True, False)])
def test_one_leniency_is_not_the_other(trouble: str, bounded: bool, patient: bool) -> None:
    with pytest.raises(measure.Failed):
        measure.read_wrk(WRK.format(trouble), 0.1, bounded=bounded, patient=patient)


@pytest.mark.parametrize(
    "output", [WRK.replace("2000 requests", "0 requests").format(""), WRK.format(REFUSED.replace("500", "2000")), "unable"]
)
def test_run_without_a_good_answer_is_no_result(output: str) -> None:
    with pytest.raises(measure.Failed, match="no requests were answered"):
        measure.read_wrk(output, spent_s=0.1, bounded=True)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    directory = tmp_path_factory.mktemp("origin")
    command = [sys.executable, "-m", "benchmarks.origin", str(directory)]
    root = Path(measure.__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.mark.parametrize(("path", "content"), CONTENTS.items(), ids=CONTENTS)
def test_origin_serves_the_expected_content_over_http(origin: Ports, path: str, content: bytes) -> None:
    measure.check(f"http://127.0.0.1:{origin['http']['port']}/{path}", content)


def test_origin_answers_once_all_content_is_there_and_finds_the_next_request(origin: Ports) -> None:
    with socket.create_connection(("127.0.0.1", int(origin["http"]["port"]))) as sock:
        head = b"POST /post HTTP/1.1\r\ncontent-LENGTH: 10\r\nHost: x\r\n\r\n"
        for content in (head, b"12345"):
            sock.sendall(content)
            assert not select.select([sock], [], [], 0.1)[0]
        sock.sendall(b"67890" + head + b"1234567890GET /small HTTP/1.1\r\nConnection: close\r\n\r\n")
        with sock.makefile("rb") as answers:
            assert answers.read().count(SMALL) == 3


@pytest.mark.parametrize(
    ("expected", "told"),
    [(SMALL + b"!", "13 bytes of content instead of 14"), (SMALL[::-1], "other content than expected, b'Hello, world!'")],
)
def test_wrong_content_is_found_before_anything_is_measured(origin: Ports, expected: bytes, told: str) -> None:
    with pytest.raises(measure.Failed, match=told):
        measure.check(f"http://127.0.0.1:{origin['http']['port']}/small", expected)


def test_nobody_there_is_a_failure_that_names_the_url() -> None:
    with pytest.raises(measure.Failed, match=r"http://127\.0\.0\.1:1/"):
        measure.check("http://127.0.0.1:1/", SMALL)
