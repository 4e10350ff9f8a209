"""The line before the runners, where no runner can be started."""

from __future__ import annotations

import socket
from typing import Any

from gateway.concurrency.per_connection import PerConnection
from gateway.models import Children, Hosting
from gateway.processes.scoreboard import FREE, Scoreboard


class Refuser:
    def __init__(self) -> None:
        self.refused: list[socket.socket] = []

    def take(self, sock: socket.socket) -> None:
        self.refused.append(sock)


class House:
    def __init__(self, children: Children) -> None:
        self.hosting = Hosting("fork", children=children)
        self.board = Scoreboard(children.max, (), 0)
        self.driver = self
        self.now = 0.0
        self.told: list[str] = []
        self.the_refuser = Refuser()

    def clock(self) -> float:
        return self.now

    def refuser(self) -> Any:
        return self.the_refuser

    def report(self, level: str, text: str) -> None:
        self.told.append(text)


class Runners(PerConnection):
    fail = True

    def serve(self, place: int, sock: socket.socket) -> None:
        self.house.board.slot(place).take()
        if self.fail:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.served.append(sock)


def test_a_runner_that_cannot_be_started_is_tried_again_and_the_line_has_an_end() -> None:
    house: Any = House(Children(max=2, queue=3))
    line = Runners(house)
    line.served = []  # type: ignore[attr-defined]
    socks: list[Any] = [object() for _ in range(5)]
    for sock in socks:
        line.take(sock)
    assert list(line.waiting) == socks[:3]
    assert house.the_refuser.refused == socks[3:]
    assert len(house.told) == 1 and "ulimit -u" in house.told[0]
    assert house.board.line == 3
    assert [house.board.states[place] for place in (0, 1)] == [FREE, FREE]
    line.fail = False
    line.tick(0.5)  # too soon
    assert line.served == []  # type: ignore[attr-defined]
    house.now = 1.0
    line.tick(house.now)
    assert line.served == socks[:2]  # type: ignore[attr-defined]
    assert house.board.line == 1
    line.left(0)
    assert line.served == socks[:3]  # type: ignore[attr-defined]
    assert house.board.line == 0
