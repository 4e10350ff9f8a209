"""Every child is reaped once, and a signal goes to the whole group and to nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from gateway.ends import Launch
from gateway.processes import reap
from gateway.processes.launch import Launched, launch
from gateway.processes.reap import LOST, Reaper, exit_in_words


def start(command: str, **pipes: bool) -> Launched:
    return launch(Launch(b"/bin/sh", [b"sh", b"-c", command.encode()], {b"PATH": b"/bin:/usr/bin"}, b"/"), **pipes)


def wait_until_it_ended(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def read_line(fd: int | None) -> bytes:
    assert fd is not None
    os.set_blocking(fd, True)
    line = b""
    while not line.endswith(b"\n"):
        octet = os.read(fd, 1)
        if not octet:
            break
        line += octet
    return line


def wait_for_the_end_of(fd: int | None) -> None:
    """All who hold the other end of the pipe are gone."""
    assert fd is not None
    os.set_blocking(fd, True)
    while os.read(fd, 4096):
        pass
    os.close(fd)


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.kill_all()


def test_the_exit_code_is_reported_once(reaper: Reaper) -> None:
    codes: list[int] = []
    child = start("exit 3")
    reaper.watch(child.pid, codes.append)
    if not codes:
        wait_until_it_ended(child.pid)
    reaper.reap()
    reaper.reap()
    assert codes == [3]
    assert len(reaper) == 0


def test_one_that_ended_before_it_was_watched_is_reported(reaper: Reaper) -> None:
    child = start("exit 4")
    wait_until_it_ended(child.pid)
    codes: list[int] = []
    reaper.watch(child.pid, codes.append)
    assert codes == [4]


def test_a_signal_is_a_negative_code(reaper: Reaper) -> None:
    codes: list[int] = []
    child = start("sleep 60")
    reaper.watch(child.pid, codes.append)
    assert reaper.kill_group(child.pid, signal.SIGTERM)
    wait_until_it_ended(child.pid)
    reaper.reap()
    assert codes == [-signal.SIGTERM]


def test_many_at_once_are_all_reported(reaper: Reaper) -> None:
    codes: dict[int, int] = {}
    children = [start(f"exit {number}") for number in range(30)]
    for child in children:
        reaper.watch(child.pid, lambda code, pid=child.pid: codes.__setitem__(pid, code))  # type: ignore[misc]
    for child in children:
        if child.pid not in codes:
            wait_until_it_ended(child.pid)
    reaper.reap()
    assert [codes[child.pid] for child in children] == list(range(30))


def test_children_of_others_are_left_to_them(reaper: Reaper) -> None:
    foreign = subprocess.Popen(["/bin/sh", "-c", "exit 5"])
    wait_until_it_ended(foreign.pid)
    codes: list[int] = []
    child = start("read line; exit 6", stdin=True)
    reaper.watch(child.pid, codes.append)
    reaper.reap()
    assert codes == []
    assert child.stdin_fd is not None
    os.close(child.stdin_fd)
    wait_until_it_ended(child.pid)
    reaper.reap()
    assert codes == [6]
    assert foreign.wait() == 5


def test_one_that_somebody_else_reaped_is_reported_as_lost(reaper: Reaper) -> None:
    codes: list[int] = []
    child = start("read line", stdin=True)
    reaper.watch(child.pid, codes.append)
    assert child.stdin_fd is not None
    os.close(child.stdin_fd)
    os.waitpid(child.pid, 0)
    reaper.reap()
    assert codes == [LOST]


def test_a_group_ends_with_its_grandchildren(reaper: Reaper) -> None:
    child = start("sleep 60 & sleep 60 & echo started; wait", stdout=True)
    codes: list[int] = []
    reaper.watch(child.pid, codes.append)
    assert read_line(child.stdout_fd) == b"started\n"
    assert reaper.kill_group(child.pid, signal.SIGKILL)
    wait_for_the_end_of(child.stdout_fd)
    wait_until_it_ended(child.pid)
    reaper.reap()
    assert codes == [-signal.SIGKILL]


def test_grandchildren_are_reached_after_their_leader_was_reaped(reaper: Reaper) -> None:
    child = start("sleep 60 & echo started", stdout=True)
    codes: list[int] = []
    reaper.watch(child.pid, codes.append)
    assert read_line(child.stdout_fd) == b"started\n"
    if not codes:
        wait_until_it_ended(child.pid)
        reaper.reap()
    assert codes == [0]
    assert reaper.kill_group(child.pid, signal.SIGKILL)
    wait_for_the_end_of(child.stdout_fd)


def test_a_number_without_a_group_of_ours_gets_no_signal(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    child = start("exit 0")
    wait_until_it_ended(child.pid)
    reaper.watch(child.pid, lambda code: None)
    monkeypatch.setattr(os, "killpg", lambda *arguments: pytest.fail("signalled"))
    assert not reaper.kill_group(child.pid, signal.SIGKILL)
    assert not reaper.kill_group(os.getpid(), signal.SIGKILL)


def test_a_number_that_a_stranger_got_gets_no_signal(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group outlived its leader, and then both the group and the number went: a process has it."""
    child = start("sleep 60 & echo started", stdout=True)
    assert read_line(child.stdout_fd) == b"started\n"
    wait_until_it_ended(child.pid)
    reaper.watch(child.pid, lambda code: None)
    with monkeypatch.context() as patch:
        patch.setattr(reap, "process_exists", lambda pid: True)
        patch.setattr(os, "killpg", lambda *arguments: pytest.fail("signalled"))
        assert not reaper.kill_group(child.pid, signal.SIGKILL)
    os.killpg(child.pid, signal.SIGKILL)
    wait_for_the_end_of(child.stdout_fd)


@pytest.mark.parametrize("pid", [1, 0, -1, -5])
def test_numbers_that_mean_other_groups_are_refused(reaper: Reaper, pid: int) -> None:
    with pytest.raises(ValueError, match="no process group"):
        reaper.kill_group(pid, signal.SIGTERM)


def test_all_are_ended_at_the_end(reaper: Reaper) -> None:
    children = [start("sleep 60") for _ in range(3)]
    codes: list[int] = []
    for child in children:
        reaper.watch(child.pid, codes.append)
    reaper.kill_all()
    for child in children:
        wait_until_it_ended(child.pid)
    reaper.reap()
    assert codes == [-signal.SIGKILL] * 3


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with code 0"),
        (255, "exited with code 255"),
        (-signal.SIGSEGV, "was ended by SIGSEGV"),
        (-signal.SIGKILL, "was ended by SIGKILL (perhaps out of memory?)"),
        (-50, "was ended by signal 50"),
        (LOST, "ended, its exit code is not known"),
    ],
)
def test_an_exit_is_told_in_words(code: int, words: str) -> None:
    assert exit_in_words(code) == words
