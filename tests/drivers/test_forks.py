"""An application that forks: its child may come back as if it were the engine, or live on with our descriptors."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from gateway.drivers.forks import STRAY
from gateway.ends import Close, RunAsync
from tests.drivers.kit import Kit, Recorder, fork


def enters(streams: Any, end: Recorder) -> None:
    streams.enter(end.send, b"by the child")


def waits(streams: Any, end: Recorder) -> None:
    streams.wait(lambda: True)


def returns(streams: Any, end: Recorder) -> None:
    pass


def raises(streams: Any, end: Recorder) -> None:
    raise SystemExit


@pytest.mark.parametrize("comes_back", [enters, waits, returns, raises])
def test_a_child_that_comes_back_ends(kit: Kit, comes_back: Callable[[Any, Recorder], None]) -> None:
    end, peer = kit.accepted()
    statuses: list[int] = []

    def run(streams: Any) -> None:
        pid = fork()
        if not pid:
            comes_back(streams, end)
            return
        statuses.append(os.waitpid(pid, 0)[1])
        streams.enter(end.send, b"by the parent")
        streams.enter(end.close, Close.FLUSH)

    with stderr_of(kit) as said:
        kit.work(run)
        assert kit.result(kit.read_all(peer)) == b"by the parent"
    assert [os.waitstatus_to_exitcode(status) for status in statuses] == [STRAY]
    assert said() == 1
    kit.other_turns()


class stderr_of:
    """Counts what a child says of itself."""

    def __init__(self, kit: Kit) -> None:
        self.path = kit.tmp_path / "stderr"

    def __enter__(self) -> Callable[[], int]:
        self.before = os.dup(2)
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 2)
        os.close(file)
        return lambda: self.path.read_text().count("came back")

    def __exit__(self, *error: object) -> None:
        os.dup2(self.before, 2)
        os.close(self.before)


class AsyncWork:
    def __init__(self, run: Any) -> None:
        self.run = run


@pytest.mark.parametrize("how", ["goes on", "enters", "returns", "raises"])
def test_a_child_that_comes_back_to_the_loop_ends(kit: Kit, how: str) -> None:
    if kit.blocks:
        return
    end, peer = kit.accepted()
    statuses: list[int] = []

    async def run(streams: Any) -> None:
        pid = fork()
        if not pid:
            if how == "goes on":
                while True:
                    await asyncio.sleep(0.01)
            if how == "enters":
                streams.enter(end.send, b"by the child")
            if how == "raises":
                raise LookupError
            return
        statuses.append(os.waitpid(pid, 0)[1])
        streams.enter(end.send, b"by the parent")
        streams.enter(end.close, Close.FLUSH)

    with stderr_of(kit) as said:
        kit.order(RunAsync(AsyncWork(run)))
        assert kit.result(kit.read_all(peer)) == b"by the parent"
    assert [os.waitstatus_to_exitcode(status) for status in statuses] == [STRAY]
    assert said() == 1
    kit.other_turns()


@pytest.mark.parametrize("kind", ["accepted", "accepted-unix", "tcp", "unix"])
@pytest.mark.parametrize("how", [Close.FLUSH, Close.ABORT])
def test_what_a_child_has_duplicates_of_ends_for_the_peer(kit: Kit, kind: str, how: Close) -> None:
    end, peer = kit.stream(kind)
    release, hold = os.pipe()
    pids: list[int] = []

    def run(streams: Any) -> None:
        pid = fork()
        if not pid:
            os.close(hold)
            os.read(release, 1)
            os._exit(0)
        pids.append(pid)
        streams.enter(end.send, b"all of it")
        streams.enter(end.close, how)

    kit.work(run)
    got = kit.result(kit.read_all(peer))
    assert got == b"all of it" if how is Close.FLUSH else got in (b"", b"all of it")
    os.close(hold)
    os.waitpid(pids[0], 0)
    os.close(release)


def test_a_child_has_none_of_our_handlers(kit: Kit) -> None:
    came: list[int] = []
    kit.driver.call_signals({signal.SIGUSR1: lambda: came.append(1)})
    pids: list[int] = []
    reader, writer = os.pipe()

    def run(streams: Any) -> None:
        pid = fork()
        if not pid:
            os.write(writer, b".")  # what came before, the interpreter itself would drop
            while True:
                signal.pause()
        pids.append(pid)
        streams.enter(kit.driver.wake)

    kit.work(run)
    kit.until(lambda: pids)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    os.kill(pids[0], signal.SIGUSR1)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == -signal.SIGUSR1
    kit.other_turns()
    assert came == []
    os.kill(os.getpid(), signal.SIGUSR1)
    kit.until(lambda: came)


def test_a_child_of_ours_is_none_of_these(kit: Kit) -> None:
    """Who forks on purpose has its child let go of the driver, and may open another one."""
    if not kit.blocks:
        return
    pid = fork()
    if not pid:
        code = 1
        try:
            kit.driver.abandon()
            kit.driver = kit.make()
            done: list[int] = []
            kit.driver.open()
            kit.turn.orders.clear()
            kit.work(lambda streams: streams.enter(done.append, 1))
            kit.until(lambda: done)
            code = 0
        finally:
            os._exit(code)
    codes: list[int] = []
    kit.driver.watch_child(pid, codes.append)
    kit.until(lambda: codes)
    assert codes == [0]
