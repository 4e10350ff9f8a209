"""A peer that answers and goes while we still write: what it said is read, and the break told after it (SEMANTICS 63)."""

from __future__ import annotations

import errno
import socket

import pytest

from gateway.ends import Close
from tests.drivers.kit import Kit

OPENED = ["tcp", "brief", "unix"]
SOME = b"x" * 10_000
LONG = b"answer" * 8000
"""As much as is on its way before anybody reads: TCP's first window."""


def answers_unread(peer: socket.socket, answer: bytes) -> None:
    """Answer and close with octets unread: for TCP that is a reset behind the answer (RFC 1122 4.2.2.13)."""
    peer.recv(1)
    peer.sendall(answer)
    peer.close()


@pytest.mark.parametrize("kind", OPENED)
@pytest.mark.parametrize("answer", [b"answer", LONG], ids=["short", "long"])
def test_what_was_said_before_a_reset_is_read_when_we_write(kit: Kit, kind: str, answer: bytes) -> None:
    for _ in range(20):
        end, peer = kit.stream(kind)
        end.send(SOME)
        kit.driver.settle()
        answers_unread(peer, answer)
        end.send(SOME)  # before the loop has looked whether there is something to read
        end.send(SOME)
        kit.driver.settle()
        end.told_of("lost")
        assert end.octets == answer
        assert "eof" not in end.told
        assert end.error is not None and end.error.errno == errno.ECONNRESET


@pytest.mark.parametrize("kind", OPENED)
def test_what_was_said_before_a_reset_is_read_while_we_are_clogged(kit: Kit, kind: str) -> None:
    for _ in range(10):
        end, peer = kit.stream(kind)
        for _ in range(40):
            end.send(b"x" * 250_000)
        kit.driver.settle()
        end.told_of("unsent some")
        answers_unread(peer, b"answer")
        end.told_of("lost")
        assert end.octets == b"answer"
        assert "unsent none" not in end.told  # nobody takes more


@pytest.mark.parametrize("kind", OPENED)
def test_what_was_said_before_an_orderly_end_is_read_and_is_no_break(kit: Kit, kind: str) -> None:
    """It has read all that had come: what we write after that is answered with a reset, its end stays orderly."""
    end, peer = kit.stream(kind)
    end.wants_data = False
    kit.settle(end)
    peer.sendall(b"answer")
    peer.close()
    for _ in range(3):
        end.send(SOME)
        kit.driver.settle()
        kit.other_turns()
    assert "lost" not in end.told
    end.wants_data = True
    kit.settle(end)
    end.told_of("eof")
    assert end.octets == b"answer"
    end.close(Close.FLUSH)
    kit.driver.settle()
    end.told_of("lost")


@pytest.mark.parametrize("kind", OPENED)
def test_what_was_said_is_read_no_sooner_than_it_is_wanted(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    end.wants_data = False
    end.send(SOME)
    kit.driver.settle()
    answers_unread(peer, LONG)
    end.send(SOME)
    kit.driver.settle()
    kit.other_turns()
    assert "received" not in end.told and "lost" not in end.told
    end.wants_data = True
    kit.settle(end)
    end.told_of("lost")
    assert end.octets == LONG


@pytest.mark.parametrize("kind", OPENED)
@pytest.mark.parametrize("how", [Close.ABORT, Close.FLUSH])
def test_what_nobody_waits_for_is_not_read(kit: Kit, kind: str, how: Close) -> None:
    end, peer = kit.stream(kind)
    end.send(SOME)
    kit.driver.settle()
    answers_unread(peer, b"answer")
    end.send(SOME)
    end.close(how)
    kit.driver.settle()
    end.told_of("lost")
    assert end.octets == b""


@pytest.mark.parametrize("kind", OPENED)
def test_a_reset_without_a_word_is_told_as_one(kit: Kit, kind: str) -> None:
    end, peer = kit.stream(kind)
    end.send(SOME)
    kit.driver.settle()
    answers_unread(peer, b"")
    end.told_of("lost")
    assert "eof" not in end.told
    assert end.error is not None and end.error.errno == errno.ECONNRESET
