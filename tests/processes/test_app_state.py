"""Whether an application is down, as its parent writes it and engines in other processes read it."""

from __future__ import annotations

import os
import random
import signal
from copy import copy

from hypothesis import given
from hypothesis import strategies as st

from gateway.processes.app_state import TEXT_OCTETS, AppState
from tests.processes.test_scoreboard import child


def test_an_app_that_is_down_says_why_and_until_when() -> None:
    told = AppState()
    read = copy(told)
    assert read.why(0.0) == ""
    told.down("its worker dies at once", 3, 100.0)
    assert read.why(100.0) == "its worker dies at once"
    assert read.retry_after_s(100.0) == 3
    assert read.retry_after_s(101.5) == 2
    assert read.retry_after_s(200.0) == 1
    told.up()
    assert read.why(100.0) == ""


def test_what_is_told_again_is_not_written_again() -> None:
    told = AppState()
    for text, retry_after_s, now, written in [
        ("it dies", 3, 100.0, True),
        ("it dies", 3, 100.9, False),
        ("it dies", 2, 101.2, False),
        ("it fails", 2, 101.2, True),
        ("it fails", 4, 101.2, True),
    ]:
        before = bytes(told._octets)
        told.down(text, retry_after_s, now)
        assert (bytes(told._octets) != before) is written
    told.up()
    before = bytes(told._octets)
    told.up()
    assert bytes(told._octets) == before


@given(st.text(max_size=300), st.text(min_size=1, max_size=300))
def test_any_text_comes_out_as_far_as_there_is_room(first: str, second: str) -> None:
    told = AppState()
    read = copy(told)
    for text in (first, second):
        told.down(text, 60, 0)
        expected = text.encode("utf-8", "replace")[:TEXT_OCTETS].decode("utf-8", "ignore")
        assert read.why(0) == expected


def test_a_reader_never_sees_half_of_one_state_and_half_of_another() -> None:
    told = AppState()

    def write() -> None:
        letters = random.Random(1)
        while True:
            letter = letters.choice("abcdefgh")
            told.down(letter * (ord(letter) - ord("a") + 100), 10.0 * ord(letter), 0)

    told.down("a" * 100, 970, 0)
    read = copy(told)
    assert read.why(0)  # from now on it knows one, also where it looks in the middle of each of its tries
    pid = child(write)
    seen: set[str] = set()
    while len(seen) < 8 or read._known[0] < 20_000:
        text = read.why(0)
        assert text == text[0] * (ord(text[0]) - ord("a") + 100)
        assert read._known[2] == 10.0 * ord(text[0])
        seen.add(text)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_state_that_is_being_written_is_not_believed_yet() -> None:
    told = AppState()
    other = copy(told)
    told.down("it dies", 3, 100.0)
    read = copy(told)
    assert read.why(100.0) == "it dies"

    told._words[0] += 1  # the parent is stopped in the middle of a word
    told._text[:8] = b"it fails"
    assert read.why(200.0) == "it dies"
    assert other.why(200.0) == ""  # one that has read nothing before: so it tries
    # the number says that it is whole, and the octets have not come through yet
    told._words[0] += 1
    assert read.why(200.0) == "it dies"
    told.down("it fails", 3, 300.0)
    assert read.why(300.0) == "it fails"
