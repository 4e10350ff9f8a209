"""What is remembered, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.memory import ONCE, Memory


def looked_up(memory: Memory[bytes, int], key: bytes) -> int:
    """As all users of a memory do it."""
    known = memory.known.get(key)
    if known is None:
        known = len(key)
        if memory.again(key):
            memory.keep(key, known)
    return known


def test_only_what_comes_again_is_kept() -> None:
    memory: Memory[bytes, int] = Memory(4)
    looked_up(memory, b"a")
    looked_up(memory, b"b")
    assert not memory.known
    looked_up(memory, b"a")
    assert memory.known == {b"a": 1}


def test_what_comes_once_displaces_nothing() -> None:
    memory: Memory[bytes, int] = Memory(4)
    for _ in range(2):
        looked_up(memory, b"a")
    for number in range(3 * ONCE):
        looked_up(memory, b"%d" % number)
    assert memory.known == {b"a": 1}
    assert len(memory._once) <= ONCE


def test_a_full_memory_is_emptied_for_the_next_one() -> None:
    memory: Memory[bytes, int] = Memory(4)
    for key in (b"a", b"b", b"c", b"d", b"e"):
        for _ in range(2):
            looked_up(memory, key)
    assert memory.known == {b"e": 1}


@given(st.lists(st.binary(max_size=2)), st.integers(1, 5))
def test_an_entry_is_what_would_be_made_anew(keys: list[bytes], entries: int) -> None:
    memory: Memory[bytes, int] = Memory(entries)
    for key in keys:
        assert looked_up(memory, key) == len(key)
        assert len(memory.known) <= entries
