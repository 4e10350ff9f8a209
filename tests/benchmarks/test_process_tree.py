"""Processor time and memory of a family of processes, read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks import process_tree

STAT = "42 ({}) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 5 0 99 1 2 3"


@pytest.mark.parametrize("name", ["gateway", "a b", "((", ") S 9 (", ""])
def test_name_of_a_process_may_contain_anything(name: str) -> None:
    assert process_tree.read_stat(STAT.format(name)) == process_tree.Process(42, 7, 127, 5)


@pytest.mark.parametrize(
    ("rollup", "kib"),
    [
        ("55a0-7ffd ---p 00000000 00:00 0    [rollup]\nRss:    9000 kB\nPss:    1234 kB\nPss_Anon:     99 kB\n", 1234),
        ("", 0),
    ],
)
def test_memory_is_the_proportional_set_size(rollup: str, kib: int) -> None:
    assert process_tree.read_rollup(rollup) == kib


def test_processor_time_includes_children_that_have_ended() -> None:
    before_s = process_tree.cpu_s(os.getpid())
    burn = "import time\nwhile time.process_time() < 0.08: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert process_tree.cpu_s(os.getpid()) - before_s >= 0.04


GRANDPARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "print('ready', flush=True); input()"])
child.wait()
"""


@pytest.fixture
def grandparent() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", GRANDPARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def test_family_is_the_process_and_all_below_it(grandparent: subprocess.Popen[bytes]) -> None:
    members = process_tree.family(grandparent.pid)
    assert members[0].pid == grandparent.pid
    assert [member.parent for member in members] == [os.getpid(), grandparent.pid]


def test_memory_of_a_family_is_more_than_that_of_its_youngest(grandparent: subprocess.Popen[bytes]) -> None:
    child = process_tree.family(grandparent.pid)[1]
    assert process_tree.pss_kib(grandparent.pid) > process_tree.pss_kib(child.pid) > 0


def test_numbers_are_settled_when_they_stay(grandparent: subprocess.Popen[bytes]) -> None:
    assert process_tree.settled(grandparent.pid, steady_s=0.0, within_s=10.0) == (2, 2)


def test_numbers_that_do_not_settle_are_told_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def growing(_: int) -> list[process_tree.Process]:
        seen.append(len(seen))
        return [process_tree.Process(number, 1, 0, 2) for number in seen]

    monkeypatch.setattr(process_tree, "family", growing)
    processes, threads = process_tree.settled(1, steady_s=60.0, within_s=0.1)
    assert processes == len(seen) and threads == 2 * len(seen)


def test_a_process_that_is_gone_has_no_family() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert process_tree.family(process.pid) == []
    assert process_tree.pss_kib(process.pid) == 0


def test_quiet_is_what_has_stopped_rising(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([1.0, 2.0, 3.0, 3.0, 99.0])
    monkeypatch.setattr(process_tree, "cpu_s", lambda _: next(figures))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert process_tree.quiet_cpu_s(1, within_s=60.0) == 3.0
