"""A config that is read again under load: whatever the model, no request is lost, on a new connection or on a kept one."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway.admin_client import ask, default_paths
from tests.behaviour.conftest import MODELS, Workers
from tests.behaviour.conftest import workers as workers  # a fixture
from tests.concurrency.conftest import HELLO
from tests.conftest import Gateway, eventually, read_all, read_until
from tests.faults.load import Load


class Reloaded:
    """A gateway whose config is changed."""

    def __init__(self, gateway: Any, workers: Workers, model: str) -> None:
        self.workers = workers
        self.gateway: Gateway = gateway(workers.routes(only=("http",)), server=MODELS[model])
        self.file = self.gateway.directory / "gateway.toml"
        self.first = self.file.read_text()

    def write(self, *changes: tuple[str, str], more: str = "") -> None:
        text = self.first + more
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.file.write_text(text)

    def reload(self) -> tuple[int, str]:
        path = default_paths(str(self.file), os.environ, os.geteuid())[0]
        status, text = ask(path, "POST", "/reload")
        return status, text.decode()

    def upgrade(self) -> tuple[int, str]:
        path = default_paths(str(self.file), os.environ, os.geteuid())[0]
        status, text = ask(path, "POST", "/upgrade")
        return status, text.decode()


@pytest.fixture
def reloaded(gateway: Any, workers: Workers) -> Callable[[str], Reloaded]:
    return lambda model: Reloaded(gateway, workers, model)


TIMES = {"event": 50}
"""Reloads in a row; of the other models FEWER, which takes them every way that a further one would go again."""
FEWER = 6


@pytest.mark.timeout(240)
@pytest.mark.parametrize("model", MODELS)
def test_reloads_in_a_row_under_load(reloaded: Any, model: str) -> None:
    one: Reloaded = reloaded(model)
    with Load(one.gateway.address, 2, 2) as load:
        times = TIMES.get(model, FEWER)
        for number in range(times):
            one.write(more=f'[[routes]]\npath = "/number{number}"\ninterface = "static"\nroot = "."\n')
            status, text = one.reload()
            assert status == 200, text
            expected = f"/number{number} added"
            assert text.startswith("routes: " + expected)
            assert (f"/number{number - 1} removed" in text) is (number > 0)
        before = load.answered
        eventually(lambda: load.answered > before + 50 or load.wrong, "answers of the last ones")
    assert not load.wrong, (load.wrong[:5], len(load.wrong), load.answered)
    assert load.answered > 2 * times


def test_a_mistake_is_told_and_the_old_config_stays(reloaded: Any) -> None:
    one: Reloaded = reloaded("event")
    children = sorted(one.gateway.children())
    one.write(("processes = 2", 'processes = 2\nlimts = "x"'))
    status, text = one.reload()
    assert status == 409
    assert f"{one.file}:6: server.limts = 'x': no such key; did you mean 'limits'?" in text
    assert "allowed: " in text
    one.gateway.wait_for_log(f"not reloaded: {one.file}:6: server.limts")
    assert sorted(one.gateway.children()) == children
    assert requests.get(one.gateway.url + "/h/hello", timeout=20).text == "hello"
    one.write()
    assert one.reload() == (200, "nothing changed\n")
    assert sorted(one.gateway.children()) == children


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("processes = 2", "processes = 1", "server.processes 2 -> 1: a running gateway can't change it: `gateway upgrade`"),
        ('"event"', '"thread"\n#', "server.concurrency event -> thread: a running gateway can't change it"),
        ("processes = 2", 'processes = 2\nuser = "nobody"', "server.user none -> nobody: a running gateway can't change"),
    ],
)
def test_what_cannot_be_changed(reloaded: Any, old: str, new: str, told: str) -> None:
    one: Reloaded = reloaded("event")
    one.write((old, new) if "#" not in new else ('"event"\nprocesses = 2', '"thread"'))
    status, text = one.reload()
    assert status == 409
    assert told in text


@pytest.mark.parametrize("model", MODELS)
def test_listeners_come_and_go_under_load(reloaded: Any, model: str, tmp_path: Path) -> None:
    one: Reloaded = reloaded(model)
    with Load(one.gateway.address, 2, 1) as load:
        for number in range(3):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            path = tmp_path / f"{number}.sock"
            one.write(('"127.0.0.1:0"', f'"127.0.0.1:0", "127.0.0.1:{port}", "unix:{path}"'))
            status, text = one.reload()
            assert status == 200
            assert text.startswith(f"server.listen: 127.0.0.1:{port} added, unix:{path} added")
            assert requests.get(f"http://127.0.0.1:{port}/h/hello", timeout=20).text == "hello"
            with Load(("127.0.0.1", port), 1, 0) as other:
                one.write()
                status, text = one.reload()
                assert status == 200
                assert text == f"server.listen: 127.0.0.1:{port} removed, unix:{path} removed\n"
                eventually(lambda: other.wrong, "that nobody listens there")
            # reset: it had come after the last look at those that wait
            assert "ConnectionRefusedError" in other.wrong[0] or "ConnectionResetError" in other.wrong[0], other.wrong
            assert not path.exists()
    assert not load.wrong, load.wrong


def test_an_address_that_is_taken(reloaded: Any, tmp_path: Path) -> None:
    one: Reloaded = reloaded("event-1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = tmp_path / "new.sock"
        one.write(('"127.0.0.1:0"', f'"127.0.0.1:0", "unix:{path}", "127.0.0.1:{port}"'))
        status, text = one.reload()
    assert status == 409
    assert f"127.0.0.1:{port}: another server listens there" in text
    assert not path.exists(), "all of them or none"
    assert requests.get(one.gateway.url + "/h/hello", timeout=20).text == "hello"


def test_logs_move(reloaded: Any) -> None:
    one: Reloaded = reloaded("event")
    directory = one.gateway.directory
    one.write(("access.log", "other-access.log"), ("error.log", "other-error.log"))
    status, text = one.reload()
    assert status == 200, text
    assert f"log.access {directory}/access.log -> {directory}/other-access.log" in text
    requests.get(one.gateway.url + "/h/hello", timeout=20)
    requests.get(one.gateway.url + "/h/rubbish", timeout=20)
    eventually(lambda: len((directory / "other-access.log").read_text().splitlines()) == 2, "lines in the new one")
    eventually(lambda: "502 bad-response" in (directory / "other-error.log").read_text(), "likewise")


def test_sighup_reloads(reloaded: Any) -> None:
    one: Reloaded = reloaded("prefork")
    one.write(more='[[routes]]\npath = "/more"\ninterface = "static"\nroot = "."\n')
    os.kill(one.gateway.pid, signal.SIGHUP)
    one.gateway.wait_for_log("reloaded: routes: /more added")
    assert requests.get(one.gateway.url + "/more/gateway.toml", timeout=20).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_what_is_under_way_is_finished_by_the_old_ones(reloaded: Any, model: str, tmp_path: Path) -> None:
    one: Reloaded = reloaded(model)
    with one.gateway.socket() as sock, one.gateway.socket() as idle:
        if model == "single":
            idle.close()
        else:
            idle.sendall(HELLO)
            read_until(idle, b"hello")
        sock.sendall(b"GET /h/steps?n=1&dir=%b HTTP/1.1\r\nHost: x\r\n\r\n" % os.fsencode(tmp_path))
        read_until(sock, b"step0\n\r\n")
        one.write(("/h", "/new"))
        assert one.reload()[0] == 200
        assert requests.get(one.gateway.url + "/h/hello", timeout=20).status_code == 404
        if model != "single":  # a kept connection is answered once more, by the config that it has, and told to close
            time.sleep(1)
            idle.sendall(HELLO)
            octets = read_all(idle)
            assert octets.startswith(b"HTTP/1.1 200") and octets.endswith(b"hello")
            assert b"\r\nConnection: close\r\n" in octets
        (tmp_path / "go1").touch()
        assert read_until(sock, b"0\r\n\r\n").endswith(b"step1\n\r\n0\r\n\r\n")
        sock.settimeout(20)
        assert sock.recv(1) == b"", "it was told keep-alive, so it is closed only after a quiet time"


def test_nothing_is_left_of_old_configs(reloaded: Any) -> None:
    one: Reloaded = reloaded("event")
    assert requests.get(one.gateway.url + "/h/hello", timeout=20).text == "hello"
    counts = []
    for number in range(6):
        one.write(more=f'[[routes]]\npath = "/number{number}"\ninterface = "static"\nroot = "."\n')
        assert one.reload()[0] == 200
        eventually(lambda: len(one.gateway.children()) == 2, "the end of the old ones")
        counts.append(one.gateway.descriptors())
    assert counts[-1] <= counts[0] + 1, counts


# ---------------------------------------------------------------------- another gateway


@pytest.mark.parametrize("model", MODELS)
def test_an_upgrade_under_load(reloaded: Any, model: str) -> None:
    one: Reloaded = reloaded(model)
    pids = [one.gateway.pid]
    try:
        with Load(one.gateway.address, 2, 2) as load:
            for _ in range(3):
                status, text = one.upgrade()
                assert status == 200, text
                match = re.fullmatch(r"process (\d+) has taken the place of process (\d+)\n", text)
                assert match is not None
                assert int(match[2]) == pids[-1]
                pids.append(int(match[1]))
                eventually(lambda: ended(pids[-2]), "the end of the old one", 20)
        assert not load.wrong, load.wrong
        assert one.gateway.process.wait(20) == 0
    finally:
        for pid in pids[1:]:
            if not ended(pid):
                os.kill(pid, signal.SIGTERM)
    eventually(lambda: ended(pids[-1]), "the end of the last one")


def test_an_upgrade_that_fails(reloaded: Any) -> None:
    one: Reloaded = reloaded("event")
    one.write(("processes = 2", "processes = 2\nnonsense = 1"))
    status, text = one.upgrade()
    assert status == 409
    assert "goes on: of the other one, it exited with code 2" in text
    assert requests.get(one.gateway.url + "/h/hello", timeout=20).text == "hello"
    one.write()
    assert one.reload() == (200, "nothing changed\n")


def test_an_upgrade_may_change_what_a_reload_cannot(reloaded: Any, tmp_path: Path) -> None:
    one: Reloaded = reloaded("event")
    one.write(("processes = 2", "processes = 1"))
    assert one.reload()[0] == 409
    status, text = one.upgrade()
    assert status == 200, text
    pid = int(text.split()[1])
    try:
        assert requests.get(one.gateway.url + "/h/hello", timeout=20).text == "hello"
        assert one.gateway.process.wait(20) == 0
        assert not one.gateway.children(pid)
        assert one.reload() == (200, "nothing changed\n")
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: ended(pid), "its end")


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
