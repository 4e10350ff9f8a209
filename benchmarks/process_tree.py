"""What a server takes of the machine: processor time and memory of a process and all its descendants.

Promise: processor time of children that have ended counts, as far as somebody has waited for them; memory that
several processes share counts once (proportional set size). Both are the kernel's figures, from /proc.
Must never know: what the processes do. Next: `measure.py`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LOOK_S = 0.05


class Process(NamedTuple):
    """One line of /proc/PID/stat."""

    pid: int
    parent: int
    ticks: int
    """User and system time, its own and that of the children it has waited for."""
    threads: int


def read_stat(stat: str) -> Process:
    """proc(5): the name in brackets may contain anything; what follows its last bracket is field 3."""
    pid = int(stat[: stat.index("(")])
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(pid, int(fields[1]), sum(map(int, fields[11:15])), int(fields[17]))


def family(root_pid: int) -> list[Process]:
    """A process and its descendants, those included that have ended and that nobody has waited for."""
    by_parent: dict[int, list[Process]] = {}
    members: list[Process] = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            process = read_stat((directory / "stat").read_text())
        except OSError:  # ended meanwhile
            continue
        by_parent.setdefault(process.parent, []).append(process)
        if process.pid == root_pid:
            members.append(process)
    for member in members:  # grows as it is walked
        members += by_parent.get(member.pid, [])
    return members


def cpu_s(root_pid: int) -> float:
    """User and system time of all of them."""
    return sum(process.ticks for process in family(root_pid)) / TICKS_PER_S


def quiet_cpu_s(root_pid: int, within_s: float = 0.5) -> float:
    """The same, once it rises no more: what a load leaves behind (children that end) belongs to the load."""
    until = time.monotonic() + within_s
    before = cpu_s(root_pid)
    while time.monotonic() < until:
        time.sleep(LOOK_S)
        after = cpu_s(root_pid)
        if after == before:
            break
        before = after
    return before


def pss_kib(root_pid: int) -> int:
    """Memory of all of them together. Raises PermissionError where they are somebody else's."""
    total = 0
    for process in family(root_pid):
        try:
            total += read_rollup(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
    return total


def read_rollup(rollup: str) -> int:
    """The Pss line of /proc/PID/smaps_rollup; 0 where there is none, as for one that has ended."""
    for line in rollup.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0])
    return 0


def settled(root_pid: int, *, steady_s: float, within_s: float) -> tuple[int, int]:
    """Processes and threads, once their numbers have been the same for `steady_s`; at the latest after `within_s`."""
    now = time.monotonic()
    until, since, before = now + within_s, now, (0, 0)
    while True:
        members = family(root_pid)
        counts = len(members), sum(process.threads for process in members)
        now = time.monotonic()
        if counts != before:
            since, before = now, counts
        if now - since >= steady_s or now >= until:
            return counts
        time.sleep(LOOK_S)
