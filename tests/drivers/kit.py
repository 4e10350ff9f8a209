"""What the tests of drivers stand on: an end that records what it is told, and ways onto a real stream.

The tests are the same for every driver: they say what is to be waited for, and the kit lets the driver run until then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from gateway.drivers.blocking import BlockingDriver
from gateway.drivers.driver import Acceptor, Driver
from gateway.drivers.event import EventDriver
from gateway.ends import Address, End, Open, Run, Spawn, Turn
from gateway.processes.launch import Start
from gateway.processes.reap import Reaper

KINDS = ["accepted", "accepted-unix", "tcp", "brief", "unix"]
"""An accepted connection, and those that are opened: to live long, for one request, to a unix socket."""
ACCEPTED = ["accepted", "accepted-unix"]
PATIENCE_S = 10.0


class Recorder(End):
    """An end that notes what it is told and lets a test wait for it."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit.turn)
        self.kit = kit
        self.octets = b""
        self.told: list[str] = []
        self.error: OSError | None = None
        self.entered = False
        self.names: tuple[Any, Any] = ((), ())
        self.on_received: Callable[[bytes], None] = lambda octets: None

    def note(self, what: str) -> None:
        assert "lost" not in self.told, f"{what} after lost"
        self.told.append(what)
        self.kit.driver.wake()

    def accepted(self, remote: tuple[str, int], local: tuple[str, int], now: float) -> None:
        self.names = (remote, local)
        self.note("accepted")

    def connected(self, now: float) -> None:
        self.note("connected")

    def received(self, octets: bytes, now: float) -> None:
        assert not self.entered, "entered twice"
        self.entered = True
        self.octets += octets
        self.note("received")
        self.on_received(octets)
        self.entered = False

    def received_eof(self, now: float) -> None:
        self.note("eof")

    def unsent(self, length: int, now: float) -> None:
        super().unsent(length, now)
        self.note(f"unsent {'some' if length else 'none'}")

    def resume(self, now: float) -> None:
        assert not self.entered
        self.note("resume")

    def gathered(self, now: float) -> None:
        assert not self.entered
        self.kit.driver.wake()
        self.told.append("gathered")

    def expired(self, now: float) -> None:
        self.deadline = float("inf")
        self.note("expired")

    def lost(self, error: OSError | None, now: float) -> None:
        self.error = error
        self.note("lost")

    def told_of(self, what: str) -> None:
        self.kit.until(lambda: what in self.told)

    def has(self, octets: bytes) -> None:
        """Wait until exactly this has come."""
        self.kit.until(lambda: len(self.octets) >= len(octets))
        assert self.octets == octets


