"""One measurement: wrk against one URL, and the processor time that the server spent meanwhile.

Promise: a run with any error, or with an answer that is not the expected one, is no result.
Must never know: which server it measures. Next: `report.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import msgspec

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """The measurement is void; the text says why."""


class Result(msgspec.Struct, frozen=True):
    """One run of wrk."""

    requests: int
    per_s: float
    cpu_us: float
    """Processor time of the server's processes and of its ended children, for one request."""


def cpu_s(root_pid: int) -> float:
    """User and system time of a process, its descendants, and of those that they have waited for."""
    parents: dict[int, int] = {}
    spent: dict[int, int] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text()
        except OSError:
            continue
        # proc(5): the name in brackets may contain anything; field 4 follows its last bracket.
        fields = stat[stat.rindex(")") + 2 :].split()
        pid = int(directory.name)
        parents[pid] = int(fields[1])
        spent[pid] = sum(map(int, fields[11:15]))  # utime stime cutime cstime
    total, family = 0, [root_pid]
    while family:
        member = family.pop()
        total += spent.get(member, 0)
        family += [pid for pid, parent in parents.items() if parent == member]
    return total / TICKS_PER_S


def check(url: str, expected_bytes: int) -> None:
    """Asks once. Raises Failed if that is not a 200 with the expected content."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            content = response.read()
    except (urllib.error.URLError, OSError) as error:
        raise Failed(f"{url}: {error}") from None
    if len(content) != expected_bytes:
        raise Failed(f"{url}: {len(content)} bytes of content instead of {expected_bytes}")


def measure(url: str, server_pid: int, *, seconds: int, connections: int, core: int) -> Result:
    """Loads `url` from `core`. Raises Failed."""
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    before_s = cpu_s(server_pid)
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    spent_s = cpu_s(server_pid) - before_s
    if run.returncode:
        raise Failed(f"wrk: {run.stderr.strip() or run.stdout.strip()}")
    return read_wrk(run.stdout, spent_s)


def read_wrk(output: str, spent_s: float) -> Result:
    """What wrk printed. Raises Failed where it counted errors or answers other than 2xx and 3xx."""
    trouble = re.search(r"^\s*((?:Non-2xx|Socket errors).*)$", output, re.M)
    if trouble:
        raise Failed(f"wrk: {trouble[1]}")
    requests = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if requests is None or rate is None or not int(requests[1]):
        raise Failed(f"wrk: no requests were answered: {output.strip()}")
    count = int(requests[1])
    return Result(count, float(rate[1]), spent_s * 1e6 / count)
