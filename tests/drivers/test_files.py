"""Parts of files among the octets that are sent."""

from __future__ import annotations

import os
import socket
import tempfile

import pytest

from gateway.ends import Close, FileSlice
from tests.drivers.kit import ACCEPTED, Kit


def slice_of(file: object, offset: int, length: int, closed: list[bool]) -> FileSlice:
    return FileSlice(file.fileno(), offset, length, lambda: closed.append(True))  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ACCEPTED)
def test_files_go_between_octets(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    content = os.urandom(3 << 20)
    closed: list[bool] = []
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        end.send(b"before")
        end.send(slice_of(file, 1, len(content) - 1, closed))
        end.send(b"be")
        end.send(b"tween")
        end.send(slice_of(file, 0, 10, closed))
        end.send(slice_of(file, 10, 0, closed))
        end.send(slice_of(file, 10, 10, closed))
        end.send(b"after")
        end.close(Close.FLUSH)
        kit.driver.settle()
        received = kit.result(kit.read_all(peer))
    assert received == b"before" + content[1:] + b"between" + content[:20] + b"after"
    end.told_of("lost")
    assert closed == [True] * 4


def test_a_file_goes_into_a_pipe(kit: Kit) -> None:
    """As a CGI program sends one."""
    end, reader = kit.pipe(reads=False)
    content = os.urandom(1 << 20)
    with tempfile.TemporaryFile() as file, open(reader, "rb") as output:
        file.write(content)
        file.flush()
        closed: list[bool] = []
        end.send(b"head")
        end.send(slice_of(file, 0, len(content), closed))
        end.close(Close.FLUSH)
        kit.driver.settle()
        assert kit.result(kit.aside(output.read)) == b"head" + content
    end.told_of("lost")
    assert closed == [True]


def test_it_is_told_whenever_some_of_a_file_went_out(kit: Kit) -> None:
    end, peer = kit.accepted()
    with tempfile.TemporaryFile() as file:
        file.truncate(32 << 20)
        closed: list[bool] = []
        end.send(slice_of(file, 0, 32 << 20, closed))
        kit.driver.settle()
        end.told_of("unsent some")
        lengths = [end.held]
        for _ in range(3):
            told = end.told.count("unsent some")
            while end.told.count("unsent some") == told:
                kit.result(kit.aside(peer.recv, 8 << 20))
            lengths.append(end.held)
        assert lengths == sorted(set(lengths), reverse=True)
        end.close(Close.ABORT)
        kit.driver.settle()
        end.told_of("lost")
        assert closed == [True]


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_file_that_became_shorter_breaks_the_connection(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    with tempfile.TemporaryFile() as file:
        file.write(b"short")
        file.flush()
        closed: list[bool] = []
        end.send(slice_of(file, 0, 1 << 20, closed))
        end.send(b"never")
        end.send(slice_of(file, 0, 1, closed))
        kit.driver.settle()
        end.told_of("lost")
    reading = kit.read_all(peer)
    if kind == "accepted":
        with pytest.raises(ConnectionResetError):
            kit.result(reading)
    else:  # no reset where there is none to be sent
        assert b"never" not in kit.result(reading)
    assert closed == [True, True]


def test_what_of_a_file_was_not_sent_is_let_go_of_when_the_client_leaves(kit: Kit) -> None:
    end, peer = kit.accepted()
    with tempfile.TemporaryFile() as file:
        file.truncate(32 << 20)
        closed: list[bool] = []
        end.send(slice_of(file, 0, 32 << 20, closed))
        end.send(slice_of(file, 0, 32 << 20, closed))
        kit.driver.settle()
        end.told_of("unsent some")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        end.told_of("lost")
        assert closed == [True, True]