class Child:
    """Notes what a process reports."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.pid = 0
        self.code: int | None = None
        self.error: OSError | None = None

    def started(self, pid: int, now: float) -> None:
        self.pid = pid
        self.kit.driver.wake()

    def failed(self, error: OSError, now: float) -> None:
        self.error = error
        self.kit.driver.wake()

    def exited(self, code: int, now: float) -> None:
        self.code = code

    def ended(self) -> int | None:
        self.kit.until(lambda: self.code is not None)
        return self.code


class Kit:
    """One driver, and ways to get an end onto a stream."""

    def __init__(self, name: str, tmp_path: Path) -> None:
        self.name = name
        self.tmp_path = tmp_path
        self.turn = Turn()
        self.reaper = Reaper()
        self.crashes: list[Exception] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.driver = self.make()
        self.driver.open()
        self.peers: list[socket.socket] = []
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None
        self._listeners: list[socket.socket] = []

    def make(self, turn: Turn | None = None) -> Driver:
        """A driver of our kind, which is not open where that is left to be done."""
        turn = turn or self.turn
        if self.name == "blocking":
            return BlockingDriver(turn, Start, self.reaper, self._crashed)
        if self.name == "asyncio":
            self.loop = self.loop or asyncio.new_event_loop()
            return EventDriver(self.loop, turn, Start, self.reaper, self._crashed, threads=3)
        return EventDriver(None, turn, Start, self.reaper, self._crashed, threads=3)

    def _crashed(self, end: End | None, error: Exception) -> None:
        self.crashes.append(error)
        self.driver.wake()

    @property
    def blocks(self) -> bool:
        return self.name == "blocking"

    def close(self) -> None:
        self.driver.close()
        assert not self.driver.wires
        for sock in [*self.peers, *self._listeners]:
            sock.close()
        if self._threads is not None:
            self._threads.shutdown()
        if self.loop is not None:
            self.loop.close()

    # ------------------------------------------------------------------ to let it run

    def until(self, holds: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE_S
        self.driver.run(lambda: bool(holds()) or time.monotonic() > until)
        assert holds()

    def go_round(self) -> None:
        """Let the driver look once what there is, without waiting."""
        if isinstance(self.driver, EventDriver):
            loop = self.driver.loop
            assert isinstance(loop, uvloop.Loop) is (self.name == "uvloop")
            loop.run_until_complete(asyncio.sleep(0))
        else:
            rounds = [False, True]
            self.driver.wake()
            self.driver.run(lambda: rounds.pop(0))

    def order(self, *orders: Any) -> None:
        self.turn.orders += orders
        self.driver.settle()

    def settle(self, end: End) -> None:
        end.touch()
        self.driver.settle()

    def work(self, run: Callable[[Any], None]) -> None:
        """Order a work that consists of this function."""
        self.order(Run(Work(run)))

    def aside(self, function: Callable[..., Any], *arguments: Any) -> concurrent.futures.Future[Any]:
        """Call what would wait for the driver in a thread."""
        self._threads = self._threads or concurrent.futures.ThreadPoolExecutor()
        future = self._threads.submit(function, *arguments)
        future.add_done_callback(lambda _: self.driver.wake())
        return future

    def result(self, future: concurrent.futures.Future[Any]) -> Any:
        self.until(future.done)
        return future.result()

    def read_all(self, sock: socket.socket) -> concurrent.futures.Future[bytes]:
        def read() -> bytes:
            octets = b""
            while piece := sock.recv(1 << 20):
                octets += piece
            return octets

        return self.aside(read)

    def other_turns(self) -> None:
        """Let the driver deal with what else there is, to its end."""
        for _ in range(2):
            end, peer = self.stream("accepted")
            peer.sendall(b"x")
            end.has(b"x")

    # ------------------------------------------------------------------ streams

    def listener(self, kind: str = "tcp") -> tuple[socket.socket, Address]:
        if kind.endswith("unix"):
            path = str(self.tmp_path / f"s{len(self._listeners)}")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            address = Address(path=path)
        else:
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            address = Address(*listener.getsockname())
        listener.listen()
        self._listeners.append(listener)
        return listener, address

    def client(self, listener: socket.socket) -> socket.socket:
        peer = socket.socket(listener.family)
        self.peers.append(peer)
        peer.settimeout(PATIENCE_S)
        peer.connect(listener.getsockname())
        return peer

    def accepting(self, listener: socket.socket, ends: list[Recorder], **options: Any) -> Acceptor:
        """Take each connection with an end of its own."""

        def take(sock: socket.socket) -> None:
            ends.append(Recorder(self))
            self.driver.take(sock, ends[-1])

        return self.driver.listen(listener, take, **options)

    def accepted(self, kind: str = "accepted") -> tuple[Recorder, socket.socket]:
        """An end on an accepted connection, and the client's blocking socket."""
        listener, _ = self.listener(kind)
        ends: list[Recorder] = []
        acceptor = self.accepting(listener, ends)
        client = self.client(listener)
        self.until(lambda: ends and "accepted" in ends[0].told)
        acceptor.close()
        return ends[0], client

    def opened(self, kind: str) -> tuple[Recorder, socket.socket]:
        """An end that was opened by order, and the worker's blocking socket."""
        listener, address = self.listener(kind)
        end = Recorder(self)
        self.order(Open(address, end, brief=kind == "brief"))
        end.told_of("connected")
        worker, _ = listener.accept()
        worker.settimeout(PATIENCE_S)
        self.peers.append(worker)
        return end, worker

    def stream(self, kind: str) -> tuple[Recorder, socket.socket]:
        return self.accepted(kind) if kind in ACCEPTED else self.opened(kind)

    def pipe(self, *, reads: bool) -> tuple[Recorder, int]:
        """An end on one side of a pipe that we were started with, and the other side."""
        reader, writer = os.pipe()
        end = Recorder(self)
        self.driver.attach(reader if reads else writer, end, reads=reads)
        return end, writer if reads else reader

    def spawn(self, launch: Any, child: Child, *ends: Recorder | None) -> None:
        self.order(Spawn(launch, child, *ends))


def fork() -> int:
    """As os.fork; the test runner's own threads do not matter to children that soon end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class Work:
    """A work that is a function."""

    def __init__(self, run: Callable[[Any], None]) -> None:
        self.run = run
