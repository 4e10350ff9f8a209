"""Gateways in every shape, and what /proc tells of their processes."""

from __future__ import annotations

import os
import re
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.conftest import INTERFACES, Served, Workers
from tests.behaviour.conftest import workers as workers  # a fixture
from tests.conftest import Gateway, eventually, read_all, read_until

HELLO = b"GET /h/hello HTTP/1.1\r\nHost: x\r\n\r\n"


class Fleet(Served):
    """A gateway that serves worker.py's routes, and clients that hold its connections."""

    def __init__(self, gateway: Gateway, directory: Path, meeting: Path) -> None:
        super().__init__(gateway, directory)
        self.meeting = meeting
        """Where held requests wait for the file `go1`."""
        self.held: list[socket.socket] = []

    # ------------------------------------------------------------------ clients

    def begin(self, interface: str = "http") -> socket.socket:
        """Send a request that will be answered in part, until `release`."""
        sock = self.gateway.socket()
        path = self.path(interface, f"/steps?n=1&dir={self.meeting}")
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        self.held.append(sock)
        return sock

    def hold(self, count: int, interface: str = "http") -> list[socket.socket]:
        """So many requests, all served at the same time."""
        socks = [self.begin(interface) for _ in range(count)]
        for sock in socks:
            read_until(sock, b"step0\n\r\n")
        return socks

    def release(self) -> list[bytes]:
        """Let the held requests end; what each client got since."""
        (self.meeting / "go1").touch()
        ends = []
        for sock in self.held:
            try:
                ends.append(read_all(sock))
            except ConnectionResetError:
                ends.append(b"")
            sock.close()
        self.held.clear()
        (self.meeting / "go1").unlink()
        return ends

    def hello(self) -> bool:
        """One request on a connection of its own; whether it was answered."""
        octets = self.gateway.raw(HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return octets.startswith(b"HTTP/1.1 200 ") and octets.endswith(b"hello")

    # ------------------------------------------------------------------ processes

    def children(self) -> list[int]:
        """The server's own processes beside its parent; a zombie is none."""
        return [pid for pid in self.gateway.children() if not is_zombie(pid)]

    def until_children(self, holds: Callable[[int], bool], what: str) -> None:
        eventually(lambda: holds(len(self.children())), f"{what} (there are {len(self.children())})", 20)

    def until_ready(self, count: int, least: int = 4) -> None:
        """So many children run, and each has got as far as to its sockets."""
        eventually(lambda: [watched(pid) >= least for pid in self.children()] == [True] * count, f"{count} children", 20)

    def connections(self, pid: int) -> int:
        """Clients' connections that a process has."""
        return len(sockets_of(pid) & established(self.gateway.address[1]))

    def holder(self, sock: socket.socket) -> int:
        """Which process has the other side of a client's connection; 0 for none."""
        inode = inode_of(self.gateway.address[1], sock.getsockname()[1])
        return next((pid for pid in [*self.children(), self.gateway.pid] if inode in sockets_of(pid)), 0)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def descriptors(pid: int) -> list[str]:
    """What the descriptors of a process lead to."""
    found = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
            except FileNotFoundError:  # the listing itself, in our own process; or closed since
                pass
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def watched(pid: int) -> int:
    """How many descriptors the busiest epoll of a process looks at: what wakes it, what its parent tells, its sockets."""
    counts = [0]
    for path in Path(f"/proc/{pid}/fdinfo").glob("*"):
        try:
            counts.append(path.read_text().count("tfd:"))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return max(counts)


def sockets_of(pid: int) -> set[str]:
    return {name[8:-1] for name in descriptors(pid) if name.startswith("socket:[")}


def _lines(port: int) -> Iterator[list[str]]:
    """Of /proc/net/tcp, those of a local port that are established, or closed by the client."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].partition(":")[2], 16) == port and words[3] in ("01", "08"):
            yield words


def established(port: int) -> set[str]:
    """Inodes of the connections that a server has at a port."""
    return {words[9] for words in _lines(port)}


def inode_of(port: int, client_port: int) -> str:
    return next((words[9] for words in _lines(port) if int(words[2].partition(":")[2], 16) == client_port), "")


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def wakeups(pid: int) -> int:
    """How often its main thread has waited for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])  # type: ignore[index]


def ended(sock: socket.socket, within_s: float = 10.0) -> bool:
    """Whether a connection comes to its end without another octet."""
    ready, _, _ = select.select([sock], [], [], within_s)
    try:
        return bool(ready) and sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def fleet(gateway: Any, workers: Workers, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes gateways of the given shape."""
    made: list[Fleet] = []

    def make(server: str, extra: str = "", toml: str = "", only: tuple[str, ...] = INTERFACES) -> Fleet:
        one = Fleet(gateway(toml + workers.routes(extra, only), server=server), workers.directory, tmp_path)
        made.append(one)
        return one

    yield make
    for one in made:
        (one.meeting / "go1").touch()  # the worker's threads wait for it
        for sock in one.held:
            sock.close()
        one.gateway.stop()
