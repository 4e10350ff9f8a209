"""The clients that check every answer: what counts as right, as repeated, as lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.checked_load import Failure, Load, Tally

Answer = Callable[[str, str, str], bytes]


def page(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def right(method: str, token: str, content: str) -> bytes:
    return page(f"{method} {token} {content}".strip())


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    listeners = []

    def start(answer: Answer, last: int = 1 << 30, *, closes: bool = False) -> int:
        """A server on a port; it closes a connection instead of answering its request number `last`, or after each."""
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def one(sock: socket.socket) -> None:
            with sock:
                for number in range(1, 1 << 30):
                    octets = b""
                    while b"\r\n\r\n" not in octets:
                        piece = sock.recv(65536)
                        if not piece:
                            return
                        octets += piece
                    head, _, content = octets.partition(b"\r\n\r\n")
                    while b"POST" in head and not content:
                        content += sock.recv(65536)
                    if number == last:
                        return
                    method, target, _ = head.split(b"\r\n")[0].decode().split()
                    sock.sendall(answer(method, target.partition("?")[2], content.decode()))
                    if closes:
                        return

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:  # the test has ended
                    return
                threading.Thread(target=one, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield start
    for listener in listeners:
        listener.close()


def test_right_answers(serve: Callable[..., int]) -> None:
    with Load(serve(right), "/", clients=4) as clients:
        clients.more(100)
    assert clients.tally.right == clients.tally.sent >= 100
    assert not clients.tally.failures


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda *asked: page("GET token0"), "wrong"),
        (lambda method, token, content: page(f"{method}{token} {content}"), "wrong"),
        (lambda method, token, content: page(f"who {method} {token} {content}"), "wrong"),
        (lambda *asked: page("no", "502 Bad Gateway"), "502"),
        (lambda *asked: page("whole").replace(b"5", b"9"), "cut"),
        (lambda *asked: b"rubbish\r\n\r\n", "BadStatusLine"),
    ],
)
def test_what_is_no_answer(serve: Callable[..., int], answer: Answer, what: str) -> None:
    asked = threading.Semaphore(0)

    def told(*request: str) -> bytes:
        asked.release()
        return answer(*request)

    with Load(serve(told, closes=what == "cut"), "/", clients=1, fresh=1) as clients:
        for _ in range(3):
            assert asked.acquire(timeout=10)
    assert {failure.what for failure in clients.tally.failures} == {what}
    assert not clients.tally.right


def test_get_on_a_kept_connection_that_was_closed_is_repeated_and_a_post_is_lost(serve: Callable[..., int]) -> None:
    with Load(serve(right, last=2), "/", clients=1, fresh=0) as clients:
        clients.more(20)
    failures = clients.tally.failures
    assert {(failure.method, failure.what) for failure in failures} == {("POST", "closed")}
    with Load(serve(right, last=3), "/", clients=1, fresh=0) as clients:
        clients.more(20)
    assert clients.tally.repeated
    assert not clients.tally.failures


def test_who_has_answered(serve: Callable[..., int]) -> None:
    def named(method: str, token: str, content: str) -> bytes:
        return page(f"{method}er {method} {token} {content}")

    with Load(serve(named), "/", clients=2, named=True) as clients:
        clients.more(50)
    assert not clients.tally.failures
    assert set(clients.tally.by) == {"GETer", "POSTer"}
    assert clients.tally.by.total() == clients.tally.right


def test_who_has_answered_is_not_said(serve: Callable[..., int]) -> None:
    with Load(serve(right), "/", clients=1, named=True) as clients, pytest.raises(TimeoutError):
        clients.more(1, within_s=0.2)
    assert {failure.what for failure in clients.tally.failures} == {"wrong"}


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Load(port, "/", clients=1) as clients, pytest.raises(TimeoutError, match="1 answers did not come"):
        clients.more(1, within_s=0.2)
    assert {failure.what for failure in clients.tally.failures} == {"refused"}


def test_time_to_recover_is_that_of_the_last_failure() -> None:
    tally = Tally(failures=[Failure(10.0, "GET", "502"), Failure(12.5, "POST", "502")])
    assert tally.recovered_s(11.0) == 1.5
    assert tally.recovered_s(13.0) == 0.0
    assert str(tally).endswith("1 x GET 502, 1 x POST 502")
