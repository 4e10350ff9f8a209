"""What wakes a driver beside streams: signals, other threads; how it begins and ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Any

import pytest

from gateway.ends import Address, Close, Gather, Open, Run, Turn
from tests.drivers.kit import Kit, Recorder, Work, fork


def test_a_signal_is_dealt_with_in_a_turn(kit: Kit) -> None:
    end, peer = kit.accepted()
    came: list[str] = []

    def usr1() -> None:
        came.append("usr1")
        end.send(b"signalled")
        end.close(Close.FLUSH)

    def usr2() -> None:
        came.append("usr2")
        raise ZeroDivisionError

    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    kit.driver.call_signals({signal.SIGUSR2: usr2})
    kit.driver.call_signals({signal.SIGUSR1: usr1})
    signal.raise_signal(signal.SIGUSR1)  # before it runs
    assert came == []
    kit.until(lambda: came == ["usr1"])
    assert peer.recv(100) == b"signalled"
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2)).start()  # while it waits
    kit.until(lambda: kit.crashes)
    assert came == ["usr1", "usr2"]
    kit.driver.close()
    for number, handler in before.items():
        assert signal.getsignal(number) is handler
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_that_comes_while_it_is_busy_is_not_lost(kit: Kit) -> None:
    came: list[int] = []
    kit.driver.call_signals({signal.SIGUSR1: lambda: came.append(1)})
    end, peer = kit.accepted()
    end.on_received = lambda octets: signal.raise_signal(signal.SIGUSR1)
    peer.sendall(b"x")
    kit.until(lambda: came)


def test_another_thread_wakes_it(kit: Kit) -> None:
    asked: list[bool] = []

    def ask() -> None:
        asked.append(True)
        kit.driver.wake()

    kit.driver.ticks.append(lambda now, wall: pytest.fail("the sweep was first") if asked else None)
    for _ in range(20):
        asked.clear()
        thread = threading.Thread(target=ask)
        thread.start()
        kit.until(lambda: asked)
        thread.join()


def test_what_is_done_already_is_not_waited_for(kit: Kit) -> None:
    kit.driver.run(lambda: True)
    kit.driver.run(lambda: True)


def test_what_done_raises_comes_out(kit: Kit) -> None:
    looks: list[int] = []

    def done() -> bool:
        looks.append(1)
        if len(looks) == 2:
            raise ZeroDivisionError
        return False

    kit.driver.wake()
    with pytest.raises(ZeroDivisionError):
        kit.driver.run(done)
    kit.other_turns()


def test_sweeps_tick_with_both_clocks(kit: Kit) -> None:
    ticks: list[tuple[float, float]] = []
    kit.driver.ticks.append(lambda now, wall: ticks.append((now, wall)))
    kit.until(lambda: len(ticks) > 1)
    (now, wall), (later, _) = ticks[:2]
    assert later > now
    assert wall > 1e9


def test_a_tick_that_raises_is_a_defect_and_the_others_go_on(kit: Kit) -> None:
    ticks: list[float] = []

    def fail(now: float, wall: float) -> None:
        raise ZeroDivisionError

    kit.driver.ticks.append(fail)
    kit.driver.ticks.append(lambda now, wall: ticks.append(now))
    kit.until(lambda: ticks)
    assert type(kit.crashes[0]) is ZeroDivisionError


# ---------------------------------------------------------------------- its beginning and its end


def test_it_may_be_closed_without_having_been_opened(kit: Kit) -> None:
    made = kit.make(Turn())
    made.wake()
    made.close()
    made.wake()


def test_opening_twice_is_opening_once(kit: Kit) -> None:
    poller = kit.driver.poller
    kit.driver.open()
    assert kit.driver.poller is poller


def test_what_is_open_is_lost_at_the_end(kit: Kit) -> None:
    end, peer = kit.accepted()
    descriptors = len(os.listdir("/proc/self/fd"))
    kit.driver.close()
    assert end.told[-1] == "lost"
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    assert len(os.listdir("/proc/self/fd")) < descriptors
    kit.driver.close()


def test_what_is_ordered_after_the_end_is_refused(kit: Kit) -> None:
    kit.driver.close()
    end = Recorder(kit)
    worked: list[Any] = []
    kit.order(Open(Address("127.0.0.1", 1), end), Run(Work(worked.append)))
    assert end.told == ["lost"]
    assert worked == []


def test_nothing_is_left_open(kit: Kit) -> None:
    before = set(os.listdir("/proc/self/fd"))
    made = kit.make(Turn())
    if kit.name != "asyncio":  # that loop was given, and so it is not its own
        assert set(os.listdir("/proc/self/fd")) == before
        made.call_signals({signal.SIGUSR1: lambda: None})
        made.watch_child(_child(), lambda code: None)
    made.close()
    assert set(os.listdir("/proc/self/fd")) == before


def _child() -> int:
    pid = fork()
    if not pid:
        os._exit(0)
    return pid


def test_a_child_lets_go_of_what_is_the_parents(kit: Kit) -> None:
    if not kit.blocks:
        return  # a loop can't be let go of: who forks has a blocking driver
    end, peer = kit.accepted()
    came: list[int] = []
    kit.driver.call_signals({signal.SIGUSR1: lambda: came.append(1)})
    reader, writer = os.pipe()
    release, hold = os.pipe()
    pid = fork()
    if not pid:
        code = 1
        try:
            kit.driver.abandon()
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
            os.write(writer, b"let go")
            os.close(hold)
            os.read(release, 1)
            code = 0
        finally:
            os._exit(code)
    codes: list[int] = []
    kit.driver.watch_child(pid, codes.append)
    assert os.read(reader, 100) == b"let go"
    peer.sendall(b"x")
    end.has(b"x")  # the parent's is as it was
    end.close(Close.FLUSH)
    kit.driver.settle()
    assert peer.recv(1) == b""  # though the child still lives
    os.write(hold, b"x")
    kit.until(lambda: codes)
    assert codes == [0]
    os.kill(os.getpid(), signal.SIGUSR1)
    kit.until(lambda: came)
    for descriptor in (reader, writer, release, hold):
        os.close(descriptor)


# ---------------------------------------------------------------------- streams that we were started with


def test_a_pipe_that_we_were_started_with_is_read_to_its_end(kit: Kit) -> None:
    end, writer = kit.pipe(reads=True)
    os.write(writer, b"content")
    end.has(b"content")
    os.close(writer)
    end.told_of("eof")


@pytest.mark.parametrize("content", [b"", b"content" * 50_000])
def test_a_file_that_we_were_started_with_is_read_to_its_end(kit: Kit, content: bytes) -> None:
    path = kit.tmp_path / "content"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    end = Recorder(kit)
    kit.driver.attach(descriptor, end, reads=True)
    end.told_of("eof")
    assert end.octets == content


def test_an_end_of_a_file_is_read_no_sooner_than_it_is_wanted(kit: Kit) -> None:
    path = kit.tmp_path / "content"
    path.write_bytes(b"content" * 50_000)
    end = Recorder(kit)
    end.wants_data = False
    kit.driver.attach(os.open(path, os.O_RDONLY), end, reads=True)
    kit.other_turns()
    assert end.told == []

    def stop(octets: bytes) -> None:
        end.wants_data = False
        end.touch()

    end.on_received = stop
    for times in range(1, 4):
        end.wants_data = True
        kit.settle(end)
        kit.until(lambda times=times: end.told.count("received") == times)
        kit.other_turns()
        assert end.told.count("received") == times


def test_a_file_that_we_were_started_with_is_written(kit: Kit) -> None:
    path = kit.tmp_path / "output"
    end = Recorder(kit)
    kit.driver.attach(os.open(path, os.O_WRONLY | os.O_CREAT), end, reads=False)
    end.send(b"content")
    end.close(Close.FLUSH)
    kit.driver.settle()
    end.told_of("lost")
    assert path.read_bytes() == b"content"


def test_what_others_have_too_blocks_again_afterwards(kit: Kit) -> None:
    ours, theirs = socket.socketpair()
    shared = os.dup(ours.fileno())
    end = Recorder(kit)
    kit.driver.attach(shared, end, reads=False)
    assert not os.get_blocking(ours.fileno())
    end.close(Close.FLUSH)
    kit.driver.settle()
    assert os.get_blocking(ours.fileno())
    ours.close()
    theirs.close()


def test_what_is_gathered_comes_after_all_input_of_the_round(kit: Kit) -> None:
    ends = [kit.accepted() for _ in range(3)]
    collector = Recorder(kit)  # without a stream
    told: list[str] = []

    def received(octets: bytes) -> None:
        if not told:
            kit.turn.orders.append(Gather(collector))
        told.append(octets.decode())

    for end, _ in ends:
        end.on_received = received
    for _, peer in ends:
        peer.sendall(b"x")
    kit.until(lambda: "gathered" in collector.told)
    assert told == ["x", "x", "x"]
    kit.other_turns()


def test_who_gathers_again_while_gathering_is_called_again(kit: Kit) -> None:
    class Again(Recorder):
        def gathered(self, now: float) -> None:
            super().gathered(now)
            if len(self.told) < 3:
                self.turn.orders.append(Gather(self))

    end = Again(kit)
    kit.order(Gather(end))
    kit.until(lambda: end.told == ["gathered"] * 3)
    kit.other_turns()
