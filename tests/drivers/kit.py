"""What the tests of drivers stand on: an end that records what it is told, and ways onto a real stream."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from gateway.drivers.event import EventDriver
from gateway.ends import Address, End, Open, Turn
from gateway.processes.launch import Start
from gateway.processes.reap import Reaper

KINDS = ["accepted", "tcp", "brief", "unix"]
"""An accepted connection, and those that are opened: to live long, for one request, to a unix socket."""


class Recorder(End):
    """An end that notes what it is told and lets a test wait for it."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn)
        self.octets = b""
        self.told: list[str] = []
        self.error: OSError | None = None
        self.changed = asyncio.Event()
        self.entered = False
        self.on_received: Callable[[bytes], None] = lambda octets: None

    def note(self, what: str) -> None:
        assert "lost" not in self.told, f"{what} after lost"
        self.told.append(what)
        self.changed.set()

    def accepted(self, remote: tuple[str, int], local: tuple[str, int], now: float) -> None:
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

    def expired(self, now: float) -> None:
        self.deadline = float("inf")
        self.note("expired")

    def lost(self, error: OSError | None, now: float) -> None:
        self.error = error
        self.note("lost")

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)

    async def told_of(self, what: str) -> None:
        await self.until(lambda: what in self.told)


class Kit:
    """A driver on one loop, and ways to get an end onto a stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
        self.loop = loop
        self.turn = Turn()
        self.reaper = Reaper()
        self.crashes: list[Exception] = []
        self.driver = EventDriver(loop, self.turn, Start, self.reaper, lambda end, error: self.crashes.append(error))
        self.tmp_path = tmp_path
        self.peers: list[socket.socket] = []

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        try:
            self.loop.run_until_complete(asyncio.wait_for(test, 30))
        finally:
            self.driver.close()
            for peer in self.peers:
                peer.close()
            for _ in range(3):  # the loop closes its transports in its own time
                self.loop.run_until_complete(asyncio.sleep(0))

    async def accepted(self) -> tuple[Recorder, socket.socket]:
        """An end on an accepted connection, and the client's blocking socket."""
        end = Recorder(self.turn)
        server = await self.loop.create_server(lambda: self.driver.serve(end), "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        self.peers.append(client)
        await end.told_of("accepted")
        server.close()
        return end, client

    async def opened(self, kind: str) -> tuple[Recorder, socket.socket]:
        """An end that was opened by order, and the worker's blocking socket."""
        if kind == "unix":
            path = str(self.tmp_path / "s")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            address = Address(path=path)
        else:
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            address = Address(*listener.getsockname())
        listener.listen()
        end = Recorder(self.turn)
        self.turn.orders.append(Open(address, end, brief=kind == "brief"))
        self.driver.settle()
        await end.told_of("connected")
        worker, _ = await self.loop.run_in_executor(None, listener.accept)
        listener.close()
        if address.path:
            os.unlink(address.path)
        self.peers.append(worker)
        return end, worker

    async def stream(self, kind: str) -> tuple[Recorder, socket.socket]:
        end, peer = await (self.accepted() if kind == "accepted" else self.opened(kind))
        peer.settimeout(10)
        return end, peer

    def read_all(self, sock: socket.socket) -> asyncio.Future[bytes]:
        def read() -> bytes:
            octets = b""
            while piece := sock.recv(1 << 20):
                octets += piece
            return octets

        return asyncio.ensure_future(self.loop.run_in_executor(None, read))
