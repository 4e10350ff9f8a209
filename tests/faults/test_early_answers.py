"""Workers that answer a long request early and close: the answer reaches the client, each time (SEMANTICS 40, 63)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.fastcgi_records import END_REQUEST, STDOUT, record
from tests.conftest import read_all

PAGE = b"Status: 413\r\nContent-Type: text/plain\r\n\r\ntoo much"
ANSWERS = {
    "http": b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much",
    "fastcgi": record(STDOUT, 1, PAGE) + record(END_REQUEST, 1, bytes(8)),
    "scgi": PAGE,
}
LENGTH = 5_000_000
TIMES = 15


class Hasty:
    """A worker that reads the beginning of each request, answers, and closes with the rest unread."""

    def __init__(self, interface: str, path: Path | None) -> None:
        self.answer = ANSWERS[interface]
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.listener.bind(str(path) if path else ("127.0.0.1", 0))
        self.listener.listen()
        name = self.listener.getsockname()
        self.address = f"unix:{path}" if path else f"127.0.0.1:{name[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                sock.recv(1000)
                sock.sendall(self.answer)


@pytest.fixture(params=["tcp", "unix"])
def hasty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Hasty]]:
    workers = {
        interface: Hasty(interface, tmp_path / f"{interface}.sock" if request.param == "unix" else None)
        for interface in ANSWERS
    }
    yield workers
    for worker in workers.values():
        worker.listener.shutdown(socket.SHUT_RDWR)
        worker.listener.close()


def post(one: Any, path: str) -> bytes:
    """Send all that is taken of a long request; the whole answer."""
    with one.socket() as sock:

        def send() -> None:
            with contextlib.suppress(OSError):
                sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode())
                sock.sendall(f"Content-Length: {LENGTH}\r\n\r\n".encode())
                sock.sendall(bytes(LENGTH))

        sending = threading.Thread(target=send)
        sending.start()
        try:
            return read_all(sock)
        finally:
            sending.join()


@pytest.mark.parametrize("buffering", [True, False])
@pytest.mark.parametrize("interface", ANSWERS)
def test_an_early_answer_always_arrives(gateway: Any, hasty: dict[str, Hasty], interface: str, buffering: bool) -> None:
    keys = "" if interface == "scgi" else f"request_buffering = {str(buffering).lower()}"
    one = gateway(
        f'[[routes]]\npath = "/"\ninterface = "{interface}"\naddress = "{hasty[interface].address}"\n{keys}\n'
    )
    wrong = []
    for _ in range(TIMES):
        answer = post(one, "/")
        if not answer.startswith(b"HTTP/1.1 413") or b"too much" not in answer:
            wrong.append(answer[:300])
    assert not wrong, one.error_log()
