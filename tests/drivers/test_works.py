"""Code that may wait, and its way back to the rules: in the driver's own thread, in others, as a coroutine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.drivers.driver import Closed
from gateway.ends import Close, Run, RunAsync
from tests.drivers.kit import Kit, Work

MUCH = 8 << 20


def test_a_work_calls_the_rules_in_order(kit: Kit) -> None:
    end, peer = kit.accepted()
    numbers = [b"%d\n" % number for number in range(1000)]

    def run(streams: Any) -> None:
        for number in numbers:
            streams.enter(end.send, number)
        streams.enter(end.close, Close.FLUSH)

    reading = kit.read_all(peer)
    kit.work(run)
    assert kit.result(reading) == b"".join(numbers)


def test_a_work_waits_for_room(kit: Kit) -> None:
    """A slow client holds it back: never more is kept than one piece."""
    end, peer = kit.accepted()
    piece = b"x" * 65536
    most: list[int] = []

    def run(streams: Any) -> None:
        for _ in range(MUCH // len(piece)):
            streams.enter(end.send, piece)
            streams.wait(lambda: not end.held and not end.out)
            most.append(len(end.out))
        streams.enter(end.close, Close.FLUSH)

    kit.work(run)
    reading = kit.read_all(peer)
    assert len(kit.result(reading)) == MUCH
    assert most == [0] * (MUCH // len(piece))


def test_a_work_waits_for_content(kit: Kit) -> None:
    end, peer = kit.accepted()
    seen: list[bytes] = []

    def run(streams: Any) -> None:
        for size in (1, 3, 6):
            streams.wait(lambda size=size: len(end.octets) >= size)
            seen.append(end.octets)
            streams.enter(end.send, b"next")

    def talk() -> None:
        for piece in (b"a", b"bc", b"def"):
            peer.sendall(piece)
            assert peer.recv(4) == b"next"

    kit.work(run)
    kit.result(kit.aside(talk))
    assert seen == [b"a", b"abc", b"abcdef"]


def test_a_work_learns_that_its_client_has_left(kit: Kit) -> None:
    end, peer = kit.accepted()
    came_back: list[bool] = []

    def run(streams: Any) -> None:
        streams.enter(end.send, b"x" * MUCH)
        streams.wait(lambda: not end.held or "lost" in end.told)
        came_back.append("lost" in end.told)
        streams.enter(kit.driver.wake)

    def leave() -> None:
        peer.recv(1)
        peer.close()

    kit.work(run)
    leaving = kit.aside(leave)
    kit.until(lambda: came_back)
    leaving.result()
    assert came_back == [True]


def test_deadlines_pass_while_a_work_waits(kit: Kit) -> None:
    end, _peer = kit.accepted()
    other, other_peer = kit.accepted()
    came_back: list[bool] = []

    def run(streams: Any) -> None:
        streams.wait(lambda: "expired" in end.told and other.octets == b"x")
        came_back.append(True)
        streams.enter(kit.driver.wake)

    kit.work(run)
    end.deadline = kit.driver.clock()
    other_peer.sendall(b"x")
    kit.until(lambda: came_back)


def test_who_waits_for_what_is_there_does_not_wait(kit: Kit) -> None:
    came_back: list[bool] = []

    def run(streams: Any) -> None:
        streams.wait(lambda: True)
        streams.enter(came_back.append, True)
        streams.enter(kit.driver.wake)

    kit.work(run)
    kit.until(lambda: came_back)


def test_works_run_at_the_same_time_or_one_after_the_other(kit: Kit) -> None:
    events: list[str] = []
    may_end = [False, False]

    def work(number: int) -> Callable[[Any], None]:
        def run(streams: Any) -> None:
            streams.enter(events.append, f"{number} begins")
            streams.enter(kit.driver.wake)
            streams.wait(lambda: may_end[number])
            streams.enter(events.append, f"{number} ends")
            streams.enter(kit.driver.wake)

        return run

    def release(number: int) -> None:
        may_end[number] = True

    kit.work(work(0))
    kit.work(work(1))
    if kit.blocks:  # the second one waits for the first
        kit.driver.ticks.append(lambda now, wall: release(0))
        kit.driver.ticks.append(lambda now, wall: release(1))
        kit.until(lambda: len(events) == 4)
        assert events == ["0 begins", "0 ends", "1 begins", "1 ends"]
    else:
        kit.until(lambda: len(events) == 2)
        kit.driver.enter(release, 1)
        kit.until(lambda: len(events) == 3)
        kit.driver.enter(release, 0)
        kit.until(lambda: len(events) == 4)
        assert sorted(events[:2]) == ["0 begins", "1 begins"]
        assert events[2:] == ["1 ends", "0 ends"]


def test_more_works_than_threads_all_run_in_the_order_of_orders(kit: Kit) -> None:
    began: list[int] = []
    ended: list[int] = []

    def work(number: int) -> Work:
        def run(streams: Any) -> None:
            began.append(number)
            streams.enter(ended.append, number)
            streams.enter(kit.driver.wake)

        return Work(run)

    before = threading.active_count()
    kit.order(*[Run(work(number)) for number in range(50)])
    kit.until(lambda: len(ended) == 50)
    assert sorted(began) == list(range(50))
    assert threading.active_count() - before <= (0 if kit.blocks else 3)


def test_a_work_that_is_ordered_by_a_work_runs_after_it(kit: Kit) -> None:
    events: list[str] = []

    def second(streams: Any) -> None:
        streams.enter(events.append, "second")
        streams.enter(kit.driver.wake)

    def first(streams: Any) -> None:
        streams.enter(kit.turn.orders.append, Run(Work(second)))
        if not kit.blocks:
            return
        streams.wait(lambda: bool(kit.driver.turn.now))
        events.append("first")

    kit.work(first)
    kit.until(lambda: "second" in events)
    assert events == (["first", "second"] if kit.blocks else ["second"])


class Stopped(BaseException):
    """As SystemExit: no Exception."""


def test_an_exception_that_escapes_is_a_defect_and_the_next_work_runs(kit: Kit) -> None:
    def fail(streams: Any) -> None:
        raise ZeroDivisionError

    ran: list[bool] = []

    def run(streams: Any) -> None:
        streams.enter(ran.append, True)
        streams.enter(kit.driver.wake)

    for _ in range(4):  # more than there are threads
        kit.work(fail)
    kit.work(run)
    kit.until(lambda: ran and len(kit.crashes) == 4)
    assert {type(crash) for crash in kit.crashes} == {ZeroDivisionError}


def test_what_would_end_the_thread_ends_no_thread_of_the_pool(kit: Kit) -> None:
    def fail(streams: Any) -> None:
        raise Stopped("of its own accord")

    if kit.blocks:  # it is the engine's own thread: it ends
        kit.work(fail)
        with pytest.raises(Stopped):
            kit.driver.run(lambda: False)
        return
    for _ in range(4):
        kit.work(fail)
    kit.until(lambda: len(kit.crashes) == 4)
    assert {str(crash) for crash in kit.crashes} == {"Stopped escaped: of its own accord"}


def test_a_defect_of_the_rules_that_a_work_called_is_not_the_works(kit: Kit) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    went_on: list[bool] = []

    def run(streams: Any) -> None:
        streams.enter(fail)
        went_on.append(True)

    kit.work(run)
    kit.until(lambda: kit.crashes and went_on)
    assert [type(crash) for crash in kit.crashes] == [ZeroDivisionError]


def test_who_still_waits_at_the_end_is_sent_away(kit: Kit) -> None:
    if kit.blocks:
        return  # nobody can wait while it is being closed: it is one thread
    left: list[str] = []
    began: list[bool] = []

    def waits(streams: Any) -> None:
        try:
            streams.enter(began.append, True)
            streams.enter(kit.driver.wake)
            streams.wait(lambda: False)
        except Exception:
            left.append("as by an exception of its own")
        finally:
            left.append("waiting")

    def computes(streams: Any) -> None:
        try:
            streams.enter(began.append, True)
            streams.enter(kit.driver.wake)
            while True:
                time.sleep(0.001)
                streams.enter(began.count, True)
        except Closed:
            left.append("computing")

    kit.work(waits)
    kit.work(computes)
    kit.until(lambda: len(began) == 2)
    kit.driver.close()
    assert sorted(left) == ["computing", "waiting"]
    with pytest.raises(Closed):
        kit.aside(kit.driver.enter, lambda: None).result()


# ---------------------------------------------------------------------- coroutines


class AsyncWork:
    def __init__(self, run: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        self.run = run


def test_a_coroutine_runs_beside_the_streams(kit: Kit) -> None:
    end, peer = kit.accepted()
    sent: list[bytes] = []

    async def run(streams: Any) -> None:
        streams.enter(end.send, b"one ")
        sent.append(peer.recv(100))  # done before it returned
        await asyncio.sleep(0)
        streams.enter(end.send, b"two")
        streams.enter(end.close, Close.FLUSH)

    kit.order(RunAsync(AsyncWork(run)))
    if kit.blocks:
        kit.until(lambda: kit.crashes)
        assert "needs an event loop" in str(kit.crashes[0])
        return
    end.told_of("lost")
    assert sent == [b"one "]
    assert kit.result(kit.read_all(peer)) == b"two"
    assert kit.crashes == []


def test_a_coroutine_that_waits_as_a_thread_does_would_wait_for_ever(kit: Kit) -> None:
    if kit.blocks:
        return

    async def run(streams: Any) -> None:
        streams.wait(lambda: True)

    kit.order(RunAsync(AsyncWork(run)))
    kit.until(lambda: kit.crashes)
    assert "may not call wait" in str(kit.crashes[0])


def test_an_exception_that_escapes_a_coroutine_is_a_defect(kit: Kit) -> None:
    if kit.blocks:
        return

    async def run(streams: Any) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    kit.order(RunAsync(AsyncWork(run)))
    kit.until(lambda: kit.crashes)
    assert [type(crash) for crash in kit.crashes] == [ZeroDivisionError]


def test_coroutines_are_cancelled_at_the_end(kit: Kit) -> None:
    if kit.blocks:
        return
    told: list[str] = []

    async def run(streams: Any) -> None:
        told.append("begun")
        kit.driver.wake()
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            told.append("left")

    kit.order(RunAsync(AsyncWork(run)))
    kit.until(lambda: told)
    kit.driver.close()
    assert told == ["begun", "left"]
    assert kit.crashes == []
