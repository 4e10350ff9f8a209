"""A real gateway in a process of its own, for the tests that talk to it over sockets."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import gateway as gateway_package

ROOT = Path(gateway_package.__path__[0]).parent
"""Where the packages under test are: the sources, or a compiled installation of them."""
RUNTIME = tempfile.TemporaryDirectory(prefix="gateway-tests-")
os.environ.setdefault("XDG_RUNTIME_DIR", RUNTIME.name)  # gateways that tests kill leave their admin sockets there


def needs(program: str) -> str:
    """The path of a program that a test talks to; with CI=true a missing one fails, else it skips."""
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is missing: .ci/install-peers installs it")
        pytest.skip(f"{program} is not installed: .ci/install-peers installs it")
    return path


def eventually(holds: Callable[[], object], what: str = "it", timeout_s: float = 10.0) -> None:
    """Wait for something of another process that sends us no event."""
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, f"{what} did not happen in {timeout_s:g} s"
        time.sleep(0.01)


@contextmanager
def full_backlog() -> Iterator[socket.socket]:
    """A listening socket that lets nobody in until somebody is accepted."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener
        for filler in fillers:
            filler.close()


class Gateway:
    """`gateway serve` on a free port of 127.0.0.1."""

    def __init__(self, directory: Path, toml: str, server: str, tokeniser: str, arguments: list[str] | None) -> None:
        self.directory = directory
        self.allow_defects = False
        config = directory / "gateway.toml"
        if "concurrency" not in server and "processes" not in server:
            server = "processes = 1\n" + server  # the process that is started serves: tests look at its memory
        config.write_text(
            f'[server]\nlisten = ["127.0.0.1:0"]\nhttp = "{tokeniser}"\n{server}\n'
            f'[log]\naccess = "{directory}/access.log"\nerror = "{directory}/error.log"\n{toml}\n'
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *(arguments or ["serve", str(config)])],
            cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        started = self.process.stderr.readline()
        match = re.search(r"http://(127\.0\.0\.1):(\d+)/", started)
        if match is None:
            told = started + self.process.stderr.read()
            self.process.wait()
            raise AssertionError(f"the gateway did not start: {told}")
        self.address = (match[1], int(match[2]))
        self.url = f"http://{match[1]}:{match[2]}"
        self.pid = self.process.pid

    def error_log(self) -> str:
        path = self.directory / "error.log"
        return path.read_text() if path.exists() else ""

    def access_log(self) -> list[str]:
        path = self.directory / "access.log"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_log(self, text: str) -> None:
        eventually(lambda: text in self.error_log(), f"{text!r} in the error log")

    def socket(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def raw(self, octets: bytes) -> bytes:
        """Send octets on a connection of their own and read to its end."""
        with self.socket() as sock:
            sock.sendall(octets)
            return read_all(sock)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def children(self, pid: int | None = None) -> list[int]:
        # a child is listed under the thread that started it
        lists = Path(f"/proc/{pid or self.pid}/task").glob("*/children")
        try:
            return [int(child) for text in lists for child in text.read_text().split()]
        except OSError:  # it has just ended
            return []

    def descendants(self) -> list[int]:
        found = self.children()
        for pid in found:
            found += self.children(pid)
        return found

    def memory_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, stderr = self.process.communicate(timeout=40)
        assert "Traceback" not in stderr, stderr
        return self.process.returncode


def read_all(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """Read until what came ends with `end`."""
    octets = b""
    while not octets.endswith(end):
        piece = sock.recv(65536)
        assert piece, f"the connection ended after {octets[-200:]!r}"
        octets += piece
    return octets


Factory = Callable[..., Gateway]


@pytest.fixture(scope="session")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return lambda name: tmp_path_factory.mktemp(name)


@pytest.fixture(scope="module")
def gateway(directories: Callable[[str], Path]) -> Iterator[Factory]:
    """Makes gateways; at the end each has to stop with 0, without a defect and without children."""
    made: list[Gateway] = []

    def make(
        toml: str, *, server: str = "", tokeniser: str = "auto", directory: Path | None = None,
        arguments: list[str] | None = None,
    ) -> Gateway:  # fmt: skip
        one = Gateway(directory or directories("gateway"), toml, server, tokeniser, arguments)
        made.append(one)
        return one

    yield make
    with ExitStack() as last:
        for one in made:
            last.callback(end, one)  # whatever becomes of the others


def end(one: Gateway) -> None:
    try:
        children = one.descendants() if one.process.poll() is None else []
        assert one.stop() in (0, -signal.SIGKILL), one.error_log()
        if not one.allow_defects:
            assert "defect:" not in one.error_log(), one.error_log()
        for pid in children:
            eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"the end of child {pid}")
    finally:
        one.process.kill()
