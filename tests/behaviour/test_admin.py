"""The admin socket: who may ask, what is answered, and what becomes of it where it can't be."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.admin import Admin, make_private
from gateway.admin_client import NobodyThere, NotAnswered, ask, ask_one_of, default_paths
from gateway.drivers.blocking import BlockingDriver
from gateway.ends import Turn
from gateway.interfaces.admin import Reply
from gateway.observe.error_log import ErrorLog
from gateway.processes.launch import Start
from gateway.processes.reap import Reaper
from tests.conftest import eventually


class Running:
    """An admin socket on a driver in a thread."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "admin.sock")
        self.log = directory / "error.log"
        self.error_log = ErrorLog(str(self.log))
        self.driver = BlockingDriver(Turn(), Start, Reaper(), lambda end, error: self.crashes.append(error))
        self.crashes: list[Exception] = []
        self.admin = Admin(self.driver.turn, self.error_log, self.path)
        self.kept: list[Reply] = []
        self.kept_one = threading.Event()
        self.admin.add("GET", "/hello", lambda rest, query, reply: reply(200, "text/plain", f"{rest}|{query}".encode()))
        self.admin.add("POST", "/below/", lambda rest, query, reply: reply(202, "text/plain", rest.encode()))
        self.admin.add("GET", "/later", self.keep)
        self.over = False
        self.admin.bind()
        self.driver.open()
        self.admin.open(self.driver)
        self.thread = threading.Thread(target=self.driver.run, args=(lambda: self.over,))
        self.thread.start()

    def keep(self, rest: str, query: str, reply: Reply) -> None:
        self.kept.append(reply)
        self.kept_one.set()

    def close(self) -> None:
        self.over = True
        self.driver.wake()
        self.thread.join()
        self.driver.close()
        self.admin.close()
        self.error_log.close()
        assert not self.crashes


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path)
    yield one
    one.close()


def test_what_was_added_is_asked(running: Running) -> None:
    assert ask(running.path, "GET", "/hello?a=b") == (200, b"|a=b")
    assert ask(running.path, "POST", "/below/an/app") == (202, b"an/app")
    assert ask(running.path, "HEAD", "/hello") == (200, b"")


def test_what_nobody_added(running: Running) -> None:
    assert ask(running.path, "GET", "/none")[0] == 404
    assert ask(running.path, "POST", "/hello")[0] == 405
    running.error_log.flush()


def test_only_the_owner_may_ask(running: Running) -> None:
    assert stat.S_IMODE(os.stat(running.path).st_mode) == 0o600


def test_an_answer_may_come_later_and_others_are_answered_meanwhile(running: Running) -> None:
    answers: list[tuple[int, bytes]] = []
    asker = threading.Thread(target=lambda: answers.append(ask(running.path, "GET", "/later")))
    asker.start()
    assert running.kept_one.wait(10)
    assert ask(running.path, "GET", "/hello") == (200, b"|")
    running.driver.ticks.append(lambda now, wall: running.kept[0](200, "text/plain", b"at last"))
    running.driver.wake()
    asker.join()
    assert answers == [(200, b"at last")]


def test_an_answer_to_somebody_who_has_left_is_lost(running: Running) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(running.path)
    sock.sendall(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    assert running.kept_one.wait(10)
    sock.close()
    eventually(lambda: not running.admin.site.fronts, "the end of its connection")
    running.kept[0](200, "text/plain", b"too late")


def test_when_the_other_one_ends_its_place_is_taken(running: Running, tmp_path: Path) -> None:
    second = Admin(running.driver.turn, running.error_log, running.path)
    second.bind()
    second.bind()
    assert second.sock is None
    running.error_log.flush()
    told = running.log.read_text()
    assert told.count("there is no admin socket") == 1
    assert f"process {os.getpid()} listens there" in told
    running.admin.sock.close()  # type: ignore[union-attr]
    second.bind()
    assert second.sock is not None
    second.close()
    assert not os.path.exists(running.path)


def test_the_end_removes_the_file(tmp_path: Path) -> None:
    one = Running(tmp_path)
    one.close()
    assert not os.path.exists(one.path)


def test_who_finds_nobody_is_told(tmp_path: Path) -> None:
    with pytest.raises(NobodyThere, match="no gateway answers at"):
        ask(str(tmp_path / "none"), "GET", "/")
    with pytest.raises(NobodyThere, match="no gateway runs with this config"):
        ask_one_of([str(tmp_path / "none"), str(tmp_path / "nor this")], "GET", "/")
    with pytest.raises(NobodyThere, match="admin = false"):
        ask_one_of([], "GET", "/")


def test_who_gets_no_answer_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "silent")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        with pytest.raises(NotAnswered, match="no answer"):
            ask(path, "GET", "/", timeout_s=0.05)


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.touch()
    (tmp_path / "other.toml").symlink_to(config)
    unit = {"RUNTIME_DIRECTORY": "/run/web:/run/more"}
    first = default_paths(str(config), unit, 33)
    assert first[0].startswith("/run/web/gateway-")
    assert default_paths(str(tmp_path / "other.toml"), unit, 33) == first, "it is the file that counts, not its name"
    name = os.path.basename(first[0])
    assert default_paths(str(config), {"XDG_RUNTIME_DIR": "/run/user/33"}, 33)[0] == f"/run/user/33/{name}"
    assert default_paths(str(config), {}, 0)[0] == f"/run/{name}"
    assert default_paths(str(config), {}, 33)[0] == f"/tmp/gateway-33/{name}"
    assert default_paths(str(config), {}, 33)[-1] == f"/run/gateway/{name}"
    assert default_paths(str(tmp_path), {}, 0)[0] != f"/run/{name}"


def test_a_directory_in_tmp_has_to_be_ours_alone(tmp_path: Path) -> None:
    directory = str(tmp_path / "own")
    make_private(directory)
    make_private(directory)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    os.chmod(directory, 0o755)
    with pytest.raises(OSError, match="ours alone"):
        make_private(directory)
