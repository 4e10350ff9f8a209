"""Counters in shared memory: what several processes have told, and what is left of a dead one."""

from __future__ import annotations

import os
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.processes.counters import TEXT_OCTETS, Counters

WIDTH = 4
GAUGE = 3


@pytest.fixture
def counters() -> Counters:
    return Counters(3, 2, WIDTH, (GAUGE,))


def in_child(counters: Counters, slot: int, row: int, values: list[int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        counters.publish(slot, row, values)
        counters.tell(slot, b"here")
        os._exit(0)
    os.waitpid(pid, 0)


def test_all_together(counters: Counters) -> None:
    in_child(counters, 0, 1, [1, 2, 3, 4])
    in_child(counters, 2, 1, [10, 20, 30, 40])
    assert counters.total(1) == [11, 22, 33, 44]
    assert counters.total(0) == [0, 0, 0, 0]
    assert [counters.told(slot) for slot in range(3)] == [b"here", b"", b"here"]


def test_what_a_dead_one_counted_stays_and_what_it_had_goes(counters: Counters) -> None:
    in_child(counters, 0, 0, [1, 2, 3, 4])
    counters.clear(0)
    counters.clear(0)
    assert counters.total(0) == [1, 2, 3, 0]
    assert counters.told(0) == b""
    in_child(counters, 0, 0, [1, 1, 1, 1])
    assert counters.total(0) == [2, 3, 4, 1]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30))
def test_nothing_ever_gets_less(steps: list[tuple[int, bool]]) -> None:
    counters = Counters(3, 1, WIDTH, (GAUGE,))
    own = [0, 0, 0]
    served = 0
    for slot, dies in steps:
        if dies:
            counters.clear(slot)
            own[slot] = 0
        else:
            own[slot] += 1
            served += 1
            counters.publish(slot, 0, [own[slot], 0, 0, own[slot]])
        assert counters.total(0) == [served, 0, 0, sum(own)]


def test_a_text_is_read_whole_or_not_at_all(counters: Counters) -> None:
    counters.tell(1, b"one")
    counters.tell(1, b"x" * TEXT_OCTETS)
    assert counters.told(1) == b"x" * TEXT_OCTETS
    counters.words[counters.slot_words] += 1  # its writer was killed in the middle
    assert counters.told(1) == b""
    counters.words[counters.slot_words] += 1
    assert counters.told(1) == b"", "the checksum is that of another state"
    counters.tell(1, b"two")
    assert counters.told(1) == b"two"


def test_without_rows_nothing_is_kept() -> None:
    counters = Counters(5, 0, 0)
    counters.publish(0, 0, [1])
    counters.tell(0, b"text")
    counters.clear(0)
    assert counters.told(0) == b""
