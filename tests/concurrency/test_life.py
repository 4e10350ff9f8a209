"""What holds in every shape, from the start of a server to its end."""

from __future__ import annotations

import calendar
import contextlib
import os
import pwd
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.behaviour.conftest import MODELS, Workers
from tests.concurrency.conftest import HELLO, Fleet, descriptors
from tests.conftest import eventually, read_until


def processes(one: Fleet) -> list[int]:
    return [one.gateway.pid, *one.children()]


def settled(one: Fleet) -> dict[int, int]:
    """How many descriptors each process has once nothing moves any more."""
    found: list[dict[int, int]] = []

    def still() -> bool:
        found.append({pid: len(descriptors(pid)) for pid in processes(one)})
        return len(found) > 20 and len({tuple(counts.items()) for counts in found[-20:]}) == 1

    eventually(still, "a quiet moment", 20)
    return found[-1]


FIXED = MODELS | {
    "prefork": 'concurrency = "prefork"\nchildren = { max = 2 }\nprocesses = 2',
    "threadpool": MODELS["threadpool"] + "\nchildren = { max = 1 }",
}
"""Pools that do not grow."""


@pytest.mark.parametrize("model", MODELS)
def test_no_descriptor_is_left_of_500_connections(fleet: Any, model: str) -> None:
    one: Fleet = fleet(FIXED[model], only=("http",))
    ready(one, model)

    def clients(count: int) -> None:
        for number in range(count):
            with one.gateway.socket() as sock:
                if number % 5 == 4:
                    continue  # without a word
                sock.sendall(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"h/hello", b"none")[number % 2])
                if number % 5:
                    sock.recv(65536)

    def rush(count: int) -> None:
        threads = [threading.Thread(target=clients, args=(count,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    rush(20)
    before = settled(one)
    rush(125)
    after = settled(one)
    assert after.keys() == before.keys()
    few = 8 if model != "thread" else 40  # what is kept for the next connection: an engine of a thread has an epoll
    assert all(after[pid] <= before[pid] + few for pid in before), (before, after)


def ready(one: Fleet, model: str) -> None:
    count = {"prefork": 2, "threadpool": 1, "event": 2}.get(model, 0)
    if count:
        one.until_ready(count, 3 if model == "threadpool" else 4)  # threads have an epoll each


LINE = re.compile(r'127\.0\.0\.1 - - \[[^]]+\] "GET /h/bytes\?n=(\d+) HTTP/1\.1" 200 (\d+) "-" "-"')


@pytest.mark.parametrize("model", MODELS)
def test_each_line_of_the_access_log_is_whole_and_none_is_lost(fleet: Any, model: str) -> None:
    one: Fleet = fleet(MODELS[model])

    def ask(first: int) -> None:
        for number in range(first, first + 50):
            octets = one.gateway.raw(
                b"GET /h/bytes?n=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % number
            )
            assert octets.startswith(b"HTTP/1.1 200")

    threads = [threading.Thread(target=ask, args=(50 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.gateway.stop() == 0
    found = [LINE.fullmatch(line) for line in one.gateway.access_log()]
    assert all(found)
    assert sorted(int(match[1]) for match in found) == list(range(200))  # type: ignore[index]
    assert all(match[1] == match[2] for match in found)  # type: ignore[index]


@pytest.mark.parametrize("model", MODELS)
def test_a_line_is_written_soon_after_its_connection_has_ended(fleet: Any, model: str) -> None:
    one: Fleet = fleet(MODELS[model])
    assert one.hello()
    eventually(lambda: len(one.gateway.access_log()) == 1, "the line")


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("model", MODELS)
def test_logs_are_opened_anew_everywhere(fleet: Any, model: str, how: signal.Signals) -> None:
    one: Fleet = fleet(FIXED[model])
    ready(one, model)
    assert all(one.hello() for _ in range(8))
    directory = one.gateway.directory
    held = one.hold(1)
    assert len(held) == 1
    for name in ("access.log", "error.log"):
        (directory / name).rename(directory / f"old-{name}")
    os.kill(one.gateway.pid, how)

    def renewed() -> bool:
        return not any("/old-" in name for pid in processes(one) for name in descriptors(pid))

    eventually(renewed, "that nobody has the old files open")
    assert len(one.release()) == 1
    assert one.get("http", "/rubbish").status_code == 502
    eventually(lambda: len(one.gateway.access_log()) >= 2, "lines in the new access log")
    assert "502 bad-response" in one.gateway.error_log()
    one.gateway.stop()
    lines = (directory / "old-access.log").read_text().splitlines() + one.gateway.access_log()
    assert len(lines) == 10


@pytest.mark.parametrize("model", MODELS)
def test_it_may_be_stopped_as_soon_as_it_has_started(fleet: Any, model: str) -> None:
    for _ in range(3):
        one: Fleet = fleet(MODELS[model] + '\ngrace = "20s"')
        os.kill(one.gateway.pid, signal.SIGTERM)
        assert one.gateway.process.wait(timeout=10) == 0


@pytest.mark.parametrize("model", MODELS)
def test_logs_may_be_opened_anew_at_any_moment(fleet: Any, model: str) -> None:
    """Also while a child is being forked, which must neither die of the signal nor hand it on."""
    one: Fleet = fleet(MODELS[model].replace("processes = 2", "processes = 2\nchildren = { requests = 3 }"))
    stop = threading.Event()

    def signals() -> None:
        while not stop.wait(0.001):
            os.kill(one.gateway.pid, signal.SIGUSR1)

    thread = threading.Thread(target=signals)
    thread.start()
    try:
        assert all(one.hello() for _ in range(60))
    finally:
        stop.set()
        thread.join()
    assert "was ended by" not in one.gateway.error_log()


def test_the_date_is_right_after_a_long_sleep(fleet: Any) -> None:
    """An engine that has nothing to do looks at its clock but now and then."""
    fleets = [fleet(MODELS[model]) for model in MODELS]
    kept = []
    for one in fleets:
        assert one.hello()
        sock = one.gateway.socket()
        one.held.append(sock)
        if "event" in one.gateway.directory.joinpath("gateway.toml").read_text():
            sock.sendall(HELLO)
            read_until(sock, b"hello")
            kept.append(sock)
        else:
            sock.close()
    time.sleep(3.2)
    for one in fleets:
        assert age_s(requests.get(one.url + "/none", timeout=20).headers["Date"]) <= 1.5
    for sock in kept:
        sock.sendall(HELLO)
        octets = read_until(sock, b"hello")
        assert age_s(re.search(rb"Date: ([^\r]+)\r", octets)[1].decode()) <= 1.5  # type: ignore[index]


def age_s(date: str) -> float:
    return time.time() - calendar.timegm(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT"))


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("CI") != "true", reason="only root can become somebody else"
)


@pytest.fixture
def reached_by_all(workers: Workers) -> None:
    """The test's own directories are root's; their parents let others through."""
    for path in (workers.directory, *workers.directory.parents):
        if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o777 == 0o700:
            path.chmod(0o711)
    for path in workers.directory.glob("*.sock"):
        path.chmod(0o666)


@needs_root
@pytest.mark.parametrize("model", MODELS)
def test_everybody_is_the_user_of_the_config(fleet: Any, reached_by_all: None, model: str) -> None:
    one: Fleet = fleet(FIXED[model] + '\nuser = "www-data"')
    uid = pwd.getpwnam("www-data").pw_uid
    one.hold(2 if model != "single" else 1)
    assert {os.stat(f"/proc/{pid}").st_uid for pid in processes(one)} == {uid}
    one.release()
    for name in ("access.log", "error.log"):
        assert (one.gateway.directory / name).stat().st_uid == uid
    if model in ("prefork", "threadpool", "event"):
        eventually(lambda: len(one.gateway.access_log()) == 2, "both lines")
        for pid in one.children():
            os.kill(pid, signal.SIGKILL)
        one.gateway.wait_for_log("was ended by SIGKILL")
        assert one.hello()  # those that take their place may write the logs, too
        one.gateway.stop()
        assert len(one.gateway.access_log()) == 3


def holds_nothing(name: str) -> Callable[[], bool]:
    def free() -> bool:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if any(name in path for path in descriptors(int(pid))):
                    return False
        return True

    return free


@pytest.mark.parametrize("model", MODELS)
def test_a_script_has_no_descriptor_of_ours(fleet: Any, model: str, tmp_path: Path) -> None:
    """The lifeline among them: who has its other end would keep a child alive, or be taken for the parent."""
    (tmp_path / "fds.sh").write_text("#!/bin/sh\necho Content-Type: text/plain\necho\nls -l /proc/$$/fd\n")
    (tmp_path / "fds.sh").chmod(0o755)
    one: Fleet = fleet(MODELS[model], toml=f'[[routes]]\npath = "/bin/"\ninterface = "cgi"\nroot = "{tmp_path}"\n')
    text = requests.get(one.url + "/bin/fds.sh", timeout=20).text
    assert {line.split()[8] for line in text.splitlines() if "->" in line} <= {"0", "1", "2", "10"}  # 10: the shell's script
