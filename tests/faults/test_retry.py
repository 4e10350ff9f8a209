"""Workers that go away, refuse, or talk nonsense: what is sent again, and what is not."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from protocols import fastcgi
from protocols.fastcgi_records import ProtocolStatus
from tests.conftest import eventually, full_backlog

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Scripted:
    """A worker on a unix socket that does with each connection what the next script says."""

    def __init__(self, path: Path, *scripts: Callable[[socket.socket], None]) -> None:
        self.path = path
        self.heads: list[bytes] = []
        self.accepted: list[socket.socket] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.scripts = iter(scripts)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for script in self.scripts:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.accepted.append(sock)
            sock.settimeout(10)
            with contextlib.suppress(OSError):
                script(sock)
            sock.close()

    def head(self, sock: socket.socket) -> bytes:
        octets = b""
        while b"\r\n\r\n" not in octets:
            piece = sock.recv(65536)
            if not piece:
                return octets
            octets += piece
        self.heads.append(octets)
        return octets

    def close(self) -> None:
        for sock in (self.listener, *self.accepted):
            sock.close()


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[..., Scripted]]:
    made: list[Scripted] = []

    def make(*scripts: Callable[[Scripted, socket.socket], None]) -> Scripted:
        one = Scripted.__new__(Scripted)
        bound = [lambda sock, script=script: script(one, sock) for script in scripts]
        one.__init__(tmp_path / f"{len(made)}.sock", *bound)  # type: ignore[misc]
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def answer(worker: Scripted, sock: socket.socket) -> None:
    while worker.head(sock):
        sock.sendall(OK)


def answer_once_then_close(worker: Scripted, sock: socket.socket) -> None:
    """Closes at the very moment of the second request."""
    worker.head(sock)
    sock.sendall(OK)
    worker.head(sock)


def close_unanswered(worker: Scripted, sock: socket.socket) -> None:
    worker.head(sock)


def rubbish(worker: Scripted, sock: socket.socket) -> None:
    worker.head(sock)
    sock.sendall(b"\0\1\2 nonsense\r\n\r\n")


def too_much(worker: Scripted, sock: socket.socket) -> None:
    worker.head(sock)
    sock.sendall(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")


def front(gateway: Any, *workers: Scripted, extra: str = "", interface: str = "http") -> Any:
    addresses = ", ".join(f'"unix:{worker.path}"' for worker in workers)
    return gateway(f'[[routes]]\npath = "/"\ninterface = "{interface}"\naddress = [{addresses}]\n{extra}\n')


def test_a_kept_connection_that_dies_is_replaced(gateway: Any, scripted: Any) -> None:
    worker = scripted(answer_once_then_close, answer)
    one = front(gateway, worker)
    for _ in range(3):
        assert requests.get(one.url, timeout=20).text == "ok"
    assert len(worker.heads) == 4  # one of them was sent twice
    one.wait_for_log("sent again, since the method is idempotent")


def test_what_is_not_idempotent_is_not_sent_twice(gateway: Any, scripted: Any) -> None:
    worker = scripted(answer_once_then_close, answer)
    one = front(gateway, worker)
    assert requests.post(one.url, data="x", timeout=20).text == "ok"
    assert requests.post(one.url, data="x", timeout=20).status_code == 502
    assert requests.post(one.url, data="x", timeout=20).text == "ok"
    assert len(worker.heads) == 3


def test_content_is_sent_again_whole(gateway: Any, scripted: Any) -> None:
    worker = scripted(close_unanswered, answer)
    one = front(gateway, worker)
    assert requests.put(one.url, data=b"some content", timeout=20).text == "ok"
    assert [head.endswith(b"some content") for head in worker.heads] == [True, True]


def test_an_end_to_trying(gateway: Any, scripted: Any) -> None:
    worker = scripted(*[close_unanswered] * 10)
    assert requests.get(front(gateway, worker).url, timeout=20).status_code == 502
    assert len(worker.heads) == 3


def test_rubbish_is_not_asked_again(gateway: Any, scripted: Any) -> None:
    worker = scripted(rubbish, answer)
    one = front(gateway, worker)
    assert requests.get(one.url, timeout=20).status_code == 502
    assert len(worker.heads) == 1
    one.wait_for_log("502 bad-response")


def test_what_comes_after_the_end_reaches_nobody(gateway: Any, scripted: Any) -> None:
    worker = scripted(too_much, answer)
    one = front(gateway, worker)
    assert requests.get(one.url, timeout=20).text == "ok"
    assert requests.get(one.url, timeout=20).text == "ok"


def test_one_of_two_addresses_is_down(gateway: Any, scripted: Any, tmp_path: Path) -> None:
    worker = scripted(*[answer] * 4)
    down = Scripted.__new__(Scripted)
    down.path = tmp_path / "down.sock"
    one = front(gateway, down, worker)
    assert [requests.get(one.url, timeout=20).status_code for _ in range(6)] == [200] * 6
    one.wait_for_log("cannot connect to")


@pytest.mark.parametrize("interface", ["http", "fastcgi", "scgi"])
def test_a_connection_that_is_not_accepted_in_time(gateway: Any, interface: str) -> None:
    with full_backlog() as listener:
        port = listener.getsockname()[1]
        one = gateway(
            f'[[routes]]\npath = "/"\ninterface = "{interface}"\naddress = "127.0.0.1:{port}"\n'
            'timeouts = { connect = "300ms" }\n'
        )
        assert requests.post(one.url, data="x", timeout=20).status_code == 504
        one.wait_for_log("504 connect-timeout")


def fastcgi_worker(*statuses: ProtocolStatus) -> Callable[[Scripted, socket.socket], None]:
    """Ends each request with the next status; a page where it is REQUEST_COMPLETE."""

    def script(worker: Scripted, sock: socket.socket) -> None:
        connection = fastcgi.ApplicationConnection()
        rest = list(statuses)
        while octets := sock.recv(65536):
            for event in connection.receive(octets):
                if isinstance(event, fastcgi.Begin):
                    status = rest.pop(0) if rest else ProtocolStatus.REQUEST_COMPLETE
                    worker.heads.append(status.name.encode())
                    if status is ProtocolStatus.REQUEST_COMPLETE:
                        connection.stdout(event.request_id, b"Content-Type: text/plain\n\nok")
                    connection.end(event.request_id, protocol_status=status)
            sock.sendall(b"".join(connection.outgoing()))

    return script


@pytest.mark.parametrize("status", [ProtocolStatus.OVERLOADED, ProtocolStatus.CANT_MPX_CONN])
def test_a_rejected_request_is_sent_elsewhere(gateway: Any, scripted: Any, status: ProtocolStatus) -> None:
    worker = scripted(*[fastcgi_worker(status)] + [fastcgi_worker()] * 5)
    one = front(gateway, worker, interface="fastcgi", extra="keepalive = 0")
    assert requests.post(one.url, data="x", timeout=20).text == "ok"
    assert worker.heads == [status.name.encode(), b"REQUEST_COMPLETE"]


def test_overloaded_for_good(gateway: Any, scripted: Any) -> None:
    worker = scripted(*[fastcgi_worker(ProtocolStatus.OVERLOADED)] * 9)
    one = front(gateway, worker, interface="fastcgi", extra="keepalive = 0")
    response = requests.get(one.url, timeout=20)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")


def test_an_unknown_role(gateway: Any, scripted: Any) -> None:
    worker = scripted(*[fastcgi_worker(ProtocolStatus.UNKNOWN_ROLE)] * 9)
    one = front(gateway, worker, interface="fastcgi", extra="keepalive = 0")
    assert requests.get(one.url, timeout=20).status_code == 500
    assert len(worker.heads) == 1


class ClosesKept:
    """Answers, and closes its kept connection when it is told to."""

    def __init__(self) -> None:
        self.close = threading.Event()
        self.closed = threading.Event()

    def __call__(self, worker: Scripted, sock: socket.socket) -> None:
        worker.head(sock)
        sock.sendall(OK)
        assert self.close.wait(20)
        sock.close()
        self.closed.set()


def test_a_post_is_not_lost_to_a_connection_that_the_worker_has_closed(gateway: Any, scripted: Any) -> None:
    """Its end and the next request are there at the same moment: not one octet of it is taken, or it is not even tried."""
    closes = ClosesKept()
    worker = scripted(closes, answer)
    one = front(gateway, worker)
    session = requests.Session()
    assert session.post(one.url, data="x", timeout=20).text == "ok"
    one.process.send_signal(signal.SIGSTOP)
    eventually(lambda: (Path("/proc") / str(one.pid) / "stat").read_text().rpartition(")")[2].split()[0] == "T")
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(session.post(one.url, data="x", timeout=20).text))
    asking.start()
    closes.close.set()
    assert closes.closed.wait(20)
    one.process.send_signal(signal.SIGCONT)
    asking.join(20)
    assert answers == ["ok"]
    assert len(worker.heads) == 2


def test_a_worker_that_breaks_off_is_left_for_another(gateway: Any, scripted: Any) -> None:
    """What it held is sent elsewhere, and for a while nothing more is sent there."""
    broken, well = scripted(*[close_unanswered] * 9), scripted(*[answer] * 9)
    one = front(gateway, broken, well)
    assert [requests.get(one.url, timeout=20).text for _ in range(6)] == ["ok"] * 6
    assert len(broken.heads) <= 2  # at the beginning, and where a second has passed
    assert len(well.heads) == 6


def test_backups_and_weights_on_real_sockets(gateway: Any, scripted: Any) -> None:
    backup, a, b = (scripted(*[answer] * 20) for _ in range(3))
    one = gateway(
        '[[routes]]\npath = "/"\ninterface = "http"\nkeepalive = 0\nbalance = "round-robin"\naddress = [\n'
        f'{{ to = "unix:{backup.path}", backup = true }}, {{ to = "unix:{a.path}", weight = 3 }}, "unix:{b.path}" ]\n'
    )
    assert {requests.get(one.url, timeout=20).text for _ in range(8)} == {"ok"}
    assert [len(worker.heads) for worker in (backup, a, b)] == [0, 6, 2]


def test_a_line_with_an_end(gateway: Any, scripted: Any) -> None:
    """One request at a time; one may wait; of two more, one is told to come again."""
    begun, refused, go = threading.Event(), threading.Event(), threading.Event()

    def slow(worker: Scripted, sock: socket.socket) -> None:
        while worker.head(sock):
            begun.set()
            assert go.wait(20)
            sock.sendall(OK)

    one = front(gateway, scripted(slow), extra="limit = 1\nqueue = 1")
    answers: list[requests.Response] = []

    def ask() -> None:
        answers.append(requests.get(one.url, timeout=30))
        refused.set()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    threads[0].start()
    assert begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    assert refused.wait(20)
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in answers] == [(503, "5")]
    go.set()
    for thread in threads:
        thread.join(20)
    assert [answer.text for answer in answers[1:]] == ["ok", "ok"]
