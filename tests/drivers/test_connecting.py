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
    end = Recorder(kit)
    if octets:
        end.send(octets)
    kit.order(Open(Address(*address), end, brief))
    return end


@pytest.mark.parametrize("brief", BRIEF)
@pytest.mark.parametrize("octets", [b"request", b""])
def test_what_nobody_has_answered_does_not_stand_and_expires(kit: Kit, brief: bool, octets: bytes) -> None:
    with full_backlog() as listener:
        end = opened(kit, listener.getsockname(), brief, octets)
        end.deadline = kit.driver.clock()
        end.told_of("expired")
        assert [what for what in end.told if not what.startswith("unsent")] == ["expired"]
        end.close(Close.ABORT)
        kit.driver.settle()
        end.told_of("lost")
        assert "connected" not in end.told
        assert end.error is None


def test_what_is_let_in_late_gets_everything(kit: Kit) -> None:
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

        accepting = kit.aside(accept)
        end.told_of("connected")
        end.told_of("unsent none")
        end.send(b" and more")
        end.close(Close.FLUSH)
        kit.driver.settle()
        worker = kit.result(accepting)
        kit.peers.append(worker)
        assert kit.result(kit.read_all(worker)) == b"request and more"


@pytest.mark.parametrize("brief", BRIEF)
@pytest.mark.parametrize("octets", [b"request", b""])
@pytest.mark.parametrize("wants_data", [True, False])
def test_what_is_refused_never_stood(kit: Kit, brief: bool, octets: bytes, wants_data: bool) -> None:
    end = Recorder(kit)
    end.wants_data = wants_data
    if octets:
        end.send(octets)
    kit.order(Open(Address("127.0.0.1", 1), end, brief))
    end.told_of("lost")
    assert end.told == ["lost"]
    assert end.error is not None and end.error.errno == errno.ECONNREFUSED


@pytest.mark.parametrize("brief", BRIEF)
def test_a_worker_that_speaks_first_is_connected_first(kit: Kit, brief: bool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        end = opened(kit, listener.getsockname(), brief, b"")
        worker, _ = kit.result(kit.aside(listener.accept))
        worker.sendall(b"hello")
        worker.close()
        end.told_of("eof")
        assert end.told == ["connected", "received", "eof"]
        assert end.octets == b"hello"


def test_a_second_write_does_not_wait_for_an_acknowledgement(kit: Kit) -> None:
    end, _worker = kit.opened("brief")
    for delays in (True, False, False):
        end.send(b"octets")
        kit.driver.settle()
        assert end.wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == (0 if delays else 1)


def test_a_name_is_looked_up(kit: Kit) -> None:
    listener, address = kit.listener()
    end = opened(kit, ("localhost", address.port), brief=False)
    end.told_of("connected")
    end.close(Close.FLUSH)
    kit.driver.settle()
    worker, _ = kit.result(kit.aside(listener.accept))
    kit.peers.append(worker)
    assert kit.result(kit.read_all(worker)) == b"request"
    assert end.told[0] == "connected"


def test_a_name_that_nobody_has(kit: Kit) -> None:
    for host in ("nobody.invalid", "a" * 70 + ".invalid"):
        end = opened(kit, (host, 80), brief=True)
        end.told_of("lost")
        assert end.told == ["lost"]
        assert end.error is not None


@pytest.mark.parametrize("sends", [True, False])
def test_of_several_addresses_the_first_that_answers_is_taken(
    kit: Kit, sends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of what was to be sent is lost by those that do not."""
    listener, address = kit.listener()
    addresses = [("127.0.0.1", 1), ("127.0.0.2", 1), (address.host, address.port), ("127.0.0.1", 2)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", one) for one in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
    if kit.name == "uvloop":
        return  # it has a way of its own to look names up
    end = opened(kit, ("several.invalid", 80), False, b"request" if sends else b"")
    worker, _ = kit.result(kit.aside(listener.accept))
    kit.peers.append(worker)
    end.told_of("connected")
    end.send(b" and more")
    end.close(Close.FLUSH)
    kit.driver.settle()
    assert kit.result(kit.read_all(worker)) == (b"request" if sends else b"") + b" and more"


def test_of_several_addresses_none_answers(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (1, 2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
    end = opened(kit, ("several.invalid", 80), False)
    end.told_of("lost")
    assert end.told == ["lost"]
    assert isinstance(end.error, OSError)


def test_datagrams_keep_their_bounds(kit: Kit) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        end = Recorder(kit)
        end.send(b"question")
        kit.order(Open(Address(*peer.getsockname()), end, datagram=True))
        octets, name = kit.result(kit.aside(lambda: peer.recvfrom(100)))
        assert octets == b"question"
        peer.sendto(b"answer", name)
        end.has(b"answer")
        assert end.told == ["connected", "received"]
        end.close(Close.ABORT)
        kit.driver.settle()
        end.told_of("lost")
        assert end.error is None


def test_datagrams_that_nobody_takes(kit: Kit) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = Address(*unused.getsockname())
    end = Recorder(kit)
    end.send(b"question")
    kit.order(Open(address, end, datagram=True))
    end.told_of("lost")
    assert end.error is not None and end.error.errno == errno.ECONNREFUSED
