"""Workers that die, hang, leak, fork and are replaced, while clients ask without pause and check every answer.

Planned changes lose nothing; a crash costs the requests that the crashed process held and that could not be repeated.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.checked_load import Load
from tests.conftest import eventually
from tests.faults.clients import PAUSE_S

WORKER = Path(__file__).with_name("programs") / "faulty_worker.py"
RECOVERED_S = 2.0
"""So soon after a crash all has to be well again."""
ROUTE = """
[[routes]]
path = "/"
interface = "fastcgi"
app = "faulty"
timeouts = {{ response = "8s" }}
[apps.faulty]
command = ["python3", "{worker}"{words}]
interface = "fastcgi"
environment = {{ PATH = "{path}" }}
workers = {workers}
"""


@pytest.fixture
def served(gateway: Any) -> Callable[..., Any]:
    def serve(workers: str, *words: str, server: str = "processes = 2") -> Any:
        quoted = "".join(f', "{word}"' for word in words)
        return gateway(
            ROUTE.format(worker=WORKER, words=quoted, path=os.environ["PATH"], workers=workers), server=server
        )

    return serve


def workers_of(one: Any) -> list[int]:
    """Process ids of the workers; those they have forked are left out."""
    return [pid for pid in one.children() if b"faulty_worker" in command_line(pid)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def load(one: Any, path: str = "/echo", clients: int = 6) -> Load:
    return Load(one.address[1], path, clients=clients, pause_s=PAUSE_S)


def kinds(clients: Load) -> Counter[str]:
    return Counter(f"{failure.method} {failure.what}" for failure in clients.tally.failures)


def lost_at_most(clients: Load, number: int, since: float) -> None:
    """Only what the dead processes held, only what can't be repeated, and only for so long."""
    found = kinds(clients)
    assert set(found) <= {"POST 502"}, clients.tally
    assert found.total() <= number, clients.tally
    assert clients.tally.recovered_s(since) < RECOVERED_S, clients.tally


# ---------------------------------------------------------------------- crashes


@pytest.mark.parametrize("processes", [1, 2])
def test_sigkill_of_a_worker(served: Any, processes: int) -> None:
    one = served("4", server=f"processes = {processes}")
    with load(one) as clients:
        clients.more(100)
        since = time.monotonic()
        for _ in range(3):
            os.kill(workers_of(one)[0], signal.SIGKILL)
            clients.more(100)
    lost_at_most(clients, 3, since)


def test_sigkill_of_all_workers_at_once(served: Any) -> None:
    one = served("4")
    with load(one) as clients:
        clients.more(100)
        since = time.monotonic()
        for pid in workers_of(one):
            os.kill(pid, signal.SIGKILL)
        clients.more(300)
    lost_at_most(clients, 4, since)


def test_worker_that_is_stopped_is_ended_and_its_request_answered_504(served: Any) -> None:
    one = served('{ min = 3, max = 3, busy = "1s" }')
    with load(one) as clients:
        clients.more(100)
        stopped = workers_of(one)[0]
        os.kill(stopped, signal.SIGSTOP)
        clients.while_not(lambda: stopped not in one.children())
        clients.more(100)
    assert set(kinds(clients)) <= {"GET 504", "POST 504"}, clients.tally
    assert len(clients.tally.failures) <= 2, clients.tally  # one that it held, and one that another loop sent meanwhile


def test_request_that_hangs_takes_its_worker_with_it(served: Any) -> None:
    one = served('{ min = 2, max = 2, busy = "500ms" }')
    before = set(workers_of(one))
    answered: set[str] = set()  # one that has answered nothing yet may be starting: it is given longer

    def both() -> bool:
        answered.add(requests.get(one.url + "/pid", timeout=20).text)
        return len(answered) == 2

    with load(one) as clients:
        clients.while_not(both)
        assert requests.get(one.url + "/hang", timeout=20).status_code == 504
        clients.more(50)
    assert not clients.tally.failures, clients.tally
    eventually(lambda: len(workers_of(one)) == 2 and set(workers_of(one)) != before, "a new worker")


