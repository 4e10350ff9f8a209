"""The clients that keep their connections: what is an answer, and what is a lost connection."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import idle_clients, running

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    client, server = socket.socketpair()
    with client, server:
        client.settimeout(10)
        yield client, server


def test_answer_is_read_to_its_end(pair: Pair) -> None:
    client, server = pair
    server.sendall(ANSWER)
    idle_clients.ask(client, REQUEST)
    assert server.recv(100) == REQUEST
    assert not idle_clients.closed(client)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "answered b'HTTP/1.1 503"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "without its length"),
        (ANSWER + b"!", "1 octets more"),
        (ANSWER[:-1], "closed by the server"),
        (b"HTTP/1.1 200", "closed by the server"),
    ],
)
def test_anything_else_is_a_lost_connection(pair: Pair, answer: bytes, told: str) -> None:
    client, server = pair
    server.sendall(answer)
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(idle_clients.Lost, match=told):
        idle_clients.ask(client, REQUEST)


def test_connection_that_the_server_has_closed_is_found_without_asking(pair: Pair) -> None:
    client, server = pair
    server.close()
    assert idle_clients.closed(client)


def serve(listener: socket.socket, closes: set[int], closed: threading.Semaphore) -> None:
    """Answers each connection once, and each that is not in `closes` for ever."""

    def one(number: int, sock: socket.socket) -> None:
        with sock:
            while sock.recv(1000):
                sock.sendall(ANSWER)
                if number in closes:
                    break
        closed.release()

    number = 0
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:  # the test has ended
            return
        threading.Thread(target=one, args=(number, sock), daemon=True).start()
        number += 1


@pytest.mark.parametrize("closes", [set(), {1, 3}], ids=["keeps all", "closes two"])
def test_lost_connections_are_counted(closes: set[int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = threading.Semaphore(0)
        threading.Thread(target=serve, args=(listener, closes, closed), daemon=True).start()
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.idle_clients", "127.0.0.1", str(port), "/", "5", "0.05"]
        root = Path(idle_clients.__file__).parent.parent
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root, text=True
        ) as clients:
            assert clients.stdout is not None
            assert json.loads(clients.stdout.readline()) == {"open": 5}
            for _ in closes:
                closed.acquire()
            output, _ = clients.communicate("")
        assert json.loads(output)["lost"] == len(closes)
        listener.shutdown(socket.SHUT_RDWR)


def test_descriptors_that_are_not_to_be_had_are_told_before_anything_starts() -> None:
    with pytest.raises(running.CannotStart, match=r"1,000,000,000 idle connections need .* descriptors"):
        running.allow_descriptors(1_000_000_512, "1,000,000,000 idle connections", "--idle")
