"""Listening sockets: who is accepted, by whom, and when not."""

from __future__ import annotations

import errno
import os
import resource
import socket

from gateway.ends import Turn
from tests.conftest import eventually
from tests.drivers.kit import Kit, Recorder


class NoDescriptorLeft:
    """From `begin` to `end`."""

    def begin(self) -> None:
        self.limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir("/proc/self/fd"))) + 1
        self.filler = [os.open("/dev/null", os.O_RDONLY) for _ in range(used)]  # every gap below the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, self.limit[1]))

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limit)
        while self.filler:
            os.close(self.filler.pop())


def talks(kit: Kit, end: Recorder, peer: socket.socket) -> None:
    peer.sendall(b"x")
    end.has(b"x")


def test_names_are_told(kit: Kit) -> None:
    end, peer = kit.accepted()
    assert end.names == (peer.getsockname(), peer.getpeername())
    end, peer = kit.accepted("accepted-unix")
    assert end.names == (("", 0), ("", 0))


def test_small_writes_do_not_wait_for_each_other(kit: Kit) -> None:
    end, peer = kit.accepted()
    for piece in (b"a", b"b", b"c"):
        end.send(piece)
        kit.driver.settle()
    server = socket.fromfd(end.wire.sock.fileno(), socket.AF_INET, socket.SOCK_STREAM) if kit.blocks else None
    if server is not None:
        with server:
            assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert peer.recv(3, socket.MSG_WAITALL) == b"abc"


def test_while_it_is_paused_clients_wait(kit: Kit) -> None:
    for exclusive in (False, True):
        listener, _ = kit.listener()
        ends: list[Recorder] = []
        acceptor = kit.accepting(listener, ends, exclusive=exclusive)
        acceptor.pause()
        acceptor.pause()
        assert not acceptor.pending()
        peer = kit.client(listener)
        assert acceptor.pending()
        kit.other_turns()
        assert ends == []
        acceptor.go_on()
        acceptor.go_on()
        kit.until(lambda ends=ends: ends)
        assert not acceptor.pending()
        talks(kit, ends[0], peer)
        acceptor.close()
        kit.client(listener)
        kit.other_turns()
        assert len(ends) == 1
        assert not acceptor.pending()


def test_one_at_a_time(kit: Kit) -> None:
    """Who pauses with the first connection gets no second one, though both came together."""
    listener, _ = kit.listener()
    ends: list[Recorder] = []

    def take(sock: socket.socket) -> None:
        acceptor.pause()
        ends.append(Recorder(kit))
        kit.driver.take(sock, ends[-1])

    acceptor = kit.driver.listen(listener, take, exclusive=True)
    peers = [kit.client(listener) for _ in range(2)]
    for number, peer in enumerate(peers, 1):
        kit.until(lambda number=number: len(ends) == number)
        kit.other_turns()
        assert len(ends) == number
        talks(kit, ends[-1], peer)
        acceptor.go_on()


def test_several_come_at_once(kit: Kit) -> None:
    listener, _ = kit.listener()
    ends: list[Recorder] = []
    peers = [kit.client(listener) for _ in range(5)]
    kit.accepting(listener, ends, at_once=2)
    kit.until(lambda: len(ends) == 5)
    for peer, end in zip(peers, ends):
        talks(kit, end, peer)


def test_one_socket_for_several_drivers(kit: Kit) -> None:
    """Where one of them is paused, the other is asked."""
    listener, _ = kit.listener()
    ends: list[Recorder] = []
    mine = kit.accepting(listener, ends, exclusive=True)
    turn = Turn()
    other = kit.make(turn)
    theirs: list[socket.socket] = []
    other.open()
    acceptor = other.listen(listener, theirs.append, exclusive=True)
    mine.pause()
    kit.client(listener)
    other.run(lambda: bool(theirs))
    assert ends == []
    acceptor.pause()
    mine.go_on()
    kit.client(listener)
    kit.until(lambda: ends)
    assert len(theirs) == 1
    other.close()
    theirs[0].close()


def test_without_descriptors_it_waits_and_tells(kit: Kit) -> None:
    listener, _ = kit.listener()
    ends: list[Recorder] = []
    troubles: list[OSError] = []
    scarcity = NoDescriptorLeft()

    def tick(now: float, wall: float) -> None:
        kit.driver.ticks.remove(tick)
        scarcity.begin()
        acceptor.go_on()

    def trouble(error: OSError) -> None:
        scarcity.end()
        troubles.append(error)

    acceptor = kit.accepting(listener, ends, trouble=trouble)
    acceptor.pause()
    peer = kit.client(listener)
    kit.driver.ticks.append(tick)  # while it runs: a loop needs descriptors for its own beginning
    kit.until(lambda: troubles)
    kit.other_turns()
    assert [error.errno for error in troubles] == [errno.EMFILE]
    assert ends == []
    kit.until(lambda: ends)
    talks(kit, ends[0], peer)


class Unlucky(socket.socket):
    """Something goes wrong with the first connections."""

    def __init__(self, errors: list[OSError], listener: socket.socket) -> None:
        super().__init__(fileno=os.dup(listener.fileno()))
        self.errors = errors

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            raise self.errors.pop(0)
        return super().accept()


def test_a_connection_that_broke_before_it_was_accepted_costs_nobody_else(kit: Kit) -> None:
    listener, _ = kit.listener()
    ends: list[Recorder] = []
    with Unlucky([OSError(errno.ECONNABORTED, ""), OSError(errno.EPROTO, "")], listener) as unlucky:
        kit.accepting(unlucky, ends)
        peer = kit.client(listener)
        kit.until(lambda: ends)
        talks(kit, ends[0], peer)
        kit.driver.close()


def test_a_defect_of_the_taker_costs_one_connection(kit: Kit) -> None:
    listener, _ = kit.listener()
    taken: list[socket.socket] = []

    def take(sock: socket.socket) -> None:
        taken.append(sock)
        if len(taken) == 1:
            raise ZeroDivisionError

    kit.driver.listen(listener, take)
    first, _ = kit.client(listener), kit.client(listener)
    kit.until(lambda: len(taken) == 2)
    assert [type(crash) for crash in kit.crashes] == [ZeroDivisionError]
    assert first.recv(1) == b""
    taken[1].close()


def test_the_socket_may_be_closed_before_the_acceptor(kit: Kit) -> None:
    listener, _ = kit.listener()
    acceptor = kit.accepting(listener, [])
    listener.close()
    acceptor.close()
    acceptor.close()
    kit.other_turns()


def test_a_client_that_has_gone_already_is_accepted_and_lost(kit: Kit) -> None:
    listener, _ = kit.listener()
    peer = kit.client(listener)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    ends: list[Recorder] = []
    kit.accepting(listener, ends)
    kit.until(lambda: ends and "lost" in ends[0].told)
    assert ends[0].told == ["accepted", "lost"]


def test_what_is_full_is_found_by_the_kernel(kit: Kit) -> None:
    """`pending` sees a client whom nobody has told the driver of."""
    listener, _ = kit.listener()
    acceptor = kit.accepting(listener, [])
    acceptor.pause()
    kit.client(listener)
    eventually(acceptor.pending)
