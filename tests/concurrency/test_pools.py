"""`prefork` and `threadpool`: as many children as are needed, each for so many requests, each for itself."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
import requests

from tests.concurrency.conftest import Fleet
from tests.conftest import eventually, read_all, read_until

WHOLE = b"step1\n\r\n0\r\n\r\n"
SMALL = {
    "prefork": 'concurrency = "prefork"\nprocesses = 1\nchildren = {{ max = 4, min_spare = 1, max_spare = 2{} }}',
    "threadpool": (
        'concurrency = "threadpool"\nprocesses = 1\nthreads = 2\nchildren = {{ max = 2, min_spare = 1, max_spare = 3{} }}'
    ),
}
"""At most four at a time."""
PROCESSES = {"prefork": 4, "threadpool": 2}


@pytest.fixture(params=SMALL)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_they_grow_with_the_load_and_shrink_after_it(fleet: Any, shape: str) -> None:
    one = fleet(SMALL[shape].format(""))
    seen = [len(one.children())]
    one.hold(4)
    one.begin()  # beyond max: it waits
    one.until_children(lambda count: bool(seen.append(count)) or count == PROCESSES[shape], "as many as there may be")
    ends = one.release()
    assert [end.endswith(WHOLE) for end in ends] == [True] * 5
    rest = {"prefork": 2, "threadpool": 1}[shape]
    one.until_children(lambda count: bool(seen.append(count)) or count == rest, "as many as are needed")
    assert max(seen) == PROCESSES[shape]
    assert all(one.hello() for _ in range(20))


def test_each_ends_after_so_many_requests_and_none_is_lost(fleet: Any, shape: str) -> None:
    one = fleet(SMALL[shape].format(", requests = 5"))
    seen: set[int] = set()
    answers: list[bool] = []

    def hammer() -> None:
        for _ in range(50):
            answers.append(one.hello())
            seen.update(one.children())

    def keep() -> None:
        """On a connection that is kept for as long as the server keeps it; whoever finds it closed asks again (RFC 9112
        9.3.1): a loaded machine may make a client look idle."""
        with requests.Session() as session:
            session.mount("http://", requests.adapters.HTTPAdapter(max_retries=1))
            for _ in range(50):
                answers.append(session.get(one.url + "/h/hello", timeout=20).content == b"hello")

    threads = [threading.Thread(target=target) for target in (hammer, hammer, keep)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 150
    assert len(seen) > 10
    assert "error" not in one.gateway.error_log()
    assert one.gateway.stop() == 0
    assert sum('"GET /h/hello HTTP/1.1" 200 5 ' in line for line in one.gateway.access_log()) == 150


def test_a_killed_child_loses_what_it_held_and_nothing_else(fleet: Any, shape: str) -> None:
    one = fleet(SMALL[shape].format(""))
    socks = one.hold(4)
    holders = [one.holder(sock) for sock in socks]
    assert len(set(holders)) == PROCESSES[shape]
    victim = holders[1]
    os.kill(victim, signal.SIGKILL)
    for sock, holder in zip(socks, holders, strict=True):
        if holder == victim:
            assert not read_all(sock)
    one.gateway.wait_for_log(f"child {victim} was ended by SIGKILL")
    one.until_children(lambda count: count == PROCESSES[shape], "one in its place")
    assert one.hello()  # by the new one: the others are busy
    ends = one.release()
    assert [end.endswith(WHOLE) for end in ends] == [holder != victim for holder in holders]
    assert victim not in one.children()


def test_children_that_die_at_once_are_not_started_without_end(fleet: Any, shape: str) -> None:
    one = fleet(SMALL[shape].format(""))
    killed: set[int] = set()

    def kill_all() -> bool:
        for pid in one.children():
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        return one.gateway.error_log().count("the next one is started in") >= 3

    eventually(kill_all, "a longer and longer wait")
    log = one.gateway.error_log()
    assert len(killed) <= log.count("was ended by SIGKILL") + PROCESSES[shape]
    assert "defect" not in log
    assert one.hello()


def test_a_script_outlives_the_requests_of_its_child_while_its_client_waits(fleet: Any, shape: str) -> None:
    one = fleet(SMALL[shape].format(", requests = 1") + '\ngrace = "100ms"')
    (sock,) = one.hold(1, "cgi")
    before = one.holder(sock)
    assert all(one.hello() for _ in range(6))
    sock.settimeout(1)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    assert one.holder(sock) == before
    sock.settimeout(20)
    assert one.release()[0].endswith(WHOLE)
    eventually(lambda: before not in one.children(), "the end of its child")


def test_the_only_child_is_replaced_while_it_finishes_what_it_has(fleet: Any) -> None:
    """Else everybody would wait for as long as its longest request takes."""
    one = fleet('concurrency = "threadpool"\nprocesses = 1\nthreads = 2\nchildren = { max = 1, requests = 3 }')
    socks = one.hold(1)
    first = one.holder(socks[0])
    assert all(one.hello() for _ in range(10))
    assert one.holder(socks[0]) == first
    assert one.release()[0].endswith(WHOLE)
    eventually(lambda: first not in one.children(), "the end of the first")
    one.until_children(lambda count: count == 1, "one child")


def test_who_keeps_a_connection_idle_makes_room(fleet: Any, shape: str) -> None:
    one = fleet(SMALL[shape].format(""))
    kept = [one.gateway.socket() for _ in range(4)]
    one.held += kept
    for sock in kept:
        sock.sendall(b"GET /h/hello HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(sock, b"hello")
    assert one.hello()


def test_a_client_that_takes_its_time_does_not_bar_the_way(fleet: Any, shape: str) -> None:
    """Four connections without a request, where there is room for four: a fifth one is served after a second or so."""
    one = fleet(SMALL[shape].format(""))
    one.held += [one.gateway.socket() for _ in range(4)]
    assert one.hello()


def test_a_child_ends_with_its_parent(fleet: Any, shape: str) -> None:
    one: Fleet = fleet(SMALL[shape].format(""))
    one.hold(2)
    children = one.children()
    os.kill(one.gateway.pid, signal.SIGKILL)
    ends = one.release()
    assert [end.endswith(WHOLE) for end in ends] == [True, True]
    for pid in children:
        eventually(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), f"the end of child {pid}")
