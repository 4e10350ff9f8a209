"""The conformance kit of drivers: real sockets and pipes on one side, a recording end on the other."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import tempfile
from collections.abc import Callable

import pytest

from gateway.ends import Address, Close, FileSlice, Kill, Launch, Open, Resume, Spawn
from tests.drivers.kit import KINDS, Kit, Recorder


@pytest.mark.parametrize("kind", KINDS)
def test_octets_pass_in_order_both_ways(kit: Kit, kind: str) -> None:
    async def talk() -> None:
        end, peer = await kit.stream(kind)
        peer.sendall(b"to the end")
        await end.until(lambda: end.octets == b"to the end")
        end.send(b"one ")
        end.send(b"two ")
        end.send(b"three")
        end.close(Close.FLUSH)
        kit.driver.settle()
        assert await kit.read_all(peer) == b"one two three"
        await end.told_of("lost")

    kit.run(talk())


@pytest.mark.parametrize("kind", KINDS)
def test_a_clogged_peer_is_told_and_nothing_is_lost(kit: Kit, kind: str) -> None:
    async def talk() -> None:
        end, peer = await kit.stream(kind)
        content = os.urandom(1 << 20) * 8
        for start in range(0, len(content), 1 << 18):
            end.send(content[start : start + (1 << 18)])
        kit.driver.settle()
        await end.told_of("unsent some")
        assert end.held
        reading = kit.read_all(peer)
        await end.told_of("unsent none")
        assert not end.held
        end.close(Close.FLUSH)
        kit.driver.settle()
        assert await reading == content

    kit.run(talk())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_clogged_peer_never_takes_is_dropped_when_the_end_gives_up(kit: Kit, kind: str) -> None:
    async def talk() -> None:
        end, _peer = await kit.stream(kind)
        for _ in range(40):
            end.send(b"x" * 250_000)
        kit.driver.settle()
        await end.told_of("unsent some")
        end.close(Close.FLUSH)
        kit.driver.settle()
        end.deadline = kit.loop.time()
        await end.told_of("expired")
        assert "lost" not in end.told
        end.close(Close.ABORT)
        kit.driver.settle()
        await end.told_of("lost")

    kit.run(talk())


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_that_wants_room_is_told_without_ever_being_clogged(kit: Kit, kind: str) -> None:
    async def talk() -> None:
        end, _peer = await kit.stream(kind)
        end.send(b"little")
        end.wants_room = True
        kit.driver.settle()
        await end.told_of("unsent none")
        assert not end.wants_room

    kit.run(talk())


@pytest.mark.parametrize("kind", KINDS)
def test_reading_stops_while_data_is_not_wanted(kit: Kit, kind: str) -> None:
    async def talk() -> None:
        end, peer = await kit.stream(kind)
        peer.sendall(b"a")
        await end.until(lambda: end.octets == b"a")
        end.wants_data = False
        end.touch()
        kit.driver.settle()
        peer.sendall(b"b")
        other, other_peer = await kit.accepted()
        other_peer.sendall(b"x")
        await other.until(lambda: other.octets == b"x")  # the loop went round, and "b" was not read
        assert end.octets == b"a"
        end.wants_data = True
        end.touch()
        kit.driver.settle()
        await end.until(lambda: end.octets == b"ab")

    kit.run(talk())


@pytest.mark.parametrize("kind", KINDS)
def test_half_close_lets_us_answer(kit: Kit, kind: str) -> None:
    async def talk() -> None:
        end, peer = await kit.stream(kind)
        peer.shutdown(socket.SHUT_WR)
        await end.told_of("eof")
        end.send(b"answer")
        end.close(Close.FLUSH)
        kit.driver.settle()
        assert await kit.read_all(peer) == b"answer"

    kit.run(talk())


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_is_told_once(kit: Kit, kind: str) -> None:
    async def talk() -> None:
        end, peer = await kit.stream(kind)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        await end.until(lambda: bool({"lost", "eof"} & set(end.told)))
        if "lost" not in end.told:  # a unix socket knows no reset
            end.close(Close.ABORT)
            kit.driver.settle()
            await end.told_of("lost")
        assert end.wire is None

    kit.run(talk())


def test_linger_lets_the_peer_read_the_answer_while_it_still_sends(kit: Kit) -> None:
    async def talk() -> None:
        end, peer = await kit.accepted()
        peer.settimeout(10)
        end.send(b"enough")
        end.close(Close.LINGER)
        kit.driver.settle()
        sending = kit.loop.run_in_executor(None, peer.sendall, b"x" * 300_000)
        assert await kit.read_all(peer) == b"enough"
        await sending
        assert end.octets == b""
        peer.close()
        await end.told_of("lost")

    kit.run(talk())


def test_deadlines_are_served_by_the_sweep(kit: Kit) -> None:
    async def talk() -> None:
        end, _peer = await kit.accepted()
        end.deadline = kit.loop.time()
        await end.told_of("expired")

    kit.run(talk())


def test_nobody_listens(kit: Kit) -> None:
    async def talk() -> None:
        for address in (Address("127.0.0.1", 1), Address(path=str(kit.tmp_path / "none"))):
            for brief in (False, True):
                end = Recorder(kit.turn)
                end.send(b"request")
                kit.turn.orders.append(Open(address, end, brief))
                kit.driver.settle()
                await end.told_of("lost")
                assert isinstance(end.error, ConnectionRefusedError | FileNotFoundError)

    kit.run(talk())


@pytest.mark.parametrize("turns", [0, 1])
def test_connecting_is_given_up_when_the_end_closes(kit: Kit, turns: int) -> None:
    async def talk() -> None:
        with socket.socket() as listener:  # a backlog that is full never answers
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            address = listener.getsockname()
            full = []
            for _ in range(3):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(address)
                full.append(sock)
            end = Recorder(kit.turn)
            kit.turn.orders.append(Open(Address(*address), end))
            kit.driver.settle()
            for _ in range(turns):
                await asyncio.sleep(0)
            end.close(Close.ABORT)
            kit.driver.settle()
            assert end.told == ["lost"]
            for sock in full:
                sock.close()

    kit.run(talk())


def test_connecting_is_given_up_whenever_the_end_closes(kit: Kit) -> None:
    """However far the loop has got: the worker listens, and would take the connection."""

    async def talk() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            for turns in range(12):
                end = Recorder(kit.turn)
                kit.turn.orders.append(Open(Address(*listener.getsockname()), end))
                kit.driver.settle()
                for _ in range(turns):
                    await asyncio.sleep(0)
                end.close(Close.ABORT)
                kit.driver.settle()
                await end.told_of("lost")
                for _ in range(12):
                    await asyncio.sleep(0)
                assert end.told in (["lost"], ["connected", "lost"])

    kit.run(talk())


@pytest.mark.parametrize("path", ["s", ""])
def test_an_end_that_closed_before_its_order_was_done_is_lost(kit: Kit, path: str) -> None:
    async def talk() -> None:
        end = Recorder(kit.turn)
        address = Address(path=str(kit.tmp_path / path)) if path else Address("127.0.0.1", 9)
        kit.turn.orders.append(Open(address, end))
        end.close(Close.ABORT)
        kit.driver.settle()
        assert end.told == ["lost"]

    kit.run(talk())


def test_running_out_of_descriptors_refuses_the_connection(kit: Kit) -> None:
    async def talk() -> None:
        end = Recorder(kit.turn)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        kit.turn.orders.append(Open(Address(path=str(kit.tmp_path / "s")), end))
        used = max(map(int, os.listdir("/proc/self/fd"))) + 1
        filler = [os.open("/dev/null", os.O_RDONLY) for _ in range(used)]  # every gap below the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, limit[1]))
        try:
            kit.driver.settle()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            for descriptor in filler:
                os.close(descriptor)
        assert end.told == ["lost"]
        assert end.error is not None and end.error.errno == errno.EMFILE

    kit.run(talk())


def test_a_file_goes_between_octets(kit: Kit) -> None:
    async def talk() -> None:
        end, peer = await kit.accepted()
        content = os.urandom(3 << 20)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            closed: list[bool] = []
            end.send(b"before")
            end.send(FileSlice(file.fileno(), 1, len(content) - 1, lambda: closed.append(True)))
            end.send(b"after")
            end.close(Close.FLUSH)
            kit.driver.settle()
            received = await kit.read_all(peer)
        assert received == b"before" + content[1:] + b"after"
        assert closed == [True]

    kit.run(talk())


def test_it_is_told_whenever_some_of_a_file_went_out(kit: Kit) -> None:
    async def talk() -> None:
        end, peer = await kit.accepted()
        with tempfile.TemporaryFile() as file:
            file.truncate(32 << 20)
            end.send(FileSlice(file.fileno(), 0, 32 << 20, lambda: None))
            kit.driver.settle()
            await end.told_of("unsent some")
            lengths = [end.held]
            while end.told.count("unsent some") < 4:
                told = len(end.told)
                await kit.loop.run_in_executor(None, peer.recv, 8 << 20)
                if len(end.told) == told:
                    continue
                lengths.append(end.held)
            assert lengths == sorted(lengths, reverse=True)
            end.close(Close.ABORT)
            kit.driver.settle()
            await end.told_of("lost")

    kit.run(talk())


def test_a_file_that_became_shorter_breaks_the_connection(kit: Kit) -> None:
    async def talk() -> None:
        end, peer = await kit.accepted()
        peer.settimeout(10)
        with tempfile.TemporaryFile() as file:
            file.write(b"short")
            file.flush()
            end.send(FileSlice(file.fileno(), 0, 1 << 20, lambda: None))
            end.send(b"never")
            kit.driver.settle()
            await end.told_of("lost")
        with pytest.raises(ConnectionResetError):
            await kit.read_all(peer)

    kit.run(talk())


def test_resume_comes_after_the_input_that_ordered_it(kit: Kit) -> None:
    async def talk() -> None:
        end, peer = await kit.accepted()
        end.on_received = lambda octets: kit.turn.orders.append(Resume(end))
        peer.sendall(b"x")
        await end.told_of("resume")

    kit.run(talk())


def test_a_defect_of_the_rules_costs_one_connection(kit: Kit) -> None:
    async def talk() -> None:
        end, peer = await kit.accepted()
        peer.settimeout(10)

        def fail(octets: bytes) -> None:
            end.entered = False
            raise ZeroDivisionError

        end.on_received = fail
        peer.sendall(b"x")
        await end.told_of("lost")
        assert [type(crash) for crash in kit.crashes] == [ZeroDivisionError]
        other, other_peer = await kit.accepted()
        other_peer.sendall(b"y")
        await other.until(lambda: other.octets == b"y")

    kit.run(talk())


class Child:
    """Notes what a process reports."""

    def __init__(self) -> None:
        self.pid = 0
        self.code: int | None = None
        self.error: OSError | None = None
        self.changed = asyncio.Event()

    def started(self, pid: int, now: float) -> None:
        self.pid = pid
        self.changed.set()

    def failed(self, error: OSError, now: float) -> None:
        self.error = error
        self.changed.set()

    def exited(self, code: int, now: float) -> None:
        self.code = code
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)


def shell(script: bytes) -> Launch:
    return Launch(b"/bin/sh", (b"sh", b"-c", script), {b"PATH": b"/bin:/usr/bin"}, b"/")


def test_a_process_with_three_streams(kit: Kit) -> None:
    async def talk() -> None:
        child = Child()
        stdin, stdout, stderr = (Recorder(kit.turn) for _ in range(3))
        stdin.send(b"content")
        stdin.close(Close.FLUSH)
        kit.turn.orders.append(Spawn(shell(b"cat; echo bad >&2; exit 3"), child, stdin, stdout, stderr))
        kit.driver.settle()
        await stdout.told_of("eof")
        await stderr.told_of("eof")
        await child.until(lambda: child.code is not None)
        assert (stdout.octets, stderr.octets, child.code) == (b"content", b"bad\n", 3)
        await stdin.told_of("lost")

    kit.run(talk())


def test_a_process_that_cannot_be_started(kit: Kit) -> None:
    async def talk() -> None:
        child = Child()
        kit.turn.orders.append(Spawn(Launch(b"/none", (b"none",), {}, b"/"), child, stdout=Recorder(kit.turn)))
        kit.driver.settle()
        await child.until(lambda: child.error is not None)
        assert isinstance(child.error, FileNotFoundError)

    kit.run(talk())


def test_kill_reaches_the_whole_group(kit: Kit) -> None:
    async def talk() -> None:
        child = Child()
        stdout = Recorder(kit.turn)
        kit.turn.orders.append(Spawn(shell(b"sleep 60 & echo up; wait"), child, stdout=stdout))
        kit.driver.settle()
        await stdout.until(lambda: stdout.octets == b"up\n")
        kit.turn.orders.append(Kill(child.pid, 9))
        kit.driver.settle()
        await stdout.told_of("eof")  # the grandchild held it, too
        await child.until(lambda: child.code == -9)

    kit.run(talk())


def test_a_pipe_whose_reader_is_gone_is_lost(kit: Kit) -> None:
    async def talk() -> None:
        child = Child()
        stdin = Recorder(kit.turn)
        stdin.send(b"x" * 1_000_000)
        kit.turn.orders.append(Spawn(shell(b"exec <&-; sleep 0"), child, stdin))
        kit.driver.settle()
        await stdin.told_of("lost")

    kit.run(talk())
