"""What the parent tells of workers, as several processes read it."""

from __future__ import annotations

import itertools
import os
import signal
import warnings

from gateway.processes.rosters import Rosters
from gateway.upstreams.terms import Entry


def entries(count: int, weight: float = 1.0) -> list[Entry]:
    return [Entry("10.0.0.7", port, "", "app.test:80", "app.test:80", weight) for port in range(count)]


def test_what_was_told_is_read_once() -> None:
    rosters = Rosters(2)
    writer, reader, other = rosters.roster(1), rosters.roster(1), rosters.roster(0)
    assert not reader.changed()
    assert reader.read() == []
    writer.write(entries(3))
    assert reader.changed()
    assert reader.read() == entries(3)
    assert not reader.changed()
    assert not other.changed()
    writer.write([])
    assert reader.changed()
    assert reader.read() == []


def test_more_than_there_is_room_for() -> None:
    roster = Rosters(1).roster(0)
    told = roster.write(entries(2000))
    assert 250 < told < 2000
    assert roster.read() == entries(2000)[:told]


def test_what_is_half_written_is_not_read() -> None:
    """Another process writes without end; each reading is one of its lists, never a mixture."""
    rosters, parent = Rosters(1), os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # who runs the tests may have threads
        pid = os.fork()
    if not pid:
        writer = rosters.roster(0)
        for number in itertools.count(1):
            if os.getppid() != parent:
                os._exit(1)
            writer.write(entries(number % 50, float(number)))
    try:
        reader = rosters.roster(0)
        seen = set()
        while len(seen) < 200:
            if reader.changed():
                weights = {entry.weight for entry in reader.read()}
                assert len(weights) <= 1
                seen |= weights
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
