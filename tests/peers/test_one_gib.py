"""A large transfer each way through each interface leaves the gateway's memory where it was.

64 MiB in the ordinary run; GATEWAY_TEST_GIB=1 makes it 1 GiB.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from tests.behaviour.conftest import INTERFACES, Workers, workers

__all__ = ["workers"]

SIZE = (1 << 30) if os.environ.get("GATEWAY_TEST_GIB") else (64 << 20)
SLACK_KIB = 32 * 1024
PIECE = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def front(gateway: Any, workers: Workers) -> Any:
    return gateway(workers.routes(f'limits = {{ content = "{SIZE}B" }}'))


def receive(sock: socket.socket, most: int) -> int:
    """Octets that came until the connection ended."""
    buffer = bytearray(1 << 20)
    count = 0
    while count < most and (length := sock.recv_into(buffer)):
        count += length
    return count


def memory_after(front: Any, peak: list[int]) -> int:
    peak.append(front.memory_kib())
    return max(peak)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("interface", INTERFACES)
def test_down(front: Any, interface: str) -> None:
    front.raw(f"GET /{interface[0]}/hello HTTP/1.0\r\n\r\n".encode())
    before = front.memory_kib()
    peak: list[int] = []
    with front.socket() as sock:
        sock.sendall(f"GET /{interface[0]}/bytes?n={SIZE} HTTP/1.0\r\n\r\n".encode())
        count = 0
        while length := receive(sock, 32 << 20):
            count += length
            memory_after(front, peak)
    assert count - SIZE in range(1000)
    assert max(peak) - before < SLACK_KIB


@pytest.mark.timeout(600)
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("interface", INTERFACES)
def test_up(front: Any, interface: str, framing: str) -> None:
    front.raw(f"GET /{interface[0]}/hello HTTP/1.0\r\n\r\n".encode())
    before = front.memory_kib()
    peak: list[int] = []
    with front.socket() as sock:
        head = f"POST /{interface[0]}/length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        if framing == "length":
            sock.sendall(f"{head}Content-Length: {SIZE}\r\n\r\n".encode())
        else:
            sock.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for number in range(SIZE // len(PIECE)):
            sock.sendall(PIECE if framing == "length" else b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
            if number % 32 == 0:
                memory_after(front, peak)
        if framing == "chunked":
            sock.sendall(b"0\r\n\r\n")
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert b"%d" % SIZE in answer
    assert memory_after(front, peak) - before < SLACK_KIB


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_client_that_does_not_read_costs_a_window(front: Any, interface: str) -> None:
    before = front.memory_kib()
    socks = [front.socket() for _ in range(20)]
    for sock in socks:
        sock.sendall(f"GET /{interface[0]}/bytes?n={64 << 20} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for sock in socks:
        assert sock.recv(1000)
    assert front.raw(f"GET /{interface[0]}/hello HTTP/1.0\r\n\r\n".encode()).endswith(b"hello")
    assert front.memory_kib() - before < SLACK_KIB
    for sock in socks:
        sock.close()
