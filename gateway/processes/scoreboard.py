"""What the engines of one server see of each other, and their parent of them: counters in shared memory.

Promise: nobody waits for anybody here, but for the few instructions in which `may_run` counts; an engine that
was killed at any point leaves nothing locked, and nothing that `clear` does not put right.
Must never know: HTTP, what an engine serves, how many there should be. Next: `children.py`, which decides that.

The memory is made before the first fork, and inherited. Each field has one writer, the engine whose it is or the
parent, and lies on its own eight octets (a state: on one), which are written at once: so they need no lock. What
is added up over several slots may be a moment old when it is known; only `may_run` is exact.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gateway.processes.counters import Counters

FREE: Final = 0
STARTING: Final = 1
IDLE: Final = 2
"""It would take a connection now."""
BUSY: Final = 3
"""It would not."""
ENDING: Final = 4
"""It will not any more."""

SCARCE_S: Final = 60.0
"""So long after somebody starved at an address, nobody keeps a connection there."""
FRESH_S: Final = 2.0
"""Without a sign of life for so long, an engine is not counted on."""

_IDLE: Final = b"\x02"
_WORD: Final = 8
_HEAD: Final = 8
"""Words before the first slot: the line, and a bit for each socket at which nobody will listen any more."""
_ROW: Final = 8
"""Words of one slot: 64 octets, so that two engines do not write to the same line of a cache."""
_PID: Final = 0
_HELD: Final = 1
_REQUESTS: Final = 2
_BEAT: Final = 3


def _nothing_pending() -> bool:
    return False


def _nobody_listens(connections: int) -> None:
    pass


class Scoreboard:
    """The board of one server.

    `slots`      engines that there may be at a time
    `addresses`  of workers, of which `starves` and `scarce` speak
    `counted`    for so many things (routes with scripts) the engines count what runs, each from 0 up
    `counters`   what the engines tell of their work; None: nothing
    `line`       connections that the parent holds until there is an engine for them
    """

    def __init__(
        self,
        slots: int,
        addresses: Sequence[str],
        counted: int,
        clock: Callable[[], float] = time.monotonic,
        counters: Counters | None = None,
    ) -> None:
        self.slots = slots
        self.counters = counters if counters is not None else Counters(slots, 0, 0)
        self.clock = clock
        self.numbers = {address: number for number, address in enumerate(addresses)}
        rows_end = _HEAD + slots * _ROW
        stamps_end = rows_end + len(addresses)
        words = stamps_end + counted * slots
        self.states_at = words * _WORD
        self.states_end = self.states_at + slots
        self.map = mmap.mmap(-1, self.states_end)
        self.octets = memoryview(self.map)
        numbers = self.octets[: self.states_at]
        self.words: memoryview[int] = numbers.cast("q")
        self.seconds: memoryview[float] = numbers.cast("d")
        self.states = self.octets[self.states_at : self.states_end]
        self.held = self.words[_HEAD + _HELD : rows_end : _ROW]
        self.beats = self.seconds[_HEAD + _BEAT : rows_end : _ROW]
        self.stamps = self.seconds[rows_end:stamps_end]
        for number in range(len(addresses)):
            self.stamps[number] = -math.inf
        self.running = [self.words[stamps_end + i * slots : stamps_end + (i + 1) * slots] for i in range(counted)]
        # A lock of this kind is the process's: it goes with it, and no child inherits it. It would also go as soon
        # as the process closed any other descriptor of the file, so the file has no name and no other descriptor.
        self.lock_file = os.memfd_create("scoreboard", os.MFD_CLOEXEC)
        self.thread_lock = threading.Lock()

    def close(self) -> None:
        """Nobody counts any more. The memory goes with the last object that looks into it."""
        os.close(self.lock_file)

    def slot(self, number: int) -> Slot:
        """The place of one engine; the engine and its parent each make their own object."""
        return Slot(self, number)

    # ------------------------------------------------------------------ for the parent

    def clear(self, number: int) -> None:
        """The engine is dead: what it held is nobody's, its slot is free."""
        self.counters.clear(number)
        at = _HEAD + number * _ROW
        self.words[at + _HELD] = 0
        self.words[at + _REQUESTS] = 0
        self.words[at + _PID] = 0
        self.seconds[at + _BEAT] = 0.0
        for counts in self.running:
            counts[number] = 0
        self.states[number] = FREE

    def idle(self) -> int:
        """How many engines would take a connection."""
        return bytes(self.states).count(IDLE)

    def busy(self, slots: range | None = None) -> int:
        """How many serve, or finish what they have; of some slots in a row, or of all."""
        states = bytes(self.states if slots is None else self.states[slots.start : slots.stop])
        return states.count(BUSY) + states.count(ENDING)

    def ends(self, slots: range) -> bool:
        """Whether none of these takes a connection any more."""
        return bytes(self.states[slots.start : slots.stop]).count(ENDING) == len(slots)

    def connections(self) -> int:
        """How many connections of clients all engines have."""
        return sum(self.held)

    @property
    def line(self) -> int:
        return self.words[0]

    @line.setter
    def line(self, waiting: int) -> None:
        self.words[0] = waiting

    def end_listening(self, numbers: Iterable[int]) -> None:
        """At these of the server's sockets, counted from 0, nobody will listen after those who do now."""
        self.words[1] = sum(1 << number for number in numbers if number < _WORD * 8 - 1)

    def is_over(self, number: int) -> bool:
        """Whether that is so of this socket."""
        return number < _WORD * 8 - 1 and self.words[1] >> number & 1 == 1

    def has_line(self) -> bool:
        """Whether the parent holds connections that wait for an engine."""
        return self.words[0] > 0

    # ------------------------------------------------------------------ for the engines

    def least(self, slot: Slot, states: tuple[int, ...]) -> tuple[int, int]:
        """Which other engine in one of these states has the fewest connections: how many, and its slot; -1 for none.

        One without a sign of life is not counted on.
        """
        since = self.clock() - FRESH_S
        least, found = -1, -1
        for number, state in enumerate(bytes(self.states)):
            if state in states and number != slot.number and self.beats[number] >= since:
                held = self.held[number]
                if least < 0 or held < least:
                    least, found = held, number
        return least, found

    def anybody_idle(self) -> bool:
        """Whether some engine would take a connection."""
        return self.map.find(_IDLE, self.states_at, self.states_end) >= 0

    def count(self, counted: int, number: int, limit: int) -> bool:
        """Add one to what runs in a slot, if all of them together have less than `limit`; exact."""
        counts = self.running[counted]
        with self.thread_lock:
            fcntl.lockf(self.lock_file, fcntl.LOCK_EX)
            try:
                if sum(counts) >= limit:
                    return False
                counts[number] += 1
                return True
            finally:
                fcntl.lockf(self.lock_file, fcntl.LOCK_UN)


