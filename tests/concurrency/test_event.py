"""`event` with several processes: an even spread, nobody woken in vain, and one that dies is replaced."""

from __future__ import annotations

import time
from typing import Any

from tests.concurrency.conftest import HELLO, Fleet, wakeups
from tests.conftest import eventually, read_until


def test_connections_are_spread_evenly(fleet: Any) -> None:
    one = fleet('concurrency = "event"\nprocesses = 4')
    one.until_ready(4)
    one.held += [one.gateway.socket() for _ in range(100)]
    for sock in one.held:
        sock.sendall(HELLO)
    for sock in one.held:
        read_until(sock, b"hello")
    counts = spread(one)
    assert sum(counts) == 100
    assert max(counts) - min(counts) <= 10, counts
    for sock in one.held:
        sock.close()
    one.held.clear()
    eventually(lambda: not any(spread(one)), "the close of all connections")


def spread(one: Fleet) -> list[int]:
    return sorted(one.connections(pid) for pid in one.children())


def test_connections_that_come_one_after_the_other_are_spread_too(fleet: Any) -> None:
    one = fleet('concurrency = "event"\nprocesses = 3')
    one.until_ready(3)
    for _ in range(60):
        sock = one.gateway.socket()
        one.held.append(sock)
        sock.sendall(HELLO)
        read_until(sock, b"hello")
    counts = spread(one)
    assert sum(counts) == 60
    assert max(counts) - min(counts) <= 10, counts


def test_a_connection_wakes_one_loop(fleet: Any) -> None:
    """No thundering herd: of four loops that have nothing to do, the others sleep on."""
    one = fleet('concurrency = "event"\nprocesses = 4')
    one.until_ready(4)
    assert all(one.hello() for _ in range(20))
    before, since = {pid: wakeups(pid) for pid in one.children()}, time.monotonic()
    answered = [one.gateway.raw(b"GET /none HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 404 ") for _ in range(300)]
    after, sweeps = {pid: wakeups(pid) for pid in one.children()}, 4 * (time.monotonic() - since)
    assert all(answered)
    woken = sorted(after[pid] - before[pid] - sweeps for pid in before)
    assert sum(woken[:3]) < 60, woken
