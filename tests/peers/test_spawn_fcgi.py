"""`gateway worker` as spawn-fcgi starts it: its listening socket is descriptor 0 (FastCGI 2.2), and nothing more is said."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT, eventually, needs
from tests.peers.web_servers import APPLICATIONS, HOST, Worker, connects, free_port

WORKER = [sys.executable, "-m", "gateway", "worker", "plain:application"]
SET_CHILD_SUBREAPER = 36


def record(kind: int, octets: bytes) -> bytes:
    return struct.pack(">BBHHBx", 1, kind, 1, len(octets), 0) + octets


class Request:
    """What a web server sends for one request (FastCGI 5, 6.2), a step at a time."""

    def __init__(self, address: str, path: str, method: str = "GET", length: int = 0) -> None:
        if address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address[5:])
        else:
            host, _, port = address.rpartition(":")
            self.sock = socket.create_connection((host, int(port)))
        self.sock.settimeout(20)
        self.incoming = self.sock.makefile("rb")
        variables = {
            "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "REQUEST_URI": path, "QUERY_STRING": "",
            "SERVER_NAME": "x", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_LENGTH": str(length),
        }  # fmt: skip
        pairs = [bytes([len(name), len(value)]) + (name + value).encode() for name, value in variables.items()]
        self.sock.sendall(record(1, struct.pack(">HB5x", 1, 0)) + record(4, b"".join(pairs)) + record(4, b""))

    def content(self, octets: bytes) -> None:
        self.sock.sendall(record(5, octets))

    def piece(self) -> bytes:
        """The next octets of the response; empty at its end."""
        while True:
            _, kind, _, length, padding = struct.unpack(">BBHHBx", self.incoming.read(8))
            octets: bytes = self.incoming.read(length + padding)[:length]
            if kind == 3:
                assert octets[:5] == bytes(5), "appStatus or protocolStatus says that something went wrong"
                return b""
            if kind == 6 and octets:
                return octets

    def until(self, end: bytes) -> None:
        octets = b""
        while not octets.endswith(end):
            piece = self.piece()
            assert piece, octets
            octets += piece

    def rest(self) -> bytes:
        octets = b""
        while piece := self.piece():
            octets += piece
        return octets

    def close(self) -> None:
        self.incoming.close()
        self.sock.close()


@contextmanager
def asking(*arguments: object) -> Iterator[Request]:
    one = Request(*arguments)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        one.close()


def ask(address: str, path: str) -> bytes:
    with asking(address, path) as request:
        request.content(b"")
        return request.rest().partition(b"\r\n\r\n")[2]


@pytest.fixture(params=["-s", "-a"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], str]:
    """What spawn-fcgi is told, and where the worker is reached then."""
    if request.param == "-s":
        return ["-s", str(tmp_path / "worker.sock")], f"unix:{tmp_path}/worker.sock"
    port = free_port()
    return ["-a", HOST, "-p", str(port)], f"{HOST}:{port}"


@pytest.fixture
def worker(tmp_path: Path, bind: tuple[list[str], str]) -> Iterator[Worker]:
    """In the place of spawn-fcgi itself, as under daemontools."""
    words, address = bind
    one = Worker(tmp_path / "log", address, ["plain:application"], command=[needs("spawn-fcgi"), "-n", *words, "--"])
    try:
        yield one.wait()
    finally:
        one.stop()


def test_requests_one_after_the_other(worker: Worker) -> None:
    for _ in range(3):
        assert ask(worker.address, "/") == b"the root"


def test_sigterm_lets_a_request_finish(worker: Worker) -> None:
    with asking(worker.address, "/early", "POST", 5) as request:
        request.until(b"\r\n\r\nearly ")
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: not connects(worker.address), "the end of listening")
        request.content(b"later")
        request.content(b"")
        assert request.rest() == b"later"
    assert worker.process.wait(20) == 0


def children(pid: int) -> str:
    return "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))


@pytest.fixture
def orphans() -> Iterator[None]:
    """What spawn-fcgi leaves behind becomes a child of ours, so that we are told how it ends."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_three_processes_on_one_socket(orphans: None, bind: tuple[list[str], str]) -> None:
    words, address = bind
    told = subprocess.run(
        [needs("spawn-fcgi"), "-F", "3", *words, "--", *WORKER], cwd=APPLICATIONS, check=True, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    pids = [int(pid) for pid in re.findall(r"PID: (\d+)", told.stdout)]
    assert len(pids) == 3
    left = set(pids)
    try:
        for pid in pids:
            eventually(lambda pid=pid: children(pid), "its first child")
        for pid in pids:
            assert ask(address, "/") == b"the root"
            os.kill(pid, signal.SIGTERM)
            ended, status = os.waitpid(pid, 0)
            left.discard(ended)
            assert os.waitstatus_to_exitcode(status) == 0
        assert not connects(address)
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
