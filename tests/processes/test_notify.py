"""What systemd is told on its socket, by us and by a real gateway; and what it hands over."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.processes.notify import Notify, handed_over
from tests.conftest import ROOT


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)

    def hear(self, timeout_s: float = 20.0) -> dict[str, str]:
        ready, _, _ = select.select([self.sock], [], [], timeout_s)
        assert ready, "nothing was told"
        return dict(line.split("=", 1) for line in self.sock.recv(4096).decode().split("\n"))

    def hear_until(self, name: str) -> dict[str, str]:
        while name not in (told := self.hear()):
            pass
        return told


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    one = Manager(str(tmp_path / "notify") if request.param == "path" else f"@gateway-test-{os.getpid()}")
    yield one
    one.sock.close()


def test_what_is_told(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000", "OTHER": "x"}
    notify = Notify.of(environment)
    assert environment == {"OTHER": "x"}, "no child shall take it for its own"
    notify.tell(READY=1, STATUS="serving\nall")
    assert manager.hear() == {"READY": "1", "STATUS": "serving all"}
    notify.reloading()
    told = manager.hear()
    assert told["RELOADING"] == "1" and int(told["MONOTONIC_USEC"]) > 0
    for now, beats in ((0.0, True), (1.9, False), (2.0, True), (3.0, False), (9.0, True)):
        notify.beat(now + 100)
        if beats:
            assert manager.hear() == {"WATCHDOG": "1"}
        else:
            assert not select.select([manager.sock], [], [], 0)[0]
    assert notify.environment() == {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000"}


def test_nobody_asks(tmp_path: Path) -> None:
    Notify.of({}).tell(READY=1)
    Notify(str(tmp_path / "gone")).tell(READY=1)
    assert Notify.of({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s == 0.0


def test_sockets_are_for_one_process_only() -> None:
    environment = {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a:b"}
    assert handed_over(environment) == [3, 4]
    assert environment == {}
    assert handed_over({"LISTEN_FDS": "2", "LISTEN_PID": "1"}) == []
    assert handed_over({}) == []


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `gateway serve` as systemd would: with its variables, and its sockets from descriptor 3 on."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(manager: Manager, listen: str, sockets: list[socket.socket], more: str = "") -> subprocess.Popen[bytes]:
        (tmp_path / "gateway.toml").write_text(
            f'[server]\nlisten = ["{listen}"]\n{more}\n[log]\naccess = false\nerror = "{tmp_path}/error.log"\n'
            '[[routes]]\npath = "/"\ninterface = "static"\nroot = "."\nlisting = true\n'
        )
        program = (
            "import os, sys\n"
            f"for number, one in enumerate({[sock.fileno() for sock in sockets]!r}): os.dup2(one, 10 + number)\n"
            f"for number in range({len(sockets)}): os.dup2(10 + number, 3 + number)\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'gateway', 'serve', 'gateway.toml'])\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=tmp_path, pass_fds=[sock.fileno() for sock in sockets],
            env={**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000",
                 "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": "web"},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


MODELS = ["processes = 1", "processes = 2", 'concurrency = "single"', 'concurrency = "thread"']


@pytest.mark.parametrize("model", MODELS)
def test_a_service_from_start_to_end(manager: Manager, started: Any, tmp_path: Path, model: str) -> None:
    process = started(manager, "127.0.0.1:0", [], model)
    told = manager.hear_until("READY")
    match = re.fullmatch(r"serving (127\.0\.0\.1:\d+)", told["STATUS"])
    assert match is not None
    assert urllib.request.urlopen(f"http://{match[1]}/", timeout=20).status == 200
    for _ in range(3):
        assert manager.hear_until("WATCHDOG") == {"WATCHDOG": "1"}
    config = tmp_path / "gateway.toml"
    config.write_text(config.read_text().replace("listing = true", "listing = false"))
    process.send_signal(signal.SIGHUP)
    assert manager.hear_until("RELOADING")["MONOTONIC_USEC"]
    assert manager.hear_until("READY")["STATUS"].startswith("serving ")
    config.write_text("nonsense")
    process.send_signal(signal.SIGHUP)
    manager.hear_until("RELOADING")
    assert manager.hear_until("READY")["STATUS"].startswith("not reloaded: ")
    process.send_signal(signal.SIGTERM)
    manager.hear_until("STOPPING")
    assert process.wait(20) == 0


def test_its_sockets(manager: Manager, started: Any, tmp_path: Path) -> None:
    """They are there before the service is, and stay when it is replaced or ends."""
    with socket.socket() as first, socket.socket(socket.AF_UNIX) as second:
        first.bind(("127.0.0.1", 0))
        second.bind(str(tmp_path / "web.sock"))
        for sock in (first, second):
            sock.listen()
        with socket.create_connection(first.getsockname(), timeout=20) as early:
            early.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            process = started(manager, "systemd", [first, second])
            assert manager.hear_until("READY")["STATUS"] == "serving fd:3, fd:4"
            assert early.recv(100).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGUSR2)
        pid = int(manager.hear_until("MAINPID")["MAINPID"])
        assert process.wait(20) == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(tmp_path / "web.sock"))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert manager.hear_until("WATCHDOG")
        os.kill(pid, signal.SIGTERM)
        manager.hear_until("STOPPING")
        assert (tmp_path / "web.sock").exists(), "it is not ours to remove"


def test_no_socket_was_handed_over(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        '[server]\nlisten = "systemd"\n[[routes]]\npath = "/"\ninterface = "static"\nroot = "."\n'
    )
    found = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "gateway.toml"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert found.returncode == 2
    assert "systemd has handed over no socket" in found.stderr


def test_the_units_in_the_docs_are_well_formed() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "systemd.md").read_text()
    units = re.findall(r"```ini\n# (\S+)\n(.*?)```", text, re.S)
    assert {Path(name).suffix for name, _ in units} == {".service", ".socket"}
    for name, unit in units:
        sections = re.findall(r"^\[(\w+)\]$", unit, re.M)
        assert sections[0] == "Unit"
        assert ("Socket" in sections) is name.endswith(".socket")
        lines = [line for line in unit.splitlines() if line and not line.startswith(("#", "["))]
        assert all(re.fullmatch(r"[A-Za-z]+=.*", line) for line in lines), name
    service = next(unit for name, unit in units if name.endswith("gateway.service"))
    for wanted in ("Type=notify", "ExecReload=", "WatchdogSec=", "NotifyAccess=main"):
        assert wanted in service

