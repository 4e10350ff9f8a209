"""`wsgi.input` beside a file in memory, and a WSGI call whose application runs in a thread of its own."""

from __future__ import annotations

import io
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hosting.wsgi_streams import FULL, Input
from tests.rules.playbook import LOST
from tests.rules.stage import Stage

PATIENCE_S = 30.0
"""A thread that is stuck fails its test; none that works comes near it."""


class Feed:
    """Delivers the pieces one by one, each when the reader has nothing left (Streams)."""

    def __init__(self, input: Input, pieces: list[bytes]) -> None:
        self.input = input
        self.pieces = pieces

    def enter(self, method: Callable[..., None], *arguments: Any) -> None:
        method(*arguments)

    def wait(self, ready: Callable[[], bool]) -> None:
        assert not ready()
        if self.pieces:
            self.input.add(self.pieces.pop(0))
        else:
            self.input.complete = True
        assert ready()


Sizes = st.one_of(st.none(), st.integers(-1, 12))
Reads = st.one_of(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), Sizes),
    st.tuples(st.sampled_from(["read", "readline", "readlines", "__next__"]), st.just("nothing")),
)
Pieces = st.lists(st.text("ab\n", min_size=1, max_size=9).map(str.encode), max_size=8)


@given(Pieces, st.integers(0, 8), st.lists(Reads, max_size=12))
def test_the_input_reads_as_a_file_does(pieces: list[bytes], early: int, reads: list[tuple[str, Any]]) -> None:
    """Whatever of the content has come before it is read, and however it is cut."""
    file = io.BytesIO(b"".join(pieces))
    input = Input(lambda: None)
    for piece in pieces[:early]:
        input.add(piece)
    input.streams = Feed(input, pieces[early:])
    for name, size in [*reads, ("read", "nothing")]:
        arguments = () if size == "nothing" else (size,)
        try:
            expected = getattr(file, name)(*arguments)
        except StopIteration:
            with pytest.raises(StopIteration):
                getattr(input, name)(*arguments)
        else:
            assert getattr(input, name)(*arguments) == expected
    assert not input.full


def test_whoever_waits_is_woken_by_what_it_could_not_see_before() -> None:
    """The rules saw a full input; by the time they say that more can be had, it is empty and somebody waits."""
    input = Input(lambda: input.add(b"more"))

    class Late(Feed):
        def wait(self, ready: Callable[[], bool]) -> None:
            assert not ready()
            if input.taken:
                input.complete = True
            else:
                input.waits = True
            assert ready()

    input.streams = Late(input, [])
    assert input.read() == b"more"
    assert not input.waits


class Threaded(Stage):
    """Works run in threads; the rules live in the test's own."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.entries: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]] = queue.SimpleQueue()
        self.settled = threading.Condition()
        self.threads: list[threading.Thread] = []
        super().__init__(app, **options)

    def work(self) -> None:
        while self.works:
            thread = threading.Thread(target=self.works.popleft().run, args=(Across(self),))
            self.threads.append(thread)
            thread.start()
        with self.settled:
            self.settled.notify_all()

    def go_on(self, until: Callable[[], bool]) -> None:
        """Do what applications ask for."""
        while not until():
            method, arguments = self.entries.get(timeout=PATIENCE_S)
            method(*arguments)
            self.settle()

    def join(self) -> None:
        self.go_on(lambda: self.interface().running == 0)
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        self.threads.clear()


class Across:
    """The way from such a thread to the rules (Streams)."""

    def __init__(self, stage: Threaded) -> None:
        self.stage = stage

    def enter(self, method: Callable[..., None], *arguments: Any) -> None:
        self.stage.entries.put((method, arguments))

    def wait(self, ready: Callable[[], bool]) -> None:
        with self.stage.settled:
            assert self.stage.settled.wait_for(ready, PATIENCE_S)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def echo(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Length", environ["CONTENT_LENGTH"])])
    while piece := environ["wsgi.input"].read(7_000):
        yield piece


@pytest.mark.parametrize("take", [1_000_000, 30_000])
def test_content_comes_and_goes_at_the_same_time(impatient: None, take: int) -> None:
    talk = Threaded(echo)
    content = b"".join(b"%7d\n" % number for number in range(250_000))
    talk.client.room = take
    talk.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
    for start in range(0, len(content), 65_536):
        talk.client.say(content[start : start + 65_536])
        talk.go_on(talk.entries.empty)
    got: list[bytes] = []

    def over() -> bool:
        while octets := talk.client.take():  # it is never clogged when there is nothing else to do
            got.append(octets)
            talk.client.takes(take)
        return talk.interface().running == 0

    talk.go_on(over)
    assert b"".join(got).partition(b"\r\n\r\n")[2] == content
    talk.join()
    talk.all_leave()


def test_a_generator_does_not_run_ahead_of_the_rules(impatient: None) -> None:
    made = 0

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        nonlocal made
        start_response("200 OK", [("Content-Type", "text/plain")])
        for _ in range(10_000):
            made += 1
            yield b"x" * 1000

    talk = Threaded(app)
    talk.client.get()
    for _ in range(1000):  # the rules are busy
        assert made * 1000 <= 3 * FULL
    talk.client.room = 100_000
    talk.go_on(lambda: talk.client.room == 0)
    assert made * 1000 <= 100_000 + 3 * FULL
    talk.client >> LOST
    talk.join()
    assert made < 10_000
    talk.all_leave()


def test_a_client_that_leaves_wakes_whoever_waits(impatient: None) -> None:
    talk = Threaded(echo)
    for _ in range(20):
        client = talk.connect()
        client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhello"
        client >> LOST
        talk.join()
    assert talk.accesses.statuses == [499] * 20
    assert not talk.log.lines
    talk.all_leave()
