"""Places in shared memory: what one writes another one reads, and the dead leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from gateway.processes.places import CLOSED, LEAVING, OPEN, STARTING, Clerk, Desk, Places, bell_name, make_bell
from tests.processes.test_scoreboard import child

NAME = b"\0test-" + os.urandom(8).hex().encode()


class Poller:
    """Whom a clerk has its bell watched by."""

    def __init__(self) -> None:
        self.poller = self
        self.callback = None

    def watch(self, descriptor: int, events: int, callback: object) -> None:
        self.callback = callback

    def forget(self, descriptor: int) -> None:
        self.callback = None


CLERKS: list[Clerk] = []


@pytest.fixture
def places() -> Iterator[Places]:
    made = Places(3, 2, 4, NAME)
    yield made
    while CLERKS:
        CLERKS.pop().shut(Poller())
    made.close()


def sits(places: Places) -> tuple[Clerk, Desk]:
    clerk = Clerk(NAME)
    desk = clerk.desk(places)
    CLERKS.append(clerk)
    clerk.open(Poller())
    return clerk, desk


def test_what_engines_have_is_added_up(places: Places) -> None:
    (_, one), (_, two) = sits(places), sits(places)
    assert not one.sole()
    one.members[1].took(10.0)
    two.members[1].took(20.0)
    two.members[1].took(30.0)
    assert (places.outstanding(1), places.busy_since(1), places.answered(1)) == (3, 10.0, 0)
    assert (one.members[1].others(), two.members[1].others(), one.members[0].others()) == (2, 1, 0)
    one.members[1].done(40.0)
    assert (places.outstanding(1), places.busy_since(1), places.answered(1)) == (2, 20.0, 1)
    two.members[1].overdue()
    assert places.overdue_since(1) == 20.0
    assert places.overdue_since(0) == 0.0


def test_who_leaves_gives_its_row_back_and_what_it_still_does_does_not_count(places: Places) -> None:
    clerk, desk = sits(places)
    desk.members[0].took(1.0)
    desk.members[0].done(2.0)
    desk.members[0].took(3.0)
    clerk.shut(Poller())
    assert (places.outstanding(0), places.answered(0), places.used) == (0, 1, 0)
    desk.members[0].done(4.0)
    desk.members[1].took(4.0)
    assert (places.outstanding(0), places.outstanding(1)) == (0, 0)


def test_the_rows_of_the_dead_are_given_back(places: Places) -> None:
    def serve() -> None:
        sits(places)[1].members[2].took(1.0)
        signal.pause()

    pid = child(serve)
    while not places.outstanding(2):
        assert not os.waitpid(pid, os.WNOHANG)[0]
    places.bury()
    assert places.used == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    places.bury()
    assert (places.used, places.outstanding(2)) == (0, 0)


def test_there_are_only_so_many_rows(places: Places) -> None:
    clerks = [sits(places)[0] for _ in range(4)]
    with pytest.raises(OSError, match="4 engines"):
        sits(places)
    clerks[0].shut(Poller())
    assert places.used == 3


def test_whether_there_may_be_a_further_one(places: Places) -> None:
    desk = sits(places)[1]
    assert desk.grows(0)
    assert not desk.grows(2)
    places.states[0] = OPEN
    assert desk.grows(0)
    places.states[1] = STARTING
    assert not desk.grows(0)
    places.states[0] = LEAVING
    assert desk.grows(0)
    assert [place.takes() for place in desk.members] == [False, True, False]
    assert [place.closed() for place in desk.members] == [False, False, True]
    assert places.states[2] == CLOSED


def test_whose_queue_has_waited_for_longest_is_rung(places: Places) -> None:
    (_, one), (_, two) = sits(places), sits(places)
    assert (one.next(), two.next()) == (-1, -1)
    one.queues(20.0)
    two.queues(10.0)
    assert (one.next(), two.next()) == (two.row, -1)
    one.queues(5.0)
    assert (one.next(), two.next()) == (-1, one.row)
    rung: list[str] = []
    one.rung = lambda: rung.append("one")
    two.ring(one.row)
    one.clerk._rung(0)
    assert rung == ["one"]


def test_an_idle_connection_pins_a_place_for_others(places: Places) -> None:
    (_, one), (_, two) = sits(places), sits(places)
    one.members[0].keeps(True)
    assert (one.members[0].pinned(), two.members[0].pinned()) == (False, True)
    rung: list[str] = []
    one.rung = lambda: rung.append("one")
    two.members[0].unpin()
    one.clerk._rung(0)
    assert rung == ["one"]


def test_the_parent_is_called_by_its_bell(places: Places) -> None:
    bell = make_bell(NAME)
    sits(places)[1].call()
    assert bell.recv(1) == b""
    with pytest.raises(BlockingIOError):
        bell.recv(1)
    bell.close()


def test_a_bell_that_nobody_hears_harms_nobody(places: Places) -> None:
    sits(places)[1].call()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, pytest.raises(ConnectionRefusedError):
        sock.sendto(b"", bell_name(NAME, 1, 1))
