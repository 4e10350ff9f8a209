"""A connection that is being made: when it is told to stand, and when not."""

from __future__ import annotations

import errno
import socket

import pytest

from gateway.ends import Address, Close, Open
from tests.conftest import full_backlog
from tests.drivers.kit import Kit, Recorder

BRIEF = [True, False]


def opened(kit: Kit, address: tuple[str, int], brief: bool, octets: bytes = b"request") -> Recorder:
    end = Recorder(kit.turn)
    if octets:
        end.send(octets)
    kit.turn.orders.append(Open(Address(*address), end, brief))
    kit.driver.settle()
    return end


@pytest.mark.parametrize("brief", BRIEF)
@pytest.mark.parametrize("octets", [b"request", b""])
def test_what_nobody_has_answered_does_not_stand_and_expires(kit: Kit, brief: bool, octets: bytes) -> None:
    async def talk() -> None:
        with full_backlog() as listener:
            end = opened(kit, listener.getsockname(), brief, octets)
            end.deadline = kit.loop.time()
            await end.told_of("expired")
            assert [what for what in end.told if not what.startswith("unsent")] == ["expired"]
            end.close(Close.ABORT)
            kit.driver.settle()
            await end.told_of("lost")
            assert "connected" not in end.told
            assert end.error is None

    kit.run(talk())


def test_what_is_let_in_late_gets_everything(kit: Kit) -> None:
    async def talk() -> None:
        with full_backlog() as listener:
            listener.settimeout(20)
            end = opened(kit, listener.getsockname(), brief=True)
            end.wants_room = True
            ours = end.wire.sock.getsockname()

            def accept() -> socket.socket:
                while True:
                    sock, peer = listener.accept()
                    if peer == ours:
                        sock.settimeout(10)
                        return sock
                    sock.close()

            accepting = kit.loop.run_in_executor(None, accept)
            await end.told_of("connected")
            await end.told_of("unsent none")
            end.send(b" and more")
            end.close(Close.FLUSH)
            kit.driver.settle()
            worker = await accepting
            kit.peers.append(worker)
            assert await kit.read_all(worker) == b"request and more"

    kit.run(talk())


@pytest.mark.parametrize("brief", BRIEF)
@pytest.mark.parametrize("octets", [b"request", b""])
@pytest.mark.parametrize("wants_data", [True, False])
def test_what_is_refused_never_stood(kit: Kit, brief: bool, octets: bytes, wants_data: bool) -> None:
    async def talk() -> None:
        end = Recorder(kit.turn)
        end.wants_data = wants_data
        if octets:
            end.send(octets)
        kit.turn.orders.append(Open(Address("127.0.0.1", 1), end, brief))
        kit.driver.settle()
        await end.told_of("lost")
        assert end.told == ["lost"]
        assert end.error is not None and end.error.errno == errno.ECONNREFUSED

    kit.run(talk())


@pytest.mark.parametrize("brief", BRIEF)
def test_a_worker_that_speaks_first_is_connected_first(kit: Kit, brief: bool) -> None:
    async def talk() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            end = opened(kit, listener.getsockname(), brief, b"")
            worker, _ = await kit.loop.run_in_executor(None, listener.accept)
            worker.sendall(b"hello")
            worker.close()
            await end.told_of("eof")
            assert end.told == ["connected", "received", "eof"]
            assert end.octets == b"hello"

    kit.run(talk())


def test_a_second_write_does_not_wait_for_an_acknowledgement(kit: Kit) -> None:
    async def talk() -> None:
        end, _worker = await kit.opened("brief")
        for delays in (True, False, False):
            end.send(b"octets")
            kit.driver.settle()
            assert end.wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == (0 if delays else 1)

    kit.run(talk())
