"""The listening sockets of a server from one config to the next."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ends import Address
from gateway.errors import ServeError
from gateway.processes.listen_socket import SYSTEMD
from gateway.processes.listeners import Listeners, keys_of

ANY = Address("127.0.0.1", 0)


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    one = Listeners()
    yield one
    one.close()


def test_what_is_named_still_is_left_as_it_is(listeners: Listeners, tmp_path: Path) -> None:
    path = Address(path=str(tmp_path / "a.sock"))
    first = listeners.add([ANY, path])
    before = listeners.sockets(first)
    second = listeners.add([ANY, ANY])
    assert second == ["127.0.0.1:0", "127.0.0.1:0#1"]
    assert listeners.sockets(second)[0] is before[0]
    listeners.keep(second)
    assert before[1].fileno() == -1
    assert not os.path.exists(path.path), "also where somebody else has a duplicate, and is about to end"
    assert len(set(listeners.names(second))) == 2


def test_all_of_them_or_none(listeners: Listeners, tmp_path: Path) -> None:
    path = Address(path=str(tmp_path / "a.sock"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServeError, match="another server listens there"):
            listeners.add([path, Address("127.0.0.1", taken.getsockname()[1])])
    assert not listeners.open
    assert not os.path.exists(path.path)


def test_no_duplicate_blocks(listeners: Listeners) -> None:
    """A duplicate that blocked would make all others block."""
    (sock,) = listeners.sockets(listeners.add([ANY]))
    with sock.dup():
        assert not os.get_blocking(sock.fileno())


def test_what_is_handed_over_is_taken_first(listeners: Listeners, tmp_path: Path) -> None:
    path = Address(path=str(tmp_path / "a.sock"))
    keys = listeners.add([ANY, path])
    handed = {key: os.dup(descriptor) for key, descriptor in listeners.handed_over().items()}
    other = Listeners(handed)
    assert other.add([path, ANY]) == [keys[1], keys[0]]
    assert sorted(other.names(keys)) == sorted(listeners.names(keys))
    listeners.forget_files(keys)
    listeners.keep(())
    assert os.path.exists(path.path)
    other.close()
    assert not os.path.exists(path.path)


def test_those_of_systemd(listeners: Listeners) -> None:
    with pytest.raises(ServeError, match="has handed over no socket"):
        listeners.add([SYSTEMD])
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        number = os.dup(sock.fileno())
        one = Listeners({}, [number])
        assert one.add([ANY, SYSTEMD]) == ["127.0.0.1:0", f"fd:{number}"]
        one.close()


def test_keys() -> None:
    assert keys_of([ANY, 3, ANY, Address(path="/a"), ANY]) == [
        "127.0.0.1:0", "fd:3", "127.0.0.1:0#1", "unix:/a", "127.0.0.1:0#2"
    ]  # fmt: skip
