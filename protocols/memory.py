"""What peers send again and again, and what was made of it: bounded, since they choose what they send.

Promise: an entry is what would be made anew; what comes only once takes no place from what comes again.
Must never know: what is remembered. Next: `http1.py` and `cgi.py` for heads, `gateway/routing.py` for targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

ONCE: Final = 4096
"""Of so many keys it is known at most that they came once."""

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """To be used so: look into `known`; else make it, and `note` it (or `keep` it, having asked whether it came `again`)."""

    __slots__ = ("known", "_entries", "_once")

    def __init__(self, entries: int) -> None:
        """`entries`: a memory that has so many is emptied for the next one."""
        self.known: dict[K, V] = {}
        self._entries = entries
        self._once: set[int] = set()

    def again(self, key: K) -> bool:
        """Whether this key, which is not known, came before, and not long ago."""
        number = hash(key)
        once = self._once
        if number in once:
            return True
        if len(once) >= ONCE:
            once.clear()
        once.add(number)
        return False

    def keep(self, key: K, value: V) -> None:
        if len(self.known) >= self._entries:
            self.known.clear()
        self.known[key] = value

    def note(self, key: K, value: V) -> None:
        """What was made for a key that is not known: it is kept if the key came before."""
        if self.again(key):
            self.keep(key, value)

    def clear(self) -> None:
        self.known.clear()
        self._once.clear()


MEMO_ENTRIES: Final = 2048
MEMO_KEY_BYTES: Final = 128


class Memo(dict[bytes, V]):
    """`memo[key]` is `compute(key)`, remembered: a look-up at C speed for what is small and nearly always the same.

    Bounded, since peers choose the keys: long ones are not kept, and too many are all forgotten.
    """

    __slots__ = ("_compute",)

    def __init__(self, compute: Callable[[bytes], V]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, key: bytes) -> V:
        answer = self._compute(key)
        if len(key) <= MEMO_KEY_BYTES:
            if len(self) >= MEMO_ENTRIES:
                self.clear()
            self[key] = answer
        return answer