@pytest.mark.parametrize(("path", "statuses"), [("/before", (502,)), ("/head", (502,)), ("/body", (200,))])
def test_worker_that_dies_in_the_middle(served: Any, path: str, statuses: tuple[int, ...]) -> None:
    one = served("4")
    with load(one) as clients:
        clients.more(50)
        since = time.monotonic()
        for _ in range(3):
            try:
                assert requests.post(one.url + path, timeout=20).status_code in statuses
                assert path != "/body"
            except requests.exceptions.RequestException:
                assert path == "/body"  # cut: it never looks whole
            clients.more(50)
    lost_at_most(clients, 0, since)


def test_worker_that_closes_after_each_request(served: Any) -> None:
    one = served("4")
    with load(one, "/close") as clients:
        clients.more(500)
    assert not clients.tally.failures, clients.tally


def test_worker_that_forks_leaves_nobody_behind(served: Any) -> None:
    one = served("2")
    with load(one) as clients:
        assert requests.get(one.url + "/fork", timeout=20).status_code == 200
        clients.more(50)
        with_child = [pid for pid in one.descendants() if b"faulty_worker" in command_line(pid)]
        assert len(with_child) == 3
        since = time.monotonic()
        for pid in workers_of(one):
            os.kill(pid, signal.SIGKILL)
        clients.more(100)
    lost_at_most(clients, 2, since)
    eventually(lambda: not any(command_line(pid) for pid in with_child), "the end of the child")


def test_worker_that_fills_its_stderr(served: Any) -> None:
    one = served("2")
    with load(one) as clients:
        assert requests.get(one.url + "/stderr?10000000", timeout=30).status_code == 200
        clients.more(50)
    assert not clients.tally.failures, clients.tally


# ---------------------------------------------------------------------- planned changes


def test_recycling_by_requests_loses_nothing(served: Any) -> None:
    one = served("{ min = 3, max = 3, requests = 40 }")
    seen: set[int] = set()
    with load(one) as clients:

        def enough() -> bool:
            seen.update(workers_of(one))
            return len(seen) >= 10

        clients.while_not(enough)
    assert not clients.tally.failures, clients.tally


def test_recycling_by_memory_loses_nothing(served: Any) -> None:
    one = served('{ min = 2, max = 2, memory = "100MiB" }')
    before = set(workers_of(one))
    with load(one) as clients:
        clients.more(20)
        for _ in range(2):
            assert requests.get(one.url + "/leak?120", timeout=20).status_code == 200
        clients.while_not(lambda: bool(set(workers_of(one)) - before))
        clients.more(20)
    assert not clients.tally.failures, clients.tally


def test_recycling_by_lifetime_loses_nothing(served: Any) -> None:
    one = served('{ min = 2, max = 2, lifetime = "1s" }')
    before = set(workers_of(one))
    with load(one) as clients:
        clients.while_not(lambda: not before & set(workers_of(one)))
    assert not clients.tally.failures, clients.tally


def test_worker_that_ignores_sigterm_is_recycled_all_the_same(served: Any) -> None:
    one = served('{ min = 2, max = 2, lifetime = "1s" }', "stubborn")
    before = set(workers_of(one))
    with load(one) as clients:
        clients.while_not(lambda: not before & set(workers_of(one)))
    assert not clients.tally.failures, clients.tally


def test_pool_grows_at_once_and_shrinks_again(served: Any) -> None:
    one = served('{ min = 1, max = 4, idle = "1s" }')
    assert len(workers_of(one)) == 1
    with load(one, clients=8) as clients:
        clients.while_not(lambda: len(workers_of(one)) == 4)
    assert not clients.tally.failures, clients.tally
    with load(one, clients=1) as clients:
        clients.while_not(lambda: len(workers_of(one)) == 1)
    assert not clients.tally.failures, clients.tally


def test_first_request_starts_the_first_worker(served: Any) -> None:
    one = served('{ min = 0, max = 2, idle = "500ms" }')
    assert not workers_of(one)
    assert requests.post(one.url + "/echo?now", data="content", timeout=20).text == "POST now content"
    assert workers_of(one)
    eventually(lambda: not workers_of(one), "the end of the idle worker")
    assert requests.get(one.url + "/echo?again", timeout=20).text == "GET again"
