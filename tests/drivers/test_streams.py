"""The conformance kit of drivers: real sockets and pipes on one side, a recording end on the other."""

from __future__ import annotations

import errno
import os
import resource
import socket

import pytest

from gateway.ends import Address, Close, Open, Resume
from tests.drivers.kit import ACCEPTED, KINDS, Kit, Recorder


@pytest.mark.parametrize("kind", KINDS)
def test_octets_pass_in_order_both_ways(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    peer.sendall(b"to the end")
    kit.until(lambda: end.octets == b"to the end")
    end.send(b"one ")
    end.send(b"two ")
    end.send(b"three")
    end.close(Close.FLUSH)
    kit.driver.settle()
    assert kit.result(kit.read_all(peer)) == b"one two three"
    end.told_of("lost")


@pytest.mark.parametrize("kind", KINDS)
def test_a_clogged_peer_is_told_and_nothing_is_lost(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    content = os.urandom(1 << 20) * 8
    for start in range(0, len(content), 1 << 18):
        end.send(content[start : start + (1 << 18)])
    kit.driver.settle()
    end.told_of("unsent some")
    assert end.held
    reading = kit.read_all(peer)
    end.told_of("unsent none")
    assert not end.held
    end.close(Close.FLUSH)
    kit.driver.settle()
    assert kit.result(reading) == content


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_clogged_peer_never_takes_is_dropped_when_the_end_gives_up(kit: Kit, kind: str) -> None:
    end, _peer = kit.stream(kind)
    for _ in range(40):
        end.send(b"x" * 250_000)
    kit.driver.settle()
    end.told_of("unsent some")
    end.close(Close.FLUSH)
    kit.driver.settle()
    end.deadline = kit.driver.clock()
    end.told_of("expired")
    assert "lost" not in end.told
    end.close(Close.ABORT)
    kit.driver.settle()
    end.told_of("lost")


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_that_wants_room_is_told_without_ever_being_clogged(kit: Kit, kind: str) -> None:
    end, _peer = kit.stream(kind)
    end.send(b"little")
    end.wants_room = True
    kit.driver.settle()
    end.told_of("unsent none")
    assert not end.wants_room


@pytest.mark.parametrize("kind", KINDS)
def test_reading_stops_while_data_is_not_wanted(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    peer.sendall(b"a")
    kit.until(lambda: end.octets == b"a")
    end.wants_data = False
    kit.settle(end)
    peer.sendall(b"b")
    kit.other_turns()
    assert end.octets == b"a"
    end.wants_data = True
    kit.settle(end)
    kit.until(lambda: end.octets == b"ab")


@pytest.mark.parametrize("kind", KINDS)
def test_half_close_lets_us_answer(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    peer.shutdown(socket.SHUT_WR)
    end.told_of("eof")
    end.send(b"answer")
    end.close(Close.FLUSH)
    kit.driver.settle()
    assert kit.result(kit.read_all(peer)) == b"answer"


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_is_told_once(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    kit.until(lambda: bool({"lost", "eof"} & set(end.told)))
    if "lost" not in end.told:  # a unix socket knows no reset
        end.close(Close.ABORT)
        kit.driver.settle()
        end.told_of("lost")
    assert end.wire is None


@pytest.mark.parametrize("kind", ["accepted", "tcp", "unix"])
def test_a_peer_is_told_of_an_abort(kit: Kit, kind: str) -> None:
    """By a reset, where there is such a thing: half an answer must not look like a whole one."""
    end, peer = kit.stream(kind)
    end.send(b"half")
    kit.driver.settle()
    assert peer.recv(4) == b"half"
    end.send(b"and what is not sent any more")
    end.close(Close.ABORT)
    kit.driver.settle()
    end.told_of("lost")
    if kind == "unix":
        assert kit.result(kit.read_all(peer)) == b""
    else:
        with pytest.raises(ConnectionResetError):
            kit.result(kit.read_all(peer))


@pytest.mark.parametrize("kind", ACCEPTED)
def test_linger_lets_the_peer_read_the_answer_while_it_still_sends(kit: Kit, kind: str) -> None:
    end, peer = kit.accepted(kind)
    end.send(b"enough")
    end.close(Close.LINGER)
    kit.driver.settle()
    sending = kit.aside(peer.sendall, b"x" * 300_000)
    assert kit.result(kit.read_all(peer)) == b"enough"
    kit.result(sending)
    assert end.octets == b""
    assert "lost" not in end.told
    peer.close()
    end.told_of("lost")
    assert "eof" not in end.told


def test_linger_waits_for_much_to_be_written_first(kit: Kit) -> None:
    end, peer = kit.accepted()
    content = os.urandom(1 << 20) * 8
    end.send(content)
    end.close(Close.LINGER)
    kit.driver.settle()
    peer.sendall(b"x" * 10_000)
    assert kit.result(kit.read_all(peer)) == content
    peer.sendall(b"x" * 10_000)
    assert "lost" not in end.told


@pytest.mark.parametrize("sends", [True, False])
def test_linger_does_not_last_for_ever(kit: Kit, sends: bool) -> None:
    end, peer = kit.accepted()
    end.close(Close.LINGER)
    kit.driver.settle()
    assert kit.result(kit.read_all(peer)) == b""
    if sends:
        kit.driver.ticks.append(lambda now, wall: peer.sendall(b"x") if "lost" not in end.told else None)
    end.told_of("lost")


def test_who_lingers_may_be_given_up(kit: Kit) -> None:
    end, peer = kit.accepted()
    end.close(Close.LINGER)
    kit.driver.settle()
    assert kit.result(kit.read_all(peer)) == b""
    end.deadline = kit.driver.clock()
    end.told_of("expired")
    end.close(Close.ABORT)
    kit.driver.settle()
    end.told_of("lost")
    assert kit.driver.lingering == {}


def test_deadlines_are_served_by_the_sweep(kit: Kit) -> None:
    end, _peer = kit.accepted()
    end.deadline = kit.driver.clock()
    end.told_of("expired")


def test_nobody_listens(kit: Kit) -> None:
    for address in (Address("127.0.0.1", 1), Address(path=str(kit.tmp_path / "none"))):
        for brief in (False, True):
            end = Recorder(kit)
            end.send(b"request")
            kit.order(Open(address, end, brief))
            end.told_of("lost")
            assert isinstance(end.error, ConnectionRefusedError | FileNotFoundError)


@pytest.mark.parametrize("turns", [0, 1])
def test_connecting_is_given_up_when_the_end_closes(kit: Kit, turns: int) -> None:
    with socket.socket() as listener:  # a backlog that is full never answers
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        full = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            full.append(sock)
        end = Recorder(kit)
        kit.order(Open(Address(*address), end))
        for _ in range(turns):
            kit.go_round()
        end.close(Close.ABORT)
        kit.driver.settle()
        assert end.told == ["lost"]
        for sock in full:
            sock.close()


def test_connecting_is_given_up_whenever_the_end_closes(kit: Kit) -> None:
    """However far the loop has got: the worker listens, and would take the connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for turns in range(12):
            end = Recorder(kit)
            kit.order(Open(Address(*listener.getsockname()), end))
            for _ in range(turns):
                kit.go_round()
            end.close(Close.ABORT)
            kit.driver.settle()
            end.told_of("lost")
            for _ in range(12):
                kit.go_round()
            assert end.told in (["lost"], ["connected", "lost"])


@pytest.mark.parametrize("path", ["s", ""])
def test_an_end_that_closed_before_its_order_was_done_is_lost(kit: Kit, path: str) -> None:
    end = Recorder(kit)
    address = Address(path=str(kit.tmp_path / path)) if path else Address("127.0.0.1", 9)
    kit.turn.orders.append(Open(address, end))
    end.close(Close.ABORT)
    kit.driver.settle()
    assert end.told == ["lost"]


def test_running_out_of_descriptors_refuses_the_connection(kit: Kit) -> None:
    end = Recorder(kit)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    kit.turn.orders.append(Open(Address(path=str(kit.tmp_path / "s")), end))
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    filler = [os.open("/dev/null", os.O_RDONLY) for _ in range(used)]  # every gap below the limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, limit[1]))
    try:
        kit.driver.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for descriptor in filler:
            os.close(descriptor)
    assert end.told == ["lost"]
    assert end.error is not None and end.error.errno == errno.EMFILE


def test_resume_comes_after_the_input_that_ordered_it(kit: Kit) -> None:
    end, peer = kit.accepted()
    end.on_received = lambda octets: kit.turn.orders.append(Resume(end))
    peer.sendall(b"x")
    end.told_of("resume")


def test_a_defect_of_the_rules_costs_one_connection(kit: Kit) -> None:
    end, peer = kit.accepted()

    def fail(octets: bytes) -> None:
        end.entered = False
        raise ZeroDivisionError

    end.on_received = fail
    peer.sendall(b"x")
    end.told_of("lost")
    assert [type(crash) for crash in kit.crashes] == [ZeroDivisionError]
    other, other_peer = kit.accepted()
    other_peer.sendall(b"y")
    kit.until(lambda: other.octets == b"y")