class Slot:
    """One engine's place, and its view of the others: the `Neighbours` of its rules.

    `changed`  called with the number of its connections after each change
    `pending`  asked whether a client waits to be accepted, while no engine would take it
    """

    def __init__(self, board: Scoreboard, number: int) -> None:
        self.board = board
        self.number = number
        self.changed: Callable[[int], None] = _nobody_listens
        self.pending: Callable[[], bool] = _nothing_pending
        self._at = _HEAD + number * _ROW

    def take(self) -> None:
        """An engine will start here, in this process."""
        self.board.clear(self.number)
        self.board.words[self._at + _PID] = os.getpid()
        self.beat = self.board.clock()
        self.state = STARTING

    @property
    def pid(self) -> int:
        """The process of the engine; 0 for none."""
        return self.board.words[self._at + _PID]

    @property
    def state(self) -> int:
        """FREE, STARTING, IDLE, BUSY or ENDING."""
        return self.board.states[self.number]

    @state.setter
    def state(self, state: int) -> None:
        self.board.states[self.number] = state

    @property
    def held(self) -> int:
        """Connections of clients that are its own; `hold` says how many."""
        return self.board.words[self._at + _HELD]

    @property
    def requests(self) -> int:
        """How many it has served."""
        return self.board.words[self._at + _REQUESTS]

    @requests.setter
    def requests(self, served: int) -> None:
        self.board.words[self._at + _REQUESTS] = served

    @property
    def beat(self) -> float:
        """Its last sign of life, on the board's clock."""
        return self.board.seconds[self._at + _BEAT]

    @beat.setter
    def beat(self, now: float) -> None:
        self.board.seconds[self._at + _BEAT] = now

    def running(self, counted: int) -> int:
        """How much of a counted thing runs for this engine."""
        return self.board.running[counted][self.number]

    # ------------------------------------------------------------------ what its rules see

    def hold(self, connections: int) -> None:
        self.board.words[self._at + _HELD] = connections
        self.changed(connections)

    def connections(self) -> int:
        """How many connections of clients the others have."""
        return sum(self.board.held) - self.board.words[self._at + _HELD]

    def waiting(self) -> bool:
        """Whether a client waits that no engine takes before one of them lets go of its own."""
        return not self.board.anybody_idle() and self.pending()

    def may_run(self, route: int, limit: int) -> bool:
        """Count one more if all engines together run less than `limit`."""
        return self.board.count(route, self.number, limit)

    def has_run(self, route: int) -> None:
        """What `may_run` has counted is gone."""
        self.board.running[route][self.number] -= 1

    def starves(self, address: str) -> None:
        """A connection waits there for as long as others keep theirs. All engines write this: the last one is right."""
        number = self.board.numbers.get(address, -1)
        if number >= 0:
            self.board.stamps[number] = self.board.clock()

    def scarce(self, address: str) -> bool:
        """Whether somebody starved there of late."""
        number = self.board.numbers.get(address, -1)
        return number >= 0 and self.board.clock() - self.board.stamps[number] < SCARCE_S

    def publish(self, route: int, values: Sequence[int]) -> None:
        """What was counted of a route."""
        self.board.counters.publish(self.number, route, values)

    def tell(self, text: bytes) -> None:
        """What else there is to know of the engine."""
        self.board.counters.tell(self.number, text)
