"""One measurement: wrk against one URL, and the processor time that the server spent meanwhile.

Promise: a run with any error, or with an answer that is late or not the expected one, is no result, unless the caller
says that the server is bounded: then what it refused is counted, and is not part of the rate; or that he is patient:
then late answers are counted.
Must never know: which server it measures. Next: `report.py`.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.process_tree import cpu_s, quiet_cpu_s

LONGEST_S = 120


class Failed(Exception):
    """The measurement is void; the text says why."""


class Result(msgspec.Struct, frozen=True):
    """One run of wrk."""

    requests: int
    """Answered as they should be."""
    per_s: float
    cpu_us: float
    """Processor time of the server's processes and of its ended children, for one request."""
    errors: int = 0
    """Refused or broken off, where the server is bounded; otherwise there are none."""
    late: int = 0
    """Answered after more than wrk's two seconds, where that is allowed."""
    p50_us: float = 0.0
    """Half of the answers took no longer; 0 where wrk does not tell."""
    p99_us: float = 0.0


def post_script(size: int) -> str:
    """For `wrk -s`: each request is a POST of so many octets."""
    return (
        'wrk.method = "POST"\n'
        f'wrk.body = string.rep("x", {size})\n'
        'wrk.headers["Content-Type"] = "application/octet-stream"\n'
    )


VARIED_SCRIPT = """
local number = 0
request = function()
  number = number + 1
  wrk.headers["Cookie"] = "session=" .. number
  return wrk.format("GET", wrk.path .. "?number=" .. number)
end
wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
wrk.headers["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
"""
"""For `wrk -s`: what a browser sends, with another query and another cookie each time."""


def check(url: str, expected: bytes, posted: bytes | None = None) -> None:
    """Asks once, or posts. Raises Failed if that is not a 200 with the expected content."""
    request = urllib.request.Request(url, posted, {"Content-Type": "application/octet-stream"} if posted else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            status, content = response.status, response.read()
    except (urllib.error.URLError, OSError) as error:
        raise Failed(f"{url}: {error}") from None
    if status != 200:
        raise Failed(f"{url}: status {status} instead of 200")
    if len(content) != len(expected):
        raise Failed(f"{url}: {len(content)} bytes of content instead of {len(expected)}")
    if content != expected:
        raise Failed(f"{url}: other content than expected, {content[:40]!r}")


def measure(
    url: str, server_pid: int, *, seconds: int, connections: int, core: int, closing: bool = False,
    bounded: bool = False, patient: bool = False, script: Path | None = None,
) -> Result:
    """Loads `url` from `core`; `closing`: with a connection for each request; `script`: as that says. Raises Failed."""
    before_s = cpu_s(server_pid)
    run = subprocess.run(
        wrk(url, seconds, connections, core, closing=closing, script=script), capture_output=True, text=True, check=False
    )
    spent_s = quiet_cpu_s(server_pid) - before_s
    if run.returncode:
        raise Failed(f"wrk: {run.stderr.strip() or run.stdout.strip()}")
    return read_wrk(run.stdout, spent_s, bounded=bounded, patient=patient)


@dataclass
class Load:
    """What came of a load, once it is over."""

    result: Result | None = None


@contextlib.contextmanager
def loaded(url: str, *, connections: int, core: int) -> Iterator[Load]:
    """A load for as long as the block takes; its errors are counted. Raises Failed, afterwards, if nobody was served."""
    load = Load()
    command = wrk(url, LONGEST_S, connections, core)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            yield load
        finally:
            run.send_signal(signal.SIGINT)  # wrk stops, and reports what it had
            output, errors = run.communicate()
    if run.returncode:
        raise Failed(f"wrk: {errors.strip() or output.strip()}")
    load.result = read_wrk(output, 0.0, bounded=True, patient=True)


def wrk(
    url: str, seconds: int, connections: int, core: int, *, closing: bool = False, script: Path | None = None
) -> list[str]:
    # One thread: taskset becomes wrk, so that signals reach it.
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if closing:
        command += ["-H", "Connection: close"]
    if script:
        command += ["-s", str(script)]
    return [*command, url]


def read_wrk(output: str, spent_s: float, *, bounded: bool = False, patient: bool = False) -> Result:
    """What wrk printed. Raises Failed where it counted errors or answers other than 2xx and 3xx."""
    requests = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if requests is None or rate is None:
        raise Failed(f"wrk: no requests were answered: {output.strip()}")
    refused = re.search(r"^\s*Non-2xx or 3xx responses: (\d+)", output, re.M)
    broken = re.search(r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output, re.M)
    *lost, late = map(int, broken.groups()) if broken else (0, 0)
    if ((refused or any(lost)) and not bounded) or (late and not patient):
        raise Failed("wrk: " + "; ".join(re.findall(r"^\s*((?:Non-2xx|Socket errors).*)$", output, re.M)))
    answered = int(requests[1])
    good = answered - (int(refused[1]) if refused else 0)
    if good <= 0:
        raise Failed(f"wrk: no requests were answered: {output.strip()}")
    return Result(
        good, float(rate[1]) * good / answered, spent_s * 1e6 / good, answered - good + sum(lost), late,
        latency_us(output, 50), latency_us(output, 99),
    )  # fmt: skip


UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


def latency_us(output: str, percent: int) -> float:
    """So many of the answers took no longer; 0 if wrk does not tell."""
    found = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s|m)$", output, re.M)
    return float(found[1]) * UNITS_US[found[2]] if found else 0.0
