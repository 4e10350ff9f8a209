"""`fork` and `thread`: a runner for each connection, so many at most, and a line with an end."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest

from tests.concurrency.conftest import HELLO, Fleet, ended, threads
from tests.conftest import eventually, read_all, read_until


@pytest.fixture(params=["fork", "thread"])
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def runners(one: Fleet, shape: str) -> int:
    return len(one.gateway.children()) if shape == "fork" else threads(one.gateway.pid) - 1


def test_a_runner_for_each_and_nothing_left_of_it(fleet: Any, shape: str) -> None:
    one = fleet(f'concurrency = "{shape}"')
    assert runners(one, shape) == 0
    one.hold(10)
    assert runners(one, shape) == 10
    assert all(end.endswith(b"step1\n\r\n0\r\n\r\n") for end in one.release())
    eventually(lambda: runners(one, shape) == 0, "the end of all runners, zombies included")


def test_beyond_max_they_wait_in_line_and_beyond_that_they_are_told_at_once(fleet: Any, shape: str) -> None:
    one = fleet(f'concurrency = "{shape}"\nchildren = {{ max = 3, queue = 2 }}')
    one.hold(3)
    waiting = [one.begin(), one.begin()]
    eventually(lambda: line(one) == 0, "the accept of those that wait")
    for _ in range(3):
        answer = one.gateway.raw(HELLO)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in answer
        assert b"\r\nConnection: close\r\n" in answer
    assert runners(one, shape) == 3
    assert all(end.endswith(b"step1\n\r\n0\r\n\r\n") for end in one.release())
    assert waiting
    assert one.hello()


def line(one: Fleet) -> int:
    """How many connections nobody has accepted."""
    with open("/proc/net/tcp") as file:
        for words in (text.split() for text in file):
            if words[1] == f"0100007F:{one.gateway.address[1]:04X}" and words[3] == "0A":
                return int(words[4].partition(":")[2], 16)
    raise AssertionError("nobody listens")


def test_whoever_keeps_a_connection_idle_makes_room(fleet: Any, shape: str) -> None:
    one = fleet(f'concurrency = "{shape}"\nchildren = {{ max = 1 }}')
    with one.gateway.socket() as kept:
        kept.sendall(HELLO)
        read_until(kept, b"hello")
        assert one.hello()
        assert ended(kept)


def test_who_leaves_without_a_word_keeps_no_place(fleet: Any, shape: str) -> None:
    """A port scanner, or the probe of a load balancer."""
    one = fleet(f'concurrency = "{shape}"\nchildren = {{ max = 2 }}')
    for _ in range(6):
        eventually(lambda: runners(one, shape) == 0, "the end of the runners")
        for how in (b"\0\0\0\0\0\0\0\0", b"\1\0\0\0\0\0\0\0"):  # in order, and with a reset
            sock = one.gateway.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
            sock.close()
    eventually(lambda: runners(one, shape) == 0, "the end of the runners")
    assert one.hello()


def test_each_exchange_has_an_id_of_its_own(fleet: Any, shape: str) -> None:
    one = fleet(f'concurrency = "{shape}"')
    ids = [one.get("http", "/rubbish").headers["X-Exchange-Id"] for _ in range(5)]
    assert len(set(ids)) == 5


def test_a_killed_child_loses_its_own_connection_only(fleet: Any) -> None:
    one = fleet('concurrency = "fork"')
    socks = one.hold(5)
    victim = one.holder(socks[2])
    os.kill(victim, signal.SIGKILL)
    assert read_all(socks[2]) == b""
    one.gateway.wait_for_log(f"the process {victim} of one connection was ended by SIGKILL")
    ends = one.release()
    assert [end.endswith(b"step1\n\r\n0\r\n\r\n") for end in ends] == [True, True, False, True, True]
    assert one.hello()


def test_who_forks_has_one_thread(fleet: Any) -> None:
    """A lock that another thread holds at a fork is held for ever in the child."""
    one = fleet('concurrency = "fork"')
    one.hold(3, "cgi")
    assert threads(one.gateway.pid) == 1
    one.release()


def test_those_in_line_are_served_when_the_server_ends(fleet: Any, shape: str) -> None:
    one = fleet(f'concurrency = "{shape}"\nchildren = {{ max = 1 }}\ngrace = "20s"')
    one.hold(1)
    one.begin()
    eventually(lambda: line(one) == 0, "the accept of the one that waits")
    os.kill(one.gateway.pid, signal.SIGTERM)
    eventually(lambda: refused(one), "the close of the listening socket")
    assert [end.endswith(b"step1\n\r\n0\r\n\r\n") for end in one.release()] == [True, True]
    assert one.gateway.process.wait(timeout=20) == 0


def refused(one: Fleet) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(one.gateway.address) != 0
