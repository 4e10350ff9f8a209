"""Processes that a driver starts, or watches: their streams, and how they end."""

from __future__ import annotations

import os
import signal

from gateway.ends import Close, Kill, Launch, Spawn
from tests.drivers.kit import Child, Kit, Recorder, fork


def shell(script: bytes) -> Launch:
    return Launch(b"/bin/sh", (b"sh", b"-c", script), {b"PATH": b"/bin:/usr/bin"}, b"/")


def test_a_process_with_three_streams(kit: Kit) -> None:
    child = Child(kit)
    stdin, stdout, stderr = (Recorder(kit) for _ in range(3))
    stdin.send(b"content")
    stdin.close(Close.FLUSH)
    kit.order(Spawn(shell(b"cat; echo bad >&2; exit 3"), child, stdin, stdout, stderr))
    stdout.told_of("eof")
    stderr.told_of("eof")
    assert child.ended() == 3
    assert (stdout.octets, stderr.octets) == (b"content", b"bad\n")
    stdin.told_of("lost")


def test_much_goes_through_a_process(kit: Kit) -> None:
    child = Child(kit)
    stdin, stdout = Recorder(kit), Recorder(kit)
    content = os.urandom(1 << 20)
    stdin.send(content)
    stdin.close(Close.FLUSH)
    kit.order(Spawn(shell(b"cat"), child, stdin, stdout))
    stdout.told_of("eof")
    assert stdout.octets == content
    assert child.ended() == 0


def test_a_process_that_cannot_be_started(kit: Kit) -> None:
    child = Child(kit)
    kit.order(Spawn(Launch(b"/none", (b"none",), {}, b"/"), child, stdout=Recorder(kit)))
    kit.until(lambda: child.error is not None)
    assert isinstance(child.error, FileNotFoundError)


def test_a_process_whose_strings_are_refused(kit: Kit) -> None:
    child = Child(kit)
    kit.order(Spawn(Launch(b"/bin/true", (b"a\0b",), {}, b"/"), child))
    kit.until(lambda: child.error is not None)


def test_a_process_that_ends_long_after_its_output(kit: Kit) -> None:
    child = Child(kit)
    stdin, stdout = Recorder(kit), Recorder(kit)
    kit.order(Spawn(shell(b"exec >&-; read line; exit 5"), child, stdin, stdout))
    stdout.told_of("eof")
    assert child.code is None
    stdin.send(b"line\n")
    kit.driver.settle()
    assert child.ended() == 5


def test_a_process_without_output_is_waited_for(kit: Kit) -> None:
    child = Child(kit)
    kit.order(Spawn(shell(b"exit 6"), child))
    assert child.ended() == 6


def test_kill_reaches_the_whole_group(kit: Kit) -> None:
    child = Child(kit)
    stdout = Recorder(kit)
    kit.order(Spawn(shell(b"sleep 60 & echo up; wait"), child, stdout=stdout))
    stdout.has(b"up\n")
    kit.order(Kill(child.pid, 9))
    stdout.told_of("eof")  # the grandchild held it, too
    assert child.ended() == -9


def test_a_pipe_whose_reader_is_gone_is_lost(kit: Kit) -> None:
    child = Child(kit)
    stdin = Recorder(kit)
    stdin.send(b"x" * 1_000_000)
    kit.order(Spawn(shell(b"exec <&-; sleep 0"), child, stdin))
    stdin.told_of("lost")


def test_a_child_that_was_forked_is_waited_for(kit: Kit) -> None:
    codes: list[int] = []
    reader, writer = os.pipe()
    pid = fork()
    if not pid:
        os.read(reader, 1)
        os._exit(7)
    kit.driver.watch_child(pid, codes.append)
    kit.go_round()
    assert codes == []
    os.write(writer, b"x")
    kit.until(lambda: codes)
    assert codes == [7]
    for end in (reader, writer):
        os.close(end)


def test_a_child_that_had_ended_before_it_was_watched(kit: Kit) -> None:
    codes: list[int] = []
    pid = fork()
    if not pid:
        os._exit(8)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    kit.driver.watch_child(pid, codes.append)
    kit.until(lambda: codes)
    assert codes == [8]


def test_a_defect_of_who_is_told_of_an_end_is_guarded(kit: Kit) -> None:
    def fail(code: int) -> None:
        raise ZeroDivisionError

    pid = fork()
    if not pid:
        signal.pause()
    kit.driver.watch_child(pid, fail)
    os.kill(pid, signal.SIGKILL)
    kit.until(lambda: kit.crashes)
    assert [type(crash) for crash in kit.crashes] == [ZeroDivisionError]


def test_after_close_no_process_is_started(kit: Kit) -> None:
    kit.driver.close()
    child = Child(kit)
    kit.order(Spawn(shell(b"exit 0"), child))
    assert child.error is not None
